"""A LeRobot data set as a recording: its rows and images become the messages that a robot would have published.

So everything that reads a bag reads an episode: the replay, the calibration, the examination, the pictures. The
observation.state becomes transforms where its names are those of a pose, and joint states otherwise, from which the
transforms follow with a URDF. What `sqap-vla export` wrote has the true stamps, calibration and camera pose as well.
"""

import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sqap_vla_ros.bags.lerobot import DataSetError, Episode, LeRobotDataSet, find_episode
from sqap_vla_ros.bags.messages import (
    camera_info_message,
    image_message,
    joint_state_message,
    message_types,
    picture_message,
    text_message,
    transforms_message,
)
from sqap_vla_ros.config.robot import Frames
from sqap_vla_ros.perception.transforms import (
    rotation_from_quaternion,
    rotation_from_rpy,
    rotation_from_vector,
    transform_from,
    unit_quaternion,
)

STAMP, TOOL_POSE, CAMERA_POSE, STATE = "stamp_ns", "tool_pose", "camera_pose", "observation.state"
POSE_NAMES = ("x", "y", "z", "qx", "qy", "qz", "qw")
_INSTRUCTION, _TF, _JOINTS, _MODEL = "/sqap_vla/instruction", "/tf", "/joint_states", "/robot_description"
_ORIGIN_S = 1.0  # a stamp of zero is none
_GAP_S = 5.0  # between the episodes of a data set without stamps
_ROTATIONS: Mapping[tuple[str, ...], Callable[[NDArray[np.float64]], NDArray[np.float64]]] = {
    ("qx", "qy", "qz", "qw"): lambda turn: rotation_from_quaternion(unit_quaternion(turn.tolist())),
    ("roll", "pitch", "yaw"): rotation_from_rpy,
    ("rx", "ry", "rz"): rotation_from_vector,
    ("axis_angle1", "axis_angle2", "axis_angle3"): rotation_from_vector,
}


@dataclass(frozen=True)
class Topic:
    """A topic of an episode, as a rosbags connection describes one."""

    topic: str
    msgtype: str
    msgcount: int


class EpisodeReader:
    """Reads the episodes of a data set; has what `Bag` uses of a rosbags reader.

    Args:
        path: A data set, or one of its episodes (`DATASET/episode_000003`).
        frames: Frames of the robot, for data sets that do not name them.

    Raises:
        DataSetError: It cannot be read, or has no such episode.
    """

    def __init__(self, path: Path, frames: Frames) -> None:
        found = find_episode(path)
        assert found is not None
        root, index = found
        self._set = LeRobotDataSet(root)
        self._episodes = [episode for episode in self._set.episodes if index in (None, episode.index)]
        if not self._episodes:
            raise DataSetError(f"{path}: the data set has {len(self._set.episodes)} episodes, and not this one")
        self._frames = frames
        self._cameras = {_image_topic(name): name for name in self._set.cameras}
        self._starts_ns = dict(_starts_ns(self._set))
        first = self._set.rows(self._episodes[0])
        stamps = self._stamps_ns(self._episodes[0], first)
        self.start_time = int(stamps[0])
        seconds = sum(episode.length for episode in self._episodes) / self._set.fps
        self.duration = int(stamps[-1] - stamps[0]) if len(self._episodes) == 1 else round(seconds * 1e9)
        self._pose = _pose_columns(self._set, first)
        self.connections = self._topics()

    @property
    def topics(self) -> dict[str, Topic]:
        """The topics by their names."""
        return {topic.topic: topic for topic in self.connections}

    def close(self) -> None:
        """Nothing stays open."""

    def deserialize(self, raw: bytes, kind: str) -> Any:
        """The message of its bytes."""
        return message_types().deserialize_cdr(raw, kind)

    def messages(self, connections: Collection[Any]) -> Iterator[tuple[Any, int, bytes]]:
        """The messages of some topics in the order of time, as (topic, stamp in nanoseconds, serialised message).

        Raises:
            DataSetError: A row or an image is missing, or not usable.
        """
        wanted = {connection.topic: connection for connection in connections}
        for episode in self._episodes:
            for topic, at_ns, message in self._episode(episode, wanted):
                kind = wanted[topic].msgtype
                yield wanted[topic], at_ns, bytes(message_types().serialize_cdr(message, kind))

    def _topics(self) -> list[Topic]:
        frames, episodes = sum(episode.length for episode in self._episodes), len(self._episodes)
        found = [Topic(topic, _image_type(self._set, name), frames) for topic, name in self._cameras.items()]
        for topic, name in self._cameras.items():
            if count := sum(self._calibration(episode, name) is not None for episode in self._episodes):
                found.append(Topic(_camera_info_topic(topic), "sensor_msgs/msg/CameraInfo", count))
        if any(self._set.tasks.values()):
            found.append(Topic(_INSTRUCTION, "std_msgs/msg/String", episodes))
        if self._pose is not None:
            found.append(Topic(_TF, "tf2_msgs/msg/TFMessage", frames))
        if self._joints():
            found.append(Topic(_JOINTS, "sensor_msgs/msg/JointState", frames))
        if self._set.model:
            found.append(Topic(_MODEL, "std_msgs/msg/String", 1))
        return found

    def _episode(self, episode: Episode, wanted: Collection[str]) -> Iterator[tuple[str, int, Any]]:
        rows = self._set.rows(episode)
        stamps_ns = self._stamps_ns(episode, rows)
        names = {**{"base": self._frames.base, "tool": self._frames.tool}, **self._set.sidecar.get("frames", {})}
        camera = str(names.get("camera") or self._frames.camera or "camera")
        start_ns, instruction = int(stamps_ns[0]), None
        if _MODEL in wanted:
            yield _MODEL, start_ns, text_message(self._set.model)
        for topic, name in self._cameras.items():
            calibration = self._calibration(episode, name)
            if _camera_info_topic(topic) in wanted and calibration is not None:
                yield _camera_info_topic(topic), start_ns, camera_info_message(calibration, start_ns, camera)
        images = {topic: self._set.images(episode, name) for topic, name in self._cameras.items() if topic in wanted}
        for frame, at_ns in enumerate(map(int, stamps_ns)):
            task = self._set.tasks.get(int(rows["task_index"][frame]), "") if "task_index" in rows else ""
            if task != instruction and _INSTRUCTION in wanted:
                yield _INSTRUCTION, at_ns, text_message(task)
            instruction = task
            if _TF in wanted and self._pose is not None:
                transforms = self._transforms(rows, frame, str(names["base"]), str(names["tool"]), camera)
                yield _TF, at_ns, transforms_message(transforms, at_ns)
            if _JOINTS in wanted:
                joints, state = self._joints(), np.atleast_1d(rows[STATE][frame])
                yield _JOINTS, at_ns, joint_state_message(joints, state, at_ns)
            for topic, pictures in images.items():
                picture = next(pictures)
                if frame and at_ns == stamps_ns[frame - 1]:
                    continue  # the camera had no newer one at this row
                if isinstance(picture, bytes):
                    yield topic, at_ns, picture_message(picture, at_ns, camera)
                else:
                    yield topic, at_ns, image_message(picture, at_ns, camera)

    def _stamps_ns(self, episode: Episode, rows: Mapping[str, NDArray[Any]]) -> NDArray[np.int64]:
        if STAMP in rows:
            return rows[STAMP].reshape(-1).astype(np.int64)
        times_s = np.arange(episode.length) / self._set.fps
        return self._starts_ns[episode.index] + np.round(times_s * 1e9).astype(np.int64)

    def _transforms(
        self, rows: Mapping[str, NDArray[Any]], frame: int, base: str, tool: str, camera: str
    ) -> list[tuple[str, str, NDArray[np.float64]]]:
        assert self._pose is not None
        found = [(base, tool, self._pose.T(rows, frame))]
        if CAMERA_POSE in rows and np.isfinite(rows[CAMERA_POSE][frame]).all():
            found.append((base, camera, _STORED_CAMERA.T(rows, frame)))
        return found

    def _joints(self) -> tuple[str, ...]:
        """Names of the joints in the state; empty where it is no joint state."""
        names = self._set.names(STATE)
        if self._pose is not None and self._pose.feature == STATE:
            return ()
        shape = self._set.features.get(STATE, {}).get("shape") or [0]
        return tuple(name.removesuffix(".pos") for name in names) if len(names) == shape[0] else ()

    def _calibration(self, episode: Episode, camera: str) -> dict[str, Any] | None:
        found: list[dict[str, Any] | None] = self._set.sidecar.get("calibrations", {}).get(camera, [])
        return found[episode.index] if episode.index < len(found) else None


@dataclass(frozen=True)
class _Pose:
    """Which numbers of a feature are a pose: three of a translation, the others of a rotation."""

    feature: str
    places: tuple[int, ...]
    rotation: tuple[str, ...]

    def T(self, rows: Mapping[str, NDArray[Any]], frame: int) -> NDArray[np.float64]:  # noqa: N802
        """Float64 (4, 4), the pose at a frame."""
        values = rows[self.feature][frame].astype(np.float64)[list(self.places)]
        return transform_from(values[:3], _ROTATIONS[self.rotation](values[3:]))


_STORED_CAMERA = _Pose(CAMERA_POSE, tuple(range(7)), POSE_NAMES[3:])


def _pose_columns(data: LeRobotDataSet, rows: Mapping[str, NDArray[Any]]) -> _Pose | None:
    """Where the tool's pose is: in a feature of its own, or in the state; None: nowhere."""
    for feature in (TOOL_POSE, STATE):
        names = [name.rpartition(".")[2].lower() for name in data.names(feature)]
        if feature not in rows or len(names) != rows[feature].reshape(len(rows[feature]), -1).shape[1]:
            continue
        for rotation in _ROTATIONS:
            wanted = ("x", "y", "z", *rotation)
            if set(wanted) <= set(names):
                return _Pose(feature, tuple(names.index(name) for name in wanted), rotation)
    return None


def _starts_ns(data: LeRobotDataSet) -> Iterator[tuple[int, int]]:
    """Where each episode begins in a data set without stamps: one after the other, with a gap."""
    at_s = _ORIGIN_S
    for episode in data.episodes:
        yield episode.index, round(at_s * 1e9)
        at_s += episode.length / data.fps + _GAP_S


def _image_topic(feature: str) -> str:
    name = re.sub(r"\W", "_", feature.removeprefix("observation.images.").removeprefix("observation."))
    return f"/observation/images/{name}/image_raw"


def _camera_info_topic(image: str) -> str:
    return image.removesuffix("image_raw") + "camera_info"


def _image_type(data: LeRobotDataSet, camera: str) -> str:
    kind: Sequence[str] = ("Image", "CompressedImage")
    return f"sensor_msgs/msg/{kind[data.features[camera].get('dtype') == 'image']}"

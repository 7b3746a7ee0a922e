"""The rows and the video of one episode."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from sqap_vla_ros.bags.lerobot_episodes import CAMERA_POSE, STAMP, STATE, TOOL_POSE
from sqap_vla_ros.config.robot import Configuration
from sqap_vla_ros.core.files import part_of, whole_file
from sqap_vla_ros.perception.conventions import label
from sqap_vla_ros.perception.transforms import quaternion_from_matrix
from sqap_vla_ros.reporting.video_writer import Clip
from sqap_vla_ros.tools.export.samples import Sample

ACTION = "action"
LEAST_FRAMES = 2  # with one there is no action
_PICTURES_FOR_STATISTICS = 20

Columns = dict[str, NDArray[Any]]
"""Columns of an episode by their names, each (frames,) or (frames, numbers)."""
Statistics = dict[str, dict[str, Any]]
"""Of each feature: min, max, mean, std and count, as LeRobot's `meta/stats.json` holds them."""


@dataclass
class _Colours:
    """Sums over some pictures, per channel."""

    sums: NDArray[np.float64] = field(default_factory=lambda: np.zeros((2, 3)))
    low: NDArray[np.float64] = field(default_factory=lambda: np.ones(3))
    high: NDArray[np.float64] = field(default_factory=lambda: np.zeros(3))
    count: int = 0

    def add(self, picture: NDArray[np.uint8]) -> None:
        pixels = picture.reshape(-1, 3) / 255
        self.sums += np.stack([pixels.mean(axis=0), (pixels**2).mean(axis=0)])
        self.low, self.high = np.minimum(self.low, pixels.min(axis=0)), np.maximum(self.high, pixels.max(axis=0))
        self.count += 1

    def statistics(self) -> dict[str, Any]:
        mean, square = self.sums / self.count
        std = np.sqrt(np.maximum(square - mean**2, 0))
        values = {"min": self.low, "max": self.high, "mean": mean, "std": std}
        return {name: value.reshape(3, 1, 1).tolist() for name, value in values.items()} | {"count": [self.count]}


class EpisodeFiles:
    """Writes one episode: pictures at once, rows when it is finished.

    Args:
        data: Parquet file.
        video: MP4 file.
        rate_hz: Frames per second.
        quality: See `Clip`.
    """

    def __init__(self, data: Path, video: Path, rate_hz: int, quality: int) -> None:
        self._data, self._video, self._rate_hz = data, video, rate_hz
        for path in (data, video):
            path.parent.mkdir(parents=True, exist_ok=True)
        self._clip = Clip(part_of(video), rate_hz, quality)
        self._samples: list[Sample] = []
        self._colours = _Colours()
        self.size: tuple[int, int] | None = None

    @property
    def length(self) -> int:
        """Number of frames."""
        return self._clip.count

    @property
    def pixel_format(self) -> str:
        """See `Clip`."""
        return self._clip.pixel_format

    def add(self, sample: Sample) -> None:
        """Add a row."""
        image = sample.observation.image
        self.size = image.shape[0], image.shape[1]
        self._clip.add(image)
        # Every 16th at first; the others would not change the figures.
        if self._colours.count < _PICTURES_FOR_STATISTICS and len(self._samples) % 16 == 0:
            self._colours.add(image)
        self._samples.append(_without_image(sample))

    def discard(self) -> None:
        """Leave nothing behind."""
        self._clip.close()
        part_of(self._video).unlink(missing_ok=True)

    def finish(self, robot: Configuration, *, index: int, first_row: int, task: int, camera: str) -> Statistics:
        """Write the rows, and put both files in their places.

        Args:
            robot: Convention of the actions, frames.
            index: Number of the episode.
            first_row: Number of its first row in the data set.
            task: Number of its instruction.
            camera: Name of the camera's feature.

        Returns:
            Statistics of the episode.
        """
        self._clip.close()
        columns = _columns(self._samples, robot)
        frames = np.arange(self.length)
        columns |= {
            "timestamp": (frames / self._rate_hz).astype(np.float32),
            "frame_index": frames,
            "episode_index": np.full(self.length, index),
            "index": first_row + frames,
            "task_index": np.full(self.length, task),
        }
        with whole_file(self._data) as part:
            pq.write_table(pa.table({name: _column(values) for name, values in columns.items()}), part)
        part_of(self._video).replace(self._video)
        return {camera: self._colours.statistics(), **{name: _statistics(values) for name, values in columns.items()}}


def state_names(joints: tuple[str, ...], robot: Configuration) -> tuple[str, ...]:
    """Names of the numbers of `observation.state`: the measured joints, or the tool's pose and whether it is open."""
    return joints or ("x", "y", "z", "qx", "qy", "qz", "qw", robot.command.gripper_joint or "gripper")


def action_names(robot: Configuration) -> tuple[str, ...]:
    """Names of the numbers of `action`, under the robot's convention."""
    turns = ("rx", "ry", "rz") if robot.action.rotation == "axis_angle" else ("roll", "pitch", "yaw")
    return ("x", "y", "z", *turns, robot.command.gripper_joint or "gripper")


def _without_image(sample: Sample) -> Sample:
    empty = np.empty((0, 0, 3), np.uint8)
    observation = type(sample.observation)(**{**vars(sample.observation), "image": empty})
    return Sample(**{**vars(sample), "observation": observation})


def _columns(samples: list[Sample], robot: Configuration) -> Columns:
    poses = np.stack([sample.observation.T_base_tool for sample in samples])
    opens = _known([sample.opens for sample in samples])
    gripper = np.where(opens, robot.action.gripper_open, 1 - robot.action.gripper_open).astype(np.float64)
    # The last state is held: no motion, the gripper as it is.
    actions = label(np.concatenate([poses, poses[-1:]]), np.append(gripper, gripper[-1]), robot.action, robot.frames)
    tool = np.stack([_seven(pose) for pose in poses])
    cameras = [sample.T_base_camera for sample in samples]
    state = np.array([sample.joints if sample.joints is not None else () for sample in samples])
    if not state.shape[1]:
        state = np.column_stack([tool, opens])
    return {
        STATE: state.astype(np.float32),
        ACTION: actions.astype(np.float32),
        TOOL_POSE: tool,
        CAMERA_POSE: np.stack([np.full(7, np.nan) if pose is None else _seven(pose) for pose in cameras]),
        STAMP: np.array([sample.observation.stamp_ns for sample in samples], np.int64),
    }


def _known(states: list[bool | None]) -> NDArray[np.bool_]:
    """Open or not at each sample: as the last one that is known, as the first that is before it, or open."""
    last = next((state for state in states if state is not None), True)
    filled = []
    for state in states:
        last = last if state is None else state
        filled.append(last)
    return np.array(filled, bool)


def _seven(T: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.array([*T[:3, 3], *quaternion_from_matrix(T)], np.float64)


def _column(values: NDArray[Any]) -> pa.Array:
    if values.ndim == 1:
        return pa.array(values)
    return pa.FixedSizeListArray.from_arrays(pa.array(values.ravel()), values.shape[1])


def _statistics(values: NDArray[Any]) -> dict[str, Any]:
    """None for numbers that are never known."""
    columns = values.reshape(len(values), -1).astype(np.float64)
    if not np.isfinite(columns).all():
        return {}
    figures = {"min": columns.min(axis=0), "max": columns.max(axis=0), "mean": columns.mean(axis=0)}
    figures["std"] = columns.std(axis=0)
    return {name: figure.tolist() for name, figure in figures.items()} | {"count": [len(values)]}

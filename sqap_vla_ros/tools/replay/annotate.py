"""An MCAP recording of a replay, for Foxglove or RViz, with or without the bag.

It has the topics of the live node (chunk, token mask), the planned path as markers, the camera image with the overlay
at the camera's own resolution, and the bag's calibration, transforms and robot description: the calibration fits the
overlay, so that a viewer can project into it. Messages keep their recording times; a plan takes no time. The views in
`config/views/annotated.*` show it.
"""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rosbags.interfaces import Connection, Qos, QosDurability, QosHistory, QosLiveliness, QosReliability, QosTime
from rosbags.rosbag2 import CompressionFormat, CompressionMode, StoragePlugin, Writer

from sqap_vla_ros.bags.messages import (
    chunk_message,
    jpeg_message,
    marker_array,
    message_types,
    path_marker,
    static_transform_message,
    token_mask_message,
)
from sqap_vla_ros.bags.observations import Extrinsic
from sqap_vla_ros.bags.reader import Bag, BagDamage
from sqap_vla_ros.bags.topics import CAMERA_INFO_TYPE, CHUNK_TYPE, MASK_TYPE, STRING_TYPE, TRANSFORM_TYPE, BagTopics
from sqap_vla_ros.config.robot import Configuration
from sqap_vla_ros.perception.images import ImageError, decode
from sqap_vla_ros.reporting.overlay import BASELINE_COLOUR, PATH_COLOURS, TRUTH_COLOUR, draw_overlay
from sqap_vla_ros.tools.replay.results_reader import Run
from sqap_vla_ros.tools.replay.scene import Scene, SceneReader, paths_m

ANNOTATED = "annotated"  # in the directory of a run
CHUNK_TOPIC = "/sqap_vla/chunk"
MASK_TOPIC = "/sqap_vla/token_mask"
PATH_TOPIC = "/sqap_vla/path"
OVERLAY_TOPIC = "/sqap_vla/overlay/image/compressed"
OVERLAY_INFO_TOPIC = "/sqap_vla/overlay/camera_info"  # RViz expects an image's calibration there
STATIC_TOPIC = "/tf_static"
ROBOT_TOPIC = "/robot_description"

_COLOURS = {"plan": PATH_COLOURS[1], "truth": TRUTH_COLOUR, "baseline": BASELINE_COLOUR}


def write_annotated(
    bag: Bag,
    topics: BagTopics,
    configuration: Configuration,
    run: Run,
    *,
    extrinsic: Extrinsic | None = None,
    on_progress: Callable[[int], None],
) -> Path:
    """Write the annotated recording of a replayed bag; an existing one is replaced.

    Args:
        bag: The bag that was replayed.
        topics: Topics of the bag that were replayed.
        configuration: Frames of the robot.
        run: Results of the replay.
        extrinsic: Pose of the camera with which the bag was replayed.
        on_progress: Called with the recording time of each message, nanoseconds.

    Returns:
        The rosbag2 directory; for a damaged bag it ends at the damage.
    """
    path = run.directory / ANNOTATED
    partial = run.directory / f"{ANNOTATED}.partial" / ANNOTATED  # rosbag2 names the file in it as the directory
    for old in (path, partial.parent):
        shutil.rmtree(old, ignore_errors=True)
    scenes = SceneReader(run, topics, configuration, extrinsic)
    unopened = Writer(partial, version=9, storage_plugin=StoragePlugin.MCAP)
    unopened.set_compression(CompressionMode.STORAGE, CompressionFormat.ZSTD)
    with unopened as writer:
        recording = _Recording(writer, run, configuration, scenes)
        if extrinsic:
            recording.write_extrinsic(extrinsic, bag.start_ns)
        try:
            robot = _robot_description(bag, configuration)
            for topic, recorded_ns, message in bag.messages(topics.camera_names | robot):
                on_progress(recorded_ns)
                if topic in robot:
                    recording.write(ROBOT_TOPIC, STRING_TYPE, recorded_ns, message)
                elif topic == topics.camera_info:
                    recording.write(topic, CAMERA_INFO_TYPE, recorded_ns, message)
                    recording.write(OVERLAY_INFO_TOPIC, CAMERA_INFO_TYPE, recorded_ns, message)
                elif topic in topics.transforms:
                    recording.write(topic, TRANSFORM_TYPE, recorded_ns, message)
                for scene in scenes.add(topic, recorded_ns, message):
                    recording.write_scene(scene)
        except BagDamage:
            pass  # the replay ended there too, and has reported it
        for scene in scenes.rest():
            recording.write_scene(scene)
    partial.rename(path)
    partial.parent.rmdir()
    return path


def _robot_description(bag: Bag, configuration: Configuration) -> frozenset[str]:
    """The topic with the robot's URDF, if the bag has it."""
    topic = configuration.topics.robot_description
    return frozenset({topic} if bag.topic_types.get(topic) == STRING_TYPE else ())


class _Recording:
    """Topics of an open bag, which are added when they are needed."""

    def __init__(self, writer: Writer, run: Run, configuration: Configuration, scenes: SceneReader) -> None:
        self._writer = writer
        self._connections: dict[str, Connection] = {}
        self._base = configuration.frames.base
        self._scenes = scenes
        self._policy_id = str(run.summary["policy"])
        self._seconds = run.planning_seconds()
        self._instruction = ""
        self._epoch = 0

    def write(self, topic: str, kind: str, recorded_ns: int, message: Any) -> None:
        """Write a message; its topic is created with the first one."""
        if topic not in self._connections:
            qos = [_LATCHED] if topic.endswith("tf_static") or topic == ROBOT_TOPIC else []
            self._connections[topic] = self._writer.add_connection(
                topic, kind, typestore=message_types(), offered_qos_profiles=qos
            )
        self._writer.write(self._connections[topic], recorded_ns, message_types().serialize_cdr(message, kind))

    def write_scene(self, scene: Scene) -> None:
        """Write the plan that was made on an image, if there is one."""
        if not scene.own or scene.row is None or scene.tick is None:
            return
        row, at_ns, recorded_ns = scene.row, scene.stamp_ns, scene.recorded_ns
        if row["instruction"] != self._instruction:
            self._instruction, self._epoch = row["instruction"], self._epoch + 1
        seconds = float(self._seconds[scene.tick])
        chunk = chunk_message(row, self._base, self._policy_id, self._epoch, scene.tick, seconds)
        self.write(CHUNK_TOPIC, CHUNK_TYPE, recorded_ns, chunk)
        camera = self._scenes.camera_frame(scene.message)
        self.write(MASK_TOPIC, MASK_TYPE, recorded_ns, token_mask_message(row, camera))
        markers = [path_marker(name, path, _COLOURS[name], at_ns, self._base) for name, path in paths_m(row).items()]
        self.write(PATH_TOPIC, "visualization_msgs/msg/MarkerArray", recorded_ns, marker_array(markers))
        try:
            image = decode(scene.message)
        except ImageError:  # another image with the stamp of the one that was planned on
            return
        picture = draw_overlay(image, scene.overlay_on(image), image.shape[1])
        self.write(OVERLAY_TOPIC, "sensor_msgs/msg/CompressedImage", recorded_ns, jpeg_message(picture, at_ns, camera))

    def write_extrinsic(self, extrinsic: Extrinsic, recorded_ns: int) -> None:
        """Write the camera's pose, which the bag does not have."""
        message = static_transform_message(extrinsic.parent, extrinsic.child, extrinsic.T_parent_child, recorded_ns)
        self.write(STATIC_TOPIC, TRANSFORM_TYPE, recorded_ns, message)


_UNLIMITED = QosTime(0, 0)
_LATCHED = Qos(
    history=QosHistory.KEEP_LAST,
    depth=1,
    reliability=QosReliability.RELIABLE,
    durability=QosDurability.TRANSIENT_LOCAL,
    deadline=_UNLIMITED,
    lifespan=_UNLIMITED,
    liveliness=QosLiveliness.AUTOMATIC,
    liveliness_lease_duration=_UNLIMITED,
    avoid_ros_namespace_conventions=False,
)

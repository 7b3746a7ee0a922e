"""A recorder of topics as an MCAP bag, without ROS's own recorder, which pip does not have.

Messages are subscribed to in serialised form and written without change. After at most one megabyte a compressed chunk
goes to disk. A recording whose process was killed lacks its index, which `mcap recover` rebuilds.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import sqap_vla
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from rosbags.interfaces import Connection, Qos, QosDurability, QosHistory, QosLiveliness, QosReliability, QosTime
from rosbags.rosbag2 import CompressionFormat, CompressionMode, StoragePlugin, Writer
from rosbags.typesys import Stores, get_types_from_msg, get_typestore
from rosbags.typesys.store import Typestore
from sensor_msgs.msg import CameraInfo, Image, JointState
from sqap_vla.msg import ActionChunk, PolicyMetadata, PolicyStatus, TokenMask
from std_msgs.msg import String
from tf2_msgs.msg import TFMessage
from trajectory_msgs.msg import JointTrajectory

from sqap_vla_ros.config.robot import Topics

RECORDER_NODE = "recorder"
_RELIABLE = QoSProfile(depth=100)
_BEST_EFFORT = QoSProfile(depth=20, reliability=ReliabilityPolicy.BEST_EFFORT)  # a second of images at 20 Hz
_LATCHED = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
_OWN_MESSAGES = (ActionChunk, PolicyMetadata, PolicyStatus, TokenMask)


@dataclass(frozen=True)
class RecordedTopic:
    """A topic, its message class, and the quality of service of its subscription and in the bag."""

    name: str
    kind: type
    qos: QoSProfile


def cell_topics(topics: Topics) -> tuple[RecordedTopic, ...]:
    """The topics that a replay of an episode needs, and those with its results."""
    return (
        RecordedTopic(topics.image, Image, _BEST_EFFORT),
        RecordedTopic(topics.camera_info, CameraInfo, _BEST_EFFORT),
        RecordedTopic("/tf", TFMessage, _RELIABLE),
        RecordedTopic("/tf_static", TFMessage, _LATCHED),
        RecordedTopic(topics.joint_states, JointState, _RELIABLE),
        RecordedTopic(topics.robot_description, String, _LATCHED),
        RecordedTopic(topics.command, JointTrajectory, _RELIABLE),
        RecordedTopic(topics.gripper_command, JointTrajectory, _RELIABLE),
        RecordedTopic("/sqap_vla/instruction", String, _LATCHED),
        RecordedTopic("/sqap_vla/chunk", ActionChunk, _RELIABLE),
        RecordedTopic("/sqap_vla/token_mask", TokenMask, _RELIABLE),
        RecordedTopic("/sqap_vla/status", PolicyStatus, _RELIABLE),
        RecordedTopic("/sqap_vla/metadata", PolicyMetadata, _LATCHED),
    )


class Recorder(Node):
    """Writes topics to a bag until it is closed.

    Args:
        path: Directory of the bag; must not exist.
        topics: The topics to record.
        **node_arguments: Arguments of rclpy's node; with `use_sim_time`, messages are logged at simulated time.

    Raises:
        rosbags.rosbag2.WriterError: The directory exists.
    """

    def __init__(self, path: Path, topics: Sequence[RecordedTopic], **node_arguments: Any) -> None:
        super().__init__(RECORDER_NODE, **node_arguments)
        self._writer = Writer(path, version=9, storage_plugin=StoragePlugin.MCAP)
        self._writer.set_compression(CompressionMode.STORAGE, CompressionFormat.ZSTD)
        self._writer.open()
        typestore = message_types()
        for topic in topics:
            connection = self._writer.add_connection(
                topic.name, type_name(topic.kind), typestore=typestore, offered_qos_profiles=[_bag_qos(topic.qos)]
            )
            self.create_subscription(topic.kind, topic.name, partial(self._write, connection), topic.qos, raw=True)

    def _write(self, connection: Connection, serialized: bytes) -> None:
        self._writer.write(connection, self.get_clock().now().nanoseconds, serialized)

    def close(self) -> None:
        """Write what is in memory, and the index. No callback may run any more."""
        self._writer.close()


def message_types() -> Typestore:
    """Message definitions of this ROS release and of this package, as rosbags needs them."""
    typestore = get_typestore(Stores.ROS2_JAZZY)
    # Installed with the classes, below the same prefix: the definitions are those of the messages that are received.
    folders = (parent / "share" / "sqap_vla" / "msg" for parent in Path(sqap_vla.__file__).parents)
    folder = next(folder for folder in folders if folder.is_dir())
    for kind in _OWN_MESSAGES:
        definition = (folder / f"{kind.__name__}.msg").read_text(encoding="utf-8")
        typestore.register(get_types_from_msg(definition, type_name(kind)))
    return typestore


def type_name(kind: type) -> str:
    """The ROS name of a message class, e.g. "std_msgs/msg/String"."""
    return f"{kind.__module__.split('.')[0]}/msg/{kind.__name__}"


def _bag_qos(qos: QoSProfile) -> Qos:
    unlimited = QosTime(0, 0)
    return Qos(
        history=QosHistory.KEEP_LAST,
        depth=qos.depth,
        reliability=(
            QosReliability.BEST_EFFORT if qos.reliability == ReliabilityPolicy.BEST_EFFORT else QosReliability.RELIABLE
        ),
        durability=(
            QosDurability.TRANSIENT_LOCAL
            if qos.durability == DurabilityPolicy.TRANSIENT_LOCAL
            else QosDurability.VOLATILE
        ),
        deadline=unlimited,
        lifespan=unlimited,
        liveliness=QosLiveliness.AUTOMATIC,
        liveliness_lease_duration=unlimited,
        avoid_ros_namespace_conventions=False,
    )

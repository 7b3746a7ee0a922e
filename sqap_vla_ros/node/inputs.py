"""What the node listens to, and where each message goes."""

from collections.abc import Callable
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import CameraInfo, CompressedImage, Image
from sensor_msgs.msg import JointState as JointStateMessage
from std_msgs.msg import String
from tf2_msgs.msg import TFMessage

from sqap_vla_ros.config import Configuration
from sqap_vla_ros.control.commander import JointState
from sqap_vla_ros.stamps import stamp_ns

# A queue of images or joint states makes a slow node act on old ones: depth one, and the newest wins.
_NEWEST = QoSProfile(depth=1, reliability=ReliabilityPolicy.BEST_EFFORT)
# Best effort also for transforms: a reliable reader that misses one sample (large images fill the sockets) holds back
# all that follow until it was sent again, which takes up to seconds. A lost one costs an interpolation over 20 ms.
_TRANSFORMS = QoSProfile(depth=100, reliability=ReliabilityPolicy.BEST_EFFORT)
_STATIC_TRANSFORMS = QoSProfile(depth=100, durability=DurabilityPolicy.TRANSIENT_LOCAL)
LATCHED = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)

_IMAGE_TYPES = {"sensor_msgs/msg/Image": Image, "sensor_msgs/msg/CompressedImage": CompressedImage}


class Receiver(Protocol):
    """Where the messages go: the node's pipeline, or who only looks at them."""

    configuration: Configuration
    joint_state: JointState | None
    no_joint_state_reason: str

    def offer_image(self, message: Any) -> str:
        """Take an image; returns in words why it was refused, empty when it was not."""

    def set_camera_info(self, message: Any) -> None:
        """Take the camera's calibration."""

    def add_transforms(self, message: Any, static: bool) -> tuple[str, ...]:
        """Take a TFMessage; returns what was refused, a sentence each."""


class Inputs:
    """The node's subscriptions.

    Args:
        node: Owner of the subscriptions.
        pipeline: Where the messages go.
        on_input: Called after a message that may let a waiting image go on.
        on_robot_description: Called with the URDF text.
        on_instruction: Called with an instruction.
    """

    def __init__(
        self,
        node: Node,
        pipeline: Receiver,
        on_input: Callable[[], None],
        on_robot_description: Callable[[str], None],
        on_instruction: Callable[[str], None],
    ) -> None:
        self._node = node
        self._pipeline = pipeline
        self._on_input = on_input
        self._topics = pipeline.configuration.topics
        self._image_subscription: Any = None
        self._image_type: type | None = None
        self._joint_order: tuple[tuple[str, ...], list[int]] | None = None

        def subscribe(kind: type, topic: str, callback: Callable[[Any], None], qos: QoSProfile) -> Any:
            return node.create_subscription(kind, topic, callback, qos)

        self._transforms = subscribe(TFMessage, "/tf", self._receive_transforms, _TRANSFORMS)
        self._subscriptions = [
            self._transforms,
            subscribe(CameraInfo, self._topics.camera_info, self._receive_camera_info, _NEWEST),
            subscribe(TFMessage, "/tf_static", self._receive_static_transforms, _STATIC_TRANSFORMS),
            subscribe(JointStateMessage, self._topics.joint_states, self._receive_joint_states, _NEWEST),
            # Both durabilities: a latched publisher reaches a node that starts later, and `ros2 topic pub` (volatile)
            # would not match a subscription that asks for latched samples.
            subscribe(String, "~/instruction", lambda message: on_instruction(message.data), LATCHED),
            subscribe(String, "~/instruction", lambda message: on_instruction(message.data), QoSProfile(depth=1)),
        ]
        if not pipeline.configuration.command.robot_model:
            self._subscriptions.append(
                subscribe(
                    String, self._topics.robot_description, lambda message: on_robot_description(message.data), LATCHED
                )
            )

    def watch_image_topic(self) -> None:
        """Subscribe to the image topic with the type that its publishers have; call again now and then.

        Without a publisher yet, the name decides as image_transport names topics: `.../compressed` is compressed.
        """
        topic = self._node.resolve_topic_name(self._topics.image)
        offered = {info.topic_type for info in self._node.get_publishers_info_by_topic(topic)}
        kinds = [_IMAGE_TYPES[name] for name in sorted(offered) if name in _IMAGE_TYPES]
        if kinds:
            kind = kinds[-1]  # Image before CompressedImage when somebody publishes both
        elif self._image_type is not None:
            return
        else:
            kind = CompressedImage if topic.endswith("/compressed") else Image
        if kind is self._image_type:
            return
        if self._image_subscription is not None:
            self._node.destroy_subscription(self._image_subscription)
        self._image_type = kind
        self._image_subscription = self._node.create_subscription(kind, topic, self._receive_image, _NEWEST)

    def ignore_images(self) -> None:
        """No images any more (the node is not active)."""
        if self._image_subscription is not None:
            self._node.destroy_subscription(self._image_subscription)
        self._image_subscription, self._image_type = None, None

    def destroy(self) -> None:
        """End all subscriptions."""
        self.ignore_images()
        for subscription in self._subscriptions:
            self._node.destroy_subscription(subscription)

    def _receive_image(self, message: Any) -> None:
        refusal = self._pipeline.offer_image(message)
        if refusal:
            self._node.get_logger().warning(f"image refused: {refusal}", throttle_duration_sec=1.0)
        self._on_input()

    def _receive_camera_info(self, message: CameraInfo) -> None:
        self._pipeline.set_camera_info(message)

    def _receive_transforms(self, message: TFMessage) -> None:
        """Take this message and all that wait behind it.

        The executor takes one message per subscription and round. On a busy machine transforms, which come more often
        than anything else, would fall behind the images that wait for them.
        """
        waiting: tuple[TFMessage, Any] | None = (message, None)
        while waiting is not None:
            self._add_transforms(waiting[0], static=False)
            with self._transforms.handle:
                waiting = self._transforms.handle.take_message(TFMessage, False)
        self._on_input()

    def _receive_static_transforms(self, message: TFMessage) -> None:
        self._add_transforms(message, static=True)

    def _add_transforms(self, message: TFMessage, static: bool) -> None:
        for refusal in self._pipeline.add_transforms(message, static):
            self._node.get_logger().warning(f"transform refused: {refusal}", throttle_duration_sec=1.0)

    def _receive_joint_states(self, message: JointStateMessage) -> None:
        """Keep the arm's joints in the controller's order; messages about other joints alone are not about the arm."""
        names, wanted = tuple(message.name), self._pipeline.configuration.command.joints
        if self._joint_order is None or self._joint_order[0] != names:
            if missing := [joint for joint in wanted if joint not in names]:
                self._pipeline.no_joint_state_reason = (
                    f"joint states on {self._topics.joint_states} lack {', '.join(missing)} (command.joints); "
                    f"the last were of {', '.join(names)}"
                )
                return
            self._joint_order = names, [names.index(joint) for joint in wanted]
        if len(message.position) != len(names):
            return
        order, at_ns = self._joint_order[1], stamp_ns(message)
        positions = np.asarray(message.position, np.float64)[order]
        velocities = np.full_like(positions, np.nan)
        if len(message.velocity) == len(names):
            velocities = np.asarray(message.velocity, np.float64)[order]
        if np.isnan(velocities).any():  # not reported, or NaN as broadcasters fill in for what a joint cannot report
            velocities = np.where(np.isnan(velocities), self._differenced(positions, at_ns), velocities)
        self._pipeline.joint_state = JointState(positions, velocities, at_ns)

    def _differenced(self, positions: NDArray[np.float64], at_ns: int) -> NDArray[np.float64]:
        """Velocities float64 (joints,) from this position and the last; zero without a recent one."""
        last = self._pipeline.joint_state
        if last is None or not 0 < at_ns - last.stamp_ns < 10**9:
            return np.zeros_like(positions)
        return (positions - last.positions) / ((at_ns - last.stamp_ns) * 1e-9)

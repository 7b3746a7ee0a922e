# Copyright 2026 The sqap_vla maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""The node's subscriptions, and where each message goes."""

from collections.abc import Callable, Iterator
from typing import Any, Protocol

from rclpy.event_handler import SubscriptionEventCallbacks
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, QoSCompatibility, QoSProfile, ReliabilityPolicy, qos_check_compatible
from rclpy.subscription import Subscription
from sensor_msgs.msg import CameraInfo
from sensor_msgs.msg import JointState as JointStateMessage
from std_msgs.msg import Bool, String
from tf2_msgs.msg import TFMessage

from sqap_vla_ros.config.cameras import Camera
from sqap_vla_ros.config.robot import Configuration
from sqap_vla_ros.control.commands import JointState
from sqap_vla_ros.control.joint_states import JointStates
from sqap_vla_ros.core.policy import PolicyNeeds
from sqap_vla_ros.perception.calibration import other_camera_frame
from sqap_vla_ros.ros import speed_scaling
from sqap_vla_ros.ros.image_subscription import ImageSubscription

# A queue of images makes a slow node act on old ones: depth one, and the newest wins.
_NEWEST = QoSProfile(depth=1, reliability=ReliabilityPolicy.BEST_EFFORT)
# A reader's queue is shared by all publishers of a topic: of depth one, the gripper's message would displace the arm's,
# and a pressed switch a released one. All that wait are taken at once (`take_waiting`).
_SHARED = QoSProfile(depth=100, reliability=ReliabilityPolicy.BEST_EFFORT)
# Best effort also for transforms: a reliable reader that misses one sample (large images fill the sockets) holds back
# all that follow until it was sent again, which takes up to seconds. A lost one costs an interpolation over 20 ms.
_TRANSFORMS = QoSProfile(depth=100, reliability=ReliabilityPolicy.BEST_EFFORT)
_STATIC_TRANSFORMS = QoSProfile(depth=100, durability=DurabilityPolicy.TRANSIENT_LOCAL)
LATCHED = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)

# Without the warning that a publisher does not match.
_UNWATCHED = SubscriptionEventCallbacks(use_default_callbacks=False)


def take_waiting(subscription: Subscription) -> Iterator[tuple[Any, Any]]:
    """Messages that wait for the executor, each with what the middleware says about it: the oldest first."""
    while True:
        with subscription.handle:
            taken = subscription.handle.take_message(subscription.msg_type, subscription.raw)
        if taken is None:
            return
        yield taken


class Receiver(Protocol):
    """Where the messages go: the node's inputs, or what only looks at them."""

    configuration: Configuration
    needs: PolicyNeeds

    @property
    def joint_state(self) -> JointState | None:
        """Return the arm's joints as measured last."""

    def offer_image(self, message: Any) -> str:
        """Take an image; returns why it was rejected, or an empty string."""

    def set_camera_info(self, message: Any) -> bool:
        """Take the camera's calibration; returns whether it differs from the one before."""

    def offer_further_image(self, name: str, message: Any) -> str:
        """Take an image of another camera; returns why it was rejected, or an empty string."""

    def set_further_camera_info(self, name: str, message: Any) -> None:
        """Take the calibration of another camera."""

    def add_joint_states(self, message: Any) -> None:
        """Take a JointState for the state that a policy is told."""

    def add_transforms(self, message: Any, static: bool) -> tuple[str, ...]:
        """Take a TFMessage; returns why transforms of it were rejected, a sentence each."""

    def take_joint_state(self, state: JointState) -> None:
        """Take the arm's joints."""

    def reject_joint_states(self, reason: str) -> None:
        """Take note why joint states cannot be used."""

    def measure_tool(self) -> None:
        """Look at the tool, after the newest transforms were taken."""


class Subscriptions:
    """
    The node's subscriptions.

    :param node: Owner of the subscriptions.
    :param receiver: Where the messages go.
    :param on_input: Called after a message that may let a waiting image go on.
    :param on_robot_description: Called with the URDF text.
    :param on_instruction: Called with an instruction.
    :param on_enable: Called with the state of the enabling switch, where there is one.
    :param on_speed_scaling: Called with reports of the controller's speed scaling; None: nobody listens.
    """

    def __init__(
        self,
        node: Node,
        receiver: Receiver,
        on_input: Callable[[], None],
        on_robot_description: Callable[[str], None],
        on_instruction: Callable[[str], None],
        on_enable: Callable[[bool], None],
        on_speed_scaling: speed_scaling.OnReport | None = None,
    ) -> None:
        self._node = node
        self._receiver = receiver
        self._on_input = on_input
        self._topics, command = receiver.configuration.topics, receiver.configuration.command
        self._images = [ImageSubscription(node, self._topics.image, self._receive_image, _NEWEST)]
        self._joint_states = JointStates(command.joints, self._topics.joint_states)
        self._on_enable = on_enable
        self._has_compared_frames = False

        def subscribe(
            kind: type,
            topic: str,
            callback: Callable[[Any], None],
            qos: QoSProfile,
            events: SubscriptionEventCallbacks | None = None,
        ) -> Any:
            return node.create_subscription(kind, topic, callback, qos, event_callbacks=events)

        self._transforms = subscribe(TFMessage, "/tf", self._receive_transforms, _TRANSFORMS)
        self._subscriptions = [
            self._transforms,
            # Both durabilities: what a latched publisher sent once reaches a node that starts later, and a volatile
            # publisher (most camera drivers, `ros2 topic pub`) does not match a subscription that asks for that.
            subscribe(CameraInfo, self._topics.camera_info, self._receive_camera_info, LATCHED, _UNWATCHED),
            subscribe(CameraInfo, self._topics.camera_info, self._receive_camera_info, _NEWEST),
            subscribe(String, "~/instruction", lambda message: on_instruction(message.data), LATCHED, _UNWATCHED),
            subscribe(String, "~/instruction", lambda message: on_instruction(message.data), QoSProfile(depth=1)),
        ]
        if not command.moves_tool:
            self._joints = subscribe(JointStateMessage, self._topics.joint_states, self._receive_joint_states, _SHARED)
            self._subscriptions.append(self._joints)
        for camera in receiver.configuration.cameras[1 : receiver.needs.cameras]:
            self._subscribe_further(camera, subscribe)
        if receiver.needs.state != "none" and receiver.configuration.state.joints:
            topic = self._topics.joint_states
            self._subscriptions.append(subscribe(JointStateMessage, topic, self._receive_state, _SHARED))
        if on_speed_scaling is not None:
            self._subscriptions += speed_scaling.subscribe(node, receiver.configuration, on_speed_scaling)
        # These ask for latched samples, which not every publisher offers.
        self._latched = [subscribe(TFMessage, "/tf_static", self._receive_static_transforms, _STATIC_TRANSFORMS)]
        if not (command.moves_tool or command.robot_model):
            topic = self._topics.robot_description
            self._latched.append(subscribe(String, topic, lambda message: on_robot_description(message.data), LATCHED))
        if self._topics.enable:
            self._enable = subscribe(Bool, self._topics.enable, self._receive_enable, _SHARED)
            self._subscriptions.append(self._enable)

    def _subscribe_further(self, camera: Camera, subscribe: Callable[..., Any]) -> None:
        """Images and calibration of another camera than the first."""

        def receive_image(message: Any) -> None:
            if rejection := self._receiver.offer_further_image(camera.name, message):
                self._node.get_logger().warning(f"image rejected: {rejection}", throttle_duration_sec=1.0)
            self._on_input()

        def receive_camera_info(message: CameraInfo) -> None:
            self._receiver.set_further_camera_info(camera.name, message)

        self._images.append(ImageSubscription(self._node, camera.image, receive_image, _NEWEST))
        if camera.camera_info:
            for qos, events in ((LATCHED, _UNWATCHED), (_NEWEST, None)):
                self._subscriptions.append(subscribe(CameraInfo, camera.camera_info, receive_camera_info, qos, events))

    def _receive_state(self, message: JointStateMessage) -> None:
        self._receiver.add_joint_states(message)
        self._on_input()

    def watch_image_topic(self) -> None:
        """Subscribe to the images with the type that their publishers have; call again now and then."""
        for images in self._images:
            images.watch()

    def incompatible(self) -> str:
        """Which publishers do not reach the node, because they offer another quality of service."""
        return "; ".join(
            f"{info.node_name} publishes {subscription.topic_name} with another quality of service ({reason.strip()})"
            for subscription in self._latched
            for info in self._node.get_publishers_info_by_topic(subscription.topic_name)
            for compatibility, reason in [qos_check_compatible(info.qos_profile, subscription.qos_profile)]
            if compatibility == QoSCompatibility.ERROR
        )

    def ignore_images(self) -> None:
        """Receive no images any more (the node is not active)."""
        for images in self._images:
            images.end()

    def destroy(self) -> None:
        """End all subscriptions."""
        self.ignore_images()
        for subscription in (*self._subscriptions, *self._latched):
            self._node.destroy_subscription(subscription)

    def _receive_image(self, message: Any) -> None:
        self._compare_frames(message.header.frame_id)
        rejection = self._receiver.offer_image(message)
        if rejection:
            self._node.get_logger().warning(f"image rejected: {rejection}", throttle_duration_sec=1.0)
        self._on_input()

    def _compare_frames(self, frame_id: str) -> None:
        """Log once that the setting takes the place of another frame."""
        if self._has_compared_frames:
            return
        self._has_compared_frames = True
        if difference := other_camera_frame(self._receiver.configuration.frames, frame_id):
            self._node.get_logger().warning(difference)

    def _receive_camera_info(self, message: CameraInfo) -> None:
        if self._receiver.set_camera_info(message):
            self._node.get_logger().warning(
                "the camera's calibration has changed: the ring is drawn by the new one", throttle_duration_sec=1.0
            )

    def _receive_transforms(self, message: TFMessage) -> None:
        """
        Take this message and all that wait behind it.

        The executor takes one message per subscription and round. On a busy machine transforms, which come more often
        than anything else, would fall behind the images that wait for them.
        """
        self._add_transforms(message, static=False)
        for waiting, _ in take_waiting(self._transforms):
            self._add_transforms(waiting, static=False)
        self._receiver.measure_tool()
        self._on_input()

    def _receive_static_transforms(self, message: TFMessage) -> None:
        self._add_transforms(message, static=True)

    def _add_transforms(self, message: TFMessage, static: bool) -> None:
        for rejection in self._receiver.add_transforms(message, static):
            self._node.get_logger().warning(f"transform rejected: {rejection}", throttle_duration_sec=1.0)

    def _receive_joint_states(self, message: JointStateMessage) -> None:
        """Take this message and all that wait behind it, whoever published them."""
        self._take_joint_states(message)
        for waiting, _ in take_waiting(self._joints):
            self._take_joint_states(waiting)

    def _take_joint_states(self, message: JointStateMessage) -> None:
        state = self._joint_states.add(message, self._receiver.joint_state)
        if isinstance(state, JointState):
            self._receiver.take_joint_state(state)
        elif state is not None:
            self._receiver.reject_joint_states(state)

    def _receive_enable(self, message: Bool) -> None:
        """Of several messages at once, one that releases the switch counts."""
        pressed = message.data
        for waiting, _ in take_waiting(self._enable):
            pressed = pressed and waiting.data
        self._on_enable(pressed)

"""What the node publishes about each tick: the command, the plan behind it, and what it looked at."""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from rclpy.event_handler import PublisherEventCallbacks
from rclpy.lifecycle import LifecycleNode
from sqap_vla.msg import ActionChunk, TokenMask
from visualization_msgs.msg import MarkerArray

from sqap_vla_ros.config.robot import Configuration
from sqap_vla_ros.control.commander import Command
from sqap_vla_ros.control.outputs import Output
from sqap_vla_ros.core.action_chunk import ActionChunk as Chunk
from sqap_vla_ros.core.rejection import Cause, Rejection, Response
from sqap_vla_ros.perception.transform_tree import TransformError
from sqap_vla_ros.ros import conversions, markers
from sqap_vla_ros.ros.outputs import ArmPublisher, gripper_of
from sqap_vla_ros.ros.pipeline import Pipeline, Tick

# Every watched event makes each of the executor's rounds longer; for what only people look at, that is not worth it.
UNWATCHED = PublisherEventCallbacks(use_default_callbacks=False)


class Publishers:
    """Publishers that are silent while the node is not active.

    Args:
        node: Their owner.
        configuration: Topics, joints and frames.
        output: Turns commands into what the arm's controller takes.

    Raises:
        ConfigurationError: What the gripper's output takes is not installed.
    """

    def __init__(self, node: LifecycleNode, configuration: Configuration, output: Output) -> None:
        self._node = node
        self._configuration = configuration
        self._output = output
        self._sequence = 0
        self._listeners = 0

        def unwatched(kind: type, topic: str) -> Any:
            return node.create_lifecycle_publisher(kind, topic, 10, event_callbacks=UNWATCHED)

        self._chunk = unwatched(ActionChunk, "~/chunk")
        self._mask = unwatched(TokenMask, "~/token_mask")
        self._markers = unwatched(MarkerArray, "~/markers")
        self._gripper = gripper_of(node, configuration)
        self._arm = ArmPublisher(node, configuration)

    def restart_count(self) -> None:
        """Number chunks from one again."""
        self._sequence = 0

    def publish_command(self, command: Command) -> bool:
        """Send a command to the controllers, or begin to stream it; returns False when the gripper was not there."""
        message = self._output.follow(command)
        if message is not None:
            self._arm.publish(message)
        return command.gripper is None or self._gripper is None or self._gripper.move(command.gripper)

    def stream(self, now_ns: int, measured: tuple[int, NDArray[np.float64]] | None) -> bool:
        """Send what is due of a command that is streamed; returns whether anything is.

        Args:
            now_ns: ROS clock.
            measured: Stamp and T_base_tool float64 (4, 4) of the last known tool pose.
        """
        message = self._output.due(now_ns, measured)
        if message is not None:
            self._arm.publish(message)
        return message is not None

    def clock_set(self, by_ns: int) -> None:
        """The ROS clock was set by so much: what is being streamed goes on in the new time."""
        self._output.clock_set(by_ns)

    def publish_plan(self, tick: Tick, pipeline: Pipeline, policy_id: str) -> None:
        """Publish the chunk of a tick, its tokens, and markers when somebody looks at them."""
        if tick.chunk is None:
            return
        self._sequence += 1
        base = self._configuration.frames.base
        self._chunk.publish(conversions.chunk_message(tick.chunk, base, pipeline.epoch, self._sequence, policy_id))
        self._mask.publish(conversions.token_mask_message(tick.chunk, pipeline.camera_frame))
        if self._markers.get_subscription_count():
            ring_m = self._ring(tick.chunk, pipeline)
            self._markers.publish(markers.marker_array(self._configuration, tick.chunk, pipeline.camera_frame, ring_m))

    def _ring(self, chunk: Chunk, pipeline: Pipeline) -> NDArray[np.float64]:
        """Border of the ring in the camera's frame, float64 (points, 3); without points where there is none."""
        camera, tree = pipeline.assembler.camera, pipeline.assembler.tree
        if chunk.tool_px is None or camera is None:
            return np.zeros((0, 3))
        try:
            T_camera_base = tree.lookup(pipeline.camera_frame, self._configuration.frames.base, chunk.stamp_ns)
        except TransformError:  # forgotten meanwhile: a plan can take longer than transforms are kept
            return np.zeros((0, 3))
        return markers.ring_outline(chunk, camera, float((T_camera_base @ chunk.T_base_tool)[2, 3]))

    def lost_listener(self) -> bool:
        """Whether somebody who listened to the arm's commands when this was asked last is gone."""
        before, self._listeners = self._listeners, self._arm.publisher.get_subscription_count()
        return self._listeners < before

    @property
    def no_controller(self) -> Rejection | None:
        """Why commands reach no controller; None when the command topic has a subscriber."""
        if self._listeners:
            return None
        topic = self._arm.publisher.topic_name
        if self._node.count_subscribers(topic):
            sentence = f"the subscriber on {topic} asks for another quality of service than reliable and volatile"
            return Rejection(Cause.CONTROLLER_INCOMPATIBLE, Response.HOLD, sentence)
        return Rejection(Cause.NO_CONTROLLER, Response.HOLD, f"nothing listens on {topic}: is the controller active?")

    def destroy(self) -> None:
        """End all publishers."""
        for publisher in (self._chunk, self._mask, self._markers, self._arm.publisher):
            self._node._managed_entities.discard(publisher)
            self._node.destroy_publisher(publisher)
        if self._gripper is not None:
            self._gripper.destroy()

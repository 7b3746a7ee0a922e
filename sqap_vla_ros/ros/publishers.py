# Copyright 2026 The sqap_vla maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""What the node publishes about each tick: the command, the plan behind it, and what it looked at."""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from rclpy.event_handler import PublisherEventCallbacks
from rclpy.lifecycle import LifecycleNode
from sqap_vla.msg import ActionChunk, TokenMask
from visualization_msgs.msg import MarkerArray

from sqap_vla_ros.config.robot import Configuration
from sqap_vla_ros.control.commands import Command
from sqap_vla_ros.control.outputs import Output
from sqap_vla_ros.core.action_chunk import ActionChunk as Chunk
from sqap_vla_ros.core.rejection import Rejection
from sqap_vla_ros.ros import conversions, markers
from sqap_vla_ros.ros.arm_publishers import ArmPublisher, destroy, gripper_of
from sqap_vla_ros.ros.latest_inputs import LatestInputs
from sqap_vla_ros.ros.replacement_question import ReplacementQuestion

# Every watched event makes each of the executor's rounds longer; for what only people look at, that is not worth it.
UNWATCHED = PublisherEventCallbacks(use_default_callbacks=False)


class Publishers:
    """
    Publishers that are silent while the node is not active.

    :param node: Their owner.
    :param configuration: Topics, joints and frames.
    :param output: Turns commands into what the arm's controller takes.
    :param policy_id: Of the policy that is loaded.

    :raises ConfigurationError: What the gripper's output takes is not installed.
    """

    def __init__(self, node: LifecycleNode, configuration: Configuration, output: Output, policy_id: str) -> None:
        self._node = node
        self._configuration = configuration
        self._output = output
        self._policy_id = policy_id
        self._sequence = 0

        def unwatched(kind: type, topic: str) -> Any:
            return node.create_lifecycle_publisher(kind, topic, 10, event_callbacks=UNWATCHED)

        self._chunk = unwatched(ActionChunk, "~/chunk")
        self._mask = unwatched(TokenMask, "~/token_mask")
        self._markers = unwatched(MarkerArray, "~/markers")
        self._gripper = gripper_of(node, configuration)
        self._arm = ArmPublisher(node, configuration)
        self._question = None if configuration.command.moves_tool else ReplacementQuestion(node)

    def restart_count(self) -> None:
        """Start to number chunks from one again."""
        self._sequence = 0

    def publish_command(self, command: Command) -> bool:
        """Send a command to the controllers, or begin to stream it; returns False when the gripper was not there."""
        message = self._output.follow(command)
        if message is not None:
            self._arm.publish(message)
        return command.gripper is None or self._gripper is None or self._gripper.move(command.gripper)

    def stream(self, now_ns: int, measured: tuple[int, NDArray[np.float64]] | None) -> bool:
        """
        Send what is due of a command that is streamed; returns whether anything is.

        :param now_ns: ROS clock.
        :param measured: Stamp and T_base_tool float64 (4, 4) of the last known tool pose.
        """
        message = self._output.due(now_ns, measured)
        if message is not None:
            self._arm.publish(message)
        return message is not None

    def clock_set(self, by_ns: int) -> None:
        """Go on in the new time with what is being streamed: the ROS clock was set by so much."""
        self._output.clock_set(by_ns)

    def publish_plan(self, chunk: Chunk, inputs: LatestInputs, generation: int) -> None:
        """
        Publish a chunk, its tokens, and markers when somebody looks at them.

        :param chunk: The plan.
        :param inputs: With the camera.
        :param generation: Of the instruction and activation that it was planned for.
        """
        self._sequence += 1
        base = self._configuration.frames.base
        self._chunk.publish(conversions.chunk_message(chunk, base, generation, self._sequence, self._policy_id))
        self._mask.publish(conversions.token_mask_message(chunk, inputs.camera_frame))
        if self._markers.get_subscription_count():
            ring_m = _ring(chunk, inputs)
            self._markers.publish(markers.marker_array(self._configuration, chunk, inputs.camera_frame, ring_m))

    def lost_listener(self) -> bool:
        """Whether the arm's controller has gone since the last call, or was started again."""
        has_lost = self._arm.watch.has_lost()
        if self._question is not None:
            self._question.ask(self._arm.watch.controllers)
        return has_lost

    @property
    def no_controller(self) -> Rejection | None:
        """Why commands reach no controller; None when they do."""
        waiting = None if self._question is None else self._question.waiting
        return self._arm.watch.no_controller or waiting

    @property
    def replaces_trajectories(self) -> bool:
        """Whether the arm's controller keeps an old trajectory up to the stamp of a new one."""
        return self._question is not None and self._question.replaces

    @property
    def controller(self) -> str:
        """Name of the node that takes the arm's commands; empty: none does."""
        return self._arm.watch.names

    def destroy(self) -> None:
        """End all publishers."""
        for publisher in (self._chunk, self._mask, self._markers, self._arm.publisher):
            destroy(self._node, publisher)
        if self._question is not None:
            self._question.destroy()
        if self._gripper is not None:
            self._gripper.destroy()


def _ring(chunk: Chunk, inputs: LatestInputs) -> NDArray[np.float64]:
    """Border of the ring in the camera's frame, float64 (points, 3); without points where there is none."""
    camera, T_camera_base = inputs.camera, inputs.T_camera_base(chunk.stamp_ns)
    if chunk.tool_px is None or camera is None or T_camera_base is None:
        return np.zeros((0, 3))
    return markers.ring_outline(chunk, camera, float((T_camera_base @ chunk.T_base_tool)[2, 3]))

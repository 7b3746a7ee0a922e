# Copyright 2026 The sqap_vla maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""
Publishes commands for arm and gripper, as the messages that the robot's settings name.

control_msgs is imported only for a robot whose gripper is moved by an action.
"""

from typing import Any

from action_msgs.msg import GoalStatus
from geometry_msgs.msg import PoseStamped, Twist, TwistStamped, Vector3
from rclpy.action import get_action_names_and_types
from rclpy.lifecycle import LifecycleNode
from rclpy.node import Node
from std_msgs.msg import Header
from trajectory_msgs.msg import JointTrajectory

from sqap_vla_ros.config.files import ConfigurationError
from sqap_vla_ros.config.robot import Configuration
from sqap_vla_ros.control.outputs import Message, ToolPose, ToolTwist
from sqap_vla_ros.ros.controller_watch import ControllerWatch
from sqap_vla_ros.ros.conversions import gripper_message, pose_message, time_message, trajectory_message

ARM_TYPES = {
    "joint_trajectory": JointTrajectory,
    "servo_twist": TwistStamped,
    "servo_pose": PoseStamped,
    "cartesian_pose": PoseStamped,
}
"""Class of the arm's commands, by `command.output`."""

GRIPPER_ACTIONS = {"action": "GripperCommand", "parallel_action": "ParallelGripperCommand"}
"""Action of control_msgs that moves the gripper, by `command.gripper_output`."""


def destroy(node: LifecycleNode, publisher: Any) -> None:
    """
    End a lifecycle publisher.

    rclpy's `destroy_publisher` leaves it among the entities that the node's transitions go through, which then fail on
    it. There is no public way to remove it (checked with rclpy 7.1.6 of Jazzy).
    """
    node._managed_entities.discard(publisher)
    node.destroy_publisher(publisher)


class ArmPublisher:
    """
    Publisher of the arm's commands.

    :param node: Owner of the publisher.
    :param configuration: The settings.

    :ivar publisher: What it publishes with.
    :ivar watch: Watches for the arm's controller.
    """

    def __init__(self, node: LifecycleNode, configuration: Configuration) -> None:
        self._joints = configuration.command.joints
        self._base = configuration.frames.base
        kind = ARM_TYPES[configuration.command.output]
        self.publisher = node.create_lifecycle_publisher(kind, configuration.topics.command, 1)
        self.watch = ControllerWatch(node, self.publisher, kind, configuration.command.controller)

    def publish(self, message: Message) -> None:
        """Publish a command, or what is due of it."""
        if isinstance(message, ToolPose):
            header = Header(stamp=time_message(message.stamp_ns), frame_id=self._base)
            self.publisher.publish(PoseStamped(header=header, pose=pose_message(message.T_base_tool)))
        elif isinstance(message, ToolTwist):
            header = Header(stamp=time_message(message.stamp_ns), frame_id=self._base)
            linear, angular = (
                Vector3(x=float(x), y=float(y), z=float(z)) for x, y, z in (message.linear, message.angular)
            )
            self.publisher.publish(TwistStamped(header=header, twist=Twist(linear=linear, angular=angular)))
        else:
            self.publisher.publish(trajectory_message(message.trajectory, self._joints, message.start_ns, self._base))


class GripperTrajectories:
    """
    Moves the gripper by trajectories of its joint.

    :param node: Owner of the publisher.
    :param configuration: The settings.
    """

    def __init__(self, node: LifecycleNode, configuration: Configuration) -> None:
        self._joint = configuration.command.gripper_joint
        self._name = configuration.topics.gripper_command
        self._node = node
        self._publisher = node.create_lifecycle_publisher(JointTrajectory, self._name, 1)
        self._watch = ControllerWatch(node, self._publisher, JointTrajectory, configuration.command.gripper_controller)

    def move(self, position: float) -> bool:
        """Send a position; returns whether it was sent: the gripper's controller must listen."""
        self._watch.has_lost()
        if (missing := self._watch.no_controller) is not None:
            self._node.get_logger().warning(f"the gripper is not moved: {missing.sentence}", throttle_duration_sec=5.0)
            return False
        self._publisher.publish(gripper_message(self._joint, position))
        return True

    def destroy(self) -> None:
        """End what was created on the node."""
        destroy(self._node, self._publisher)


class GripperAction:
    """
    Moves the gripper by an action of control_msgs; nobody waits for its result, failures are logged.

    :param node: Owner of the action client.
    :param configuration: The settings.

    :raises ConfigurationError: control_msgs is not installed, or lacks the action.
    """

    def __init__(self, node: LifecycleNode, configuration: Configuration) -> None:
        action = _gripper_action(configuration)
        from rclpy.action import ActionClient

        self._goal_type: Any = action.Goal
        self._command = configuration.command
        self._name = configuration.topics.gripper_command
        self._node = node
        self._logger = node.get_logger()
        self._client = ActionClient(node, action, self._name)

    def move(self, position: float) -> bool:
        """Send a position; returns whether it was sent: there must be a server."""
        if not self._client.server_is_ready():
            missing = no_gripper_server(offered_actions(self._node, self._name), self._command.gripper_output)
            self._logger.warning(
                f"no action server on {self._name}: {missing}; the gripper is not moved", throttle_duration_sec=5.0
            )
            return False

        def on_answer(answer: Any) -> None:
            if answer.result().accepted:
                answer.result().get_result_async().add_done_callback(on_end)
            else:
                self._logger.warning(f"{self._name} refused to move the gripper to {position:g}")

        def on_end(end: Any) -> None:
            if end.result().status == GoalStatus.STATUS_ABORTED:
                self._logger.warning(f"{self._name} gave up moving the gripper to {position:g}")

        self._client.send_goal_async(self._goal(position)).add_done_callback(on_answer)
        return True

    def _goal(self, position: float) -> Any:
        goal, command = self._goal_type(), self._command
        if command.gripper_output == "action":
            goal.command.position, goal.command.max_effort = position, command.gripper_effort
        else:
            goal.command.name, goal.command.position = [command.gripper_joint], [position]
            if command.gripper_effort:  # left out, the controller's own limit holds
                goal.command.effort = [command.gripper_effort]
        return goal

    def destroy(self) -> None:
        """End what was created on the node."""
        self._client.destroy()


def offered_actions(node: Node, name: str) -> tuple[str, ...]:
    """Name the types of an action's servers, as `control_msgs/action/GripperCommand`; empty: there is none."""
    wanted = node.resolve_topic_name(name)
    return next((tuple(types) for found, types in get_action_names_and_types(node) if found == wanted), ())


def no_gripper_server(offered: tuple[str, ...], gripper_output: str) -> str:
    """
    Why an action client of the gripper finds no server, and what to do.

    :param offered: The types that are offered under the action's name.
    :param gripper_output: `command.gripper_output`.
    """
    ours = f"control_msgs/action/{GRIPPER_ACTIONS[gripper_output]}"
    others = [kind for kind in offered if kind != ours]
    if not others:
        return "start the gripper's controller, or correct topics.gripper_command"
    fitting = [output for output, name in GRIPPER_ACTIONS.items() if others[0] == f"control_msgs/action/{name}"]
    advice = f"set command.gripper_output to {fitting[0]}" if fitting else "correct topics.gripper_command"
    return f"the one there is of type {others[0]}, and {gripper_output} means {ours}: {advice}"


def _gripper_action(configuration: Configuration) -> Any:
    """Class of the action that moves the gripper."""
    output = configuration.command.gripper_output
    try:
        from control_msgs import action as actions
    except ImportError as error:
        raise ConfigurationError(
            f"command.gripper_output = {output} needs control_msgs ({error}): install it "
            "(ros-$ROS_DISTRO-control-msgs on Debian and Ubuntu), or use command.gripper_output = trajectory"
        ) from None
    name = GRIPPER_ACTIONS[output]
    if not hasattr(actions, name):
        raise ConfigurationError(
            f"command.gripper_output = {output} needs the action {name}, and the control_msgs that is installed is too "
            "old to have it (ROS Jazzy has it): update it, or use command.gripper_output = action or trajectory"
        )
    return getattr(actions, name)


def check_gripper(configuration: Configuration) -> None:
    """
    Look for what the gripper takes, before a policy is loaded for minutes.

    :raises ConfigurationError: It is not installed.
    """
    if configuration.topics.gripper_command and configuration.command.gripper_output in GRIPPER_ACTIONS:
        _gripper_action(configuration)


def gripper_of(node: LifecycleNode, configuration: Configuration) -> GripperTrajectories | GripperAction | None:
    """
    Make what moves the gripper; None for a robot without one.

    :raises ConfigurationError: What it takes is not installed.
    """
    if not configuration.topics.gripper_command:
        return None
    kind = GripperAction if configuration.command.gripper_output in GRIPPER_ACTIONS else GripperTrajectories
    return kind(node, configuration)

"""Publishes commands for arm and gripper, as the messages that the robot's settings name.

control_msgs is imported only for a robot whose gripper is moved by an action.
"""

from typing import Any

from action_msgs.msg import GoalStatus
from geometry_msgs.msg import PoseStamped, Twist, TwistStamped, Vector3
from rclpy.lifecycle import LifecycleNode
from std_msgs.msg import Header
from trajectory_msgs.msg import JointTrajectory

from sqap_vla_ros.config.files import ConfigurationError
from sqap_vla_ros.config.robot import Configuration
from sqap_vla_ros.control.outputs import Message, ToolPose, ToolTwist
from sqap_vla_ros.ros.conversions import gripper_message, pose_message, time_message, trajectory_message

_TYPES = {
    "joint_trajectory": JointTrajectory,
    "servo_twist": TwistStamped,
    "servo_pose": PoseStamped,
    "cartesian_pose": PoseStamped,
}


def destroy(node: LifecycleNode, publisher: Any) -> None:
    """End a lifecycle publisher.

    rclpy's `destroy_publisher` leaves it among the entities that the node's transitions go through, which then fail on
    it. There is no public way to remove it (checked with rclpy 7.1.6 of Jazzy).
    """
    node._managed_entities.discard(publisher)
    node.destroy_publisher(publisher)


class ArmPublisher:
    """Publisher of the arm's commands.

    Args:
        node: Owner of the publisher.
        configuration: The settings.

    Attributes:
        publisher: What it publishes with.
    """

    def __init__(self, node: LifecycleNode, configuration: Configuration) -> None:
        self._joints = configuration.command.joints
        self._base = configuration.frames.base
        kind = _TYPES[configuration.command.output]
        self.publisher = node.create_lifecycle_publisher(kind, configuration.topics.command, 1)

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
    """Moves the gripper by trajectories of its joint.

    Args:
        node: Owner of the publisher.
        configuration: The settings.
    """

    def __init__(self, node: LifecycleNode, configuration: Configuration) -> None:
        self._joint = configuration.command.gripper_joint
        self._name = configuration.topics.gripper_command
        self._node = node
        self._publisher = node.create_lifecycle_publisher(JointTrajectory, self._name, 1)

    def move(self, position: float) -> bool:
        """Send a position; returns whether it was sent: somebody must listen."""
        if not self._publisher.get_subscription_count():
            self._node.get_logger().warning(
                f"nothing listens on {self._name}: the gripper is not moved until its controller is active",
                throttle_duration_sec=5.0,
            )
            return False
        self._publisher.publish(gripper_message(self._joint, position))
        return True

    def destroy(self) -> None:
        """End what was created on the node."""
        destroy(self._node, self._publisher)


class GripperAction:
    """Moves the gripper by the action control_msgs/GripperCommand; nobody waits for its result, failures are logged.

    Args:
        node: Owner of the action client.
        configuration: The settings.

    Raises:
        ConfigurationError: control_msgs is not installed.
    """

    def __init__(self, node: LifecycleNode, configuration: Configuration) -> None:
        action = _gripper_action()
        from rclpy.action import ActionClient

        self._goal: Any = action.Goal
        self._effort = configuration.command.gripper_effort
        self._name = configuration.topics.gripper_command
        self._logger = node.get_logger()
        self._client = ActionClient(node, action, self._name)

    def move(self, position: float) -> bool:
        """Send a position; returns whether it was sent: there must be a server."""
        if not self._client.server_is_ready():
            self._logger.warning(
                f"no action server on {self._name}: the gripper is not moved until there is one",
                throttle_duration_sec=5.0,
            )
            return False
        goal = self._goal()
        goal.command.position, goal.command.max_effort = position, self._effort

        def on_answer(answer: Any) -> None:
            if answer.result().accepted:
                answer.result().get_result_async().add_done_callback(on_end)
            else:
                self._logger.warning(f"{self._name} refused to move the gripper to {position:g}")

        def on_end(end: Any) -> None:
            if end.result().status == GoalStatus.STATUS_ABORTED:
                self._logger.warning(f"{self._name} gave up moving the gripper to {position:g}")

        self._client.send_goal_async(goal).add_done_callback(on_answer)
        return True

    def destroy(self) -> None:
        """End what was created on the node."""
        self._client.destroy()


def _gripper_action() -> Any:
    try:
        from control_msgs.action import GripperCommand
    except ImportError as error:
        raise ConfigurationError(
            f"command.gripper_output = action needs control_msgs ({error}): install it "
            "(ros-$ROS_DISTRO-control-msgs on Debian and Ubuntu), or use command.gripper_output = trajectory"
        ) from None
    return GripperCommand


def check_gripper(configuration: Configuration) -> None:
    """Look for what the gripper takes, before a policy is loaded for minutes.

    Raises:
        ConfigurationError: It is not installed.
    """
    if configuration.topics.gripper_command and configuration.command.gripper_output == "action":
        _gripper_action()


def gripper_of(node: LifecycleNode, configuration: Configuration) -> GripperTrajectories | GripperAction | None:
    """What moves the gripper; None for a robot without one.

    Raises:
        ConfigurationError: What it takes is not installed.
    """
    if not configuration.topics.gripper_command:
        return None
    kind = GripperAction if configuration.command.gripper_output == "action" else GripperTrajectories
    return kind(node, configuration)

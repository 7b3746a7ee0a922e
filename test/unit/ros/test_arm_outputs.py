"""Commands as messages of each output; nothing here needs a running node."""

import sys
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from action_msgs.msg import GoalStatus
from geometry_msgs.msg import PoseStamped, TwistStamped
from rclpy.duration import Infinite
from rclpy.qos import QoSProfile
from rclpy.task import Future
from trajectory_msgs.msg import JointTrajectory

from sqap_vla_ros.config.files import ConfigurationError
from sqap_vla_ros.config.robot import Command as CommandSettings
from sqap_vla_ros.config.robot import Configuration, Frames, Topics
from sqap_vla_ros.control.commands import Command
from sqap_vla_ros.control.outputs import Message, ToolPose, ToolTwist
from sqap_vla_ros.control.trajectory import Trajectory
from sqap_vla_ros.perception.transforms import rotation_from_rpy, transform_from
from sqap_vla_ros.ros.arm_publishers import ArmPublisher, GripperAction, check_gripper, gripper_of

STAMP_NS = 12 * 10**9 + 5


class StandInNode:
    """Collects what would be published, and warnings."""

    def __init__(self) -> None:
        self.published: list[tuple[type, str, Any]] = []
        self.warnings: list[str] = []
        self.listeners = 1

    def create_lifecycle_publisher(self, kind: type, topic: str, depth: int) -> SimpleNamespace:
        return SimpleNamespace(
            publish=lambda message: self.published.append((kind, topic, message)),
            get_subscription_count=lambda: self.listeners,
            topic_name=topic,
        )

    def count_subscribers(self, topic: str) -> int:
        return self.listeners

    def get_namespace(self) -> str:
        return "/"

    def get_subscriptions_info_by_topic(self, topic: str) -> list[SimpleNamespace]:
        qos = QoSProfile(depth=1, deadline=Infinite, liveliness_lease_duration=Infinite)
        found = SimpleNamespace(
            node_name="gripper_controller",
            node_namespace="/",
            endpoint_gid=[1],
            topic_type="trajectory_msgs/msg/JointTrajectory",
            qos_profile=qos,
        )
        return [found] * self.listeners

    def get_logger(self) -> SimpleNamespace:
        return SimpleNamespace(warning=lambda words, **_: self.warnings.append(words))


def configuration(**command: object) -> Configuration:
    topics = Topics(command="/arm", gripper_command="/gripper")
    settings = CommandSettings(
        **{"joints": ("a", "b"), "gripper_joint": "finger", "gripper_controller": "gripper_controller", **command}
    )
    return Configuration(frames=Frames(base="base"), topics=topics, command=settings)


def published(output: str, message: Message) -> Any:
    node = StandInNode()
    ArmPublisher(node, configuration(output=output)).publish(message)  # type: ignore[arg-type]
    ((kind, topic, sent),) = node.published
    assert isinstance(sent, kind) and topic == "/arm"
    return sent


@pytest.mark.parametrize("output", ["servo_pose", "cartesian_pose"])
def test_poses_are_stamped_poses_in_the_base_frame(output: str) -> None:
    T = transform_from((0.1, 0.2, 0.3), rotation_from_rpy((0, 0, np.pi)))
    sent = published(output, ToolPose(STAMP_NS, T))
    assert isinstance(sent, PoseStamped)
    assert (sent.header.frame_id, sent.header.stamp.sec, sent.header.stamp.nanosec) == ("base", 12, 5)
    assert (sent.pose.position.x, sent.pose.position.y, sent.pose.position.z) == (0.1, 0.2, 0.3)
    assert abs(sent.pose.orientation.z) == pytest.approx(1)


def test_twists_are_stamped_twists_in_the_base_frame() -> None:
    sent = published("servo_twist", ToolTwist(STAMP_NS, np.array([0.1, 0.0, -0.2]), np.array([0.0, 0.3, 0.0])))
    assert isinstance(sent, TwistStamped) and sent.header.frame_id == "base"
    assert (sent.twist.linear.x, sent.twist.linear.z, sent.twist.angular.y) == (0.1, -0.2, 0.3)


def test_trajectories_are_those_of_the_arms_joints() -> None:
    points = np.array([[0.1, 0.2]])
    sent = published(
        "joint_trajectory", Command(Trajectory(np.ones(1), points, points, points), STAMP_NS, STAMP_NS, None, ())
    )
    assert isinstance(sent, JointTrajectory) and sent.joint_names == ["a", "b"]
    assert list(sent.points[0].positions) == [0.1, 0.2]


def test_a_gripper_is_moved_by_a_trajectory_of_its_joint() -> None:
    node = StandInNode()
    gripper = gripper_of(node, configuration())  # type: ignore[arg-type]
    assert gripper is not None and gripper.move(0.03)
    ((_, topic, sent),) = node.published
    assert topic == "/gripper" and sent.joint_names == ["finger"] and list(sent.points[0].positions) == [0.03]


def test_a_gripper_whose_controller_is_not_there_yet_is_not_taken_for_moved() -> None:
    node = StandInNode()
    gripper = gripper_of(node, configuration())  # type: ignore[arg-type]
    node.listeners = 0
    assert gripper is not None and not gripper.move(0.03)
    assert node.published == [] and "nothing listens on /gripper" in node.warnings[-1]


def test_a_robot_without_a_gripper_has_nothing_that_moves_it() -> None:
    assert gripper_of(StandInNode(), Configuration()) is None  # type: ignore[arg-type]


@pytest.mark.parametrize("output", ["action", "parallel_action"])
def test_a_gripper_action_without_its_messages_is_told_in_a_sentence(
    monkeypatch: pytest.MonkeyPatch, output: str
) -> None:
    monkeypatch.setitem(sys.modules, "control_msgs", None)
    with pytest.raises(ConfigurationError, match=r"needs control_msgs .*install it .*gripper_output = trajectory"):
        gripper_of(StandInNode(), configuration(gripper_output=output))  # type: ignore[arg-type]
    with pytest.raises(ConfigurationError, match="needs control_msgs"):
        check_gripper(configuration(gripper_output=output))
    check_gripper(configuration())


def test_messages_that_are_too_old_for_a_parallel_gripper_are_told_in_a_sentence(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    old = SimpleNamespace(action=SimpleNamespace(GripperCommand=None))
    monkeypatch.setitem(sys.modules, "control_msgs", old)
    with pytest.raises(ConfigurationError, match=r"ParallelGripperCommand, and the control_msgs .* too old .*update"):
        check_gripper(configuration(gripper_output="parallel_action"))
    check_gripper(configuration(gripper_output="action"))


class StandInServer:
    """An action client's side of a gripper whose answers are set by hand."""

    def __init__(self, *_: object) -> None:
        self.is_ready = True
        self.accepts = True
        self.status = GoalStatus.STATUS_SUCCEEDED
        self.goals: list[float] = []

    def server_is_ready(self) -> bool:
        return self.is_ready

    def send_goal_async(self, goal: Any) -> Future:
        self.goals.append(goal.command.position)
        ended, answered = Future(), Future()
        ended.set_result(SimpleNamespace(status=self.status))
        answered.set_result(SimpleNamespace(accepted=self.accepts, get_result_async=lambda: ended))
        return answered


def test_a_gripper_action_that_does_not_do_what_it_is_told_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rclpy.action.ActionClient", StandInServer)
    warnings: list[str] = []
    logger = SimpleNamespace(warning=lambda words, **_: warnings.append(words))
    gripper = gripper_of(SimpleNamespace(get_logger=lambda: logger), configuration(gripper_output="action"))  # type: ignore[arg-type]
    assert isinstance(gripper, GripperAction)
    server: Any = gripper._client
    assert gripper.move(0.01) and server.goals == [0.01] and not warnings
    server.status = GoalStatus.STATUS_ABORTED
    assert gripper.move(0.02) and "/gripper gave up" in warnings[-1]
    server.accepts = False
    assert gripper.move(0.03) and "/gripper refused" in warnings[-1]
    server.is_ready = False
    monkeypatch.setattr("sqap_vla_ros.ros.arm_publishers.offered_actions", lambda node, name: ())
    assert not gripper.move(0.04) and "no action server on /gripper" in warnings[-1]
    assert server.goals == [0.01, 0.02, 0.03] and len(warnings) == 3

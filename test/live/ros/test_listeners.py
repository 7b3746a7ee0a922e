"""Who listens on the command topic: the arm follows its controller's coming and going, and nobody else's."""

from collections.abc import Callable, Iterator

import pytest
from geometry_msgs.msg import PoseStamped
from live_cell import Cell
from rclpy.context import Context
from rclpy.node import Node
from sqap_vla.msg import PolicyStatus
from trajectory_msgs.msg import JointTrajectory

from sqap_vla_ros.core.rejection import Cause
from sqap_vla_ros.ros.command_sender import CommandSender
from sqap_vla_ros.testing.synthetic_robot import COMMAND_TOPIC, COMMANDS

MakeCell = Callable[..., Cell]


@pytest.fixture
def holds(monkeypatch: pytest.MonkeyPatch) -> list[Cause]:
    """Why the arm was brought to rest."""
    causes: list[Cause] = []
    hold = CommandSender.hold

    def note(sender: CommandSender, cause: Cause, sentence: str, clock_jump_ns: int = 0) -> None:
        causes.append(cause)
        hold(sender, cause, sentence, clock_jump_ns)

    monkeypatch.setattr(CommandSender, "hold", note)
    return causes


@pytest.fixture
def recorder(ros: None) -> Iterator[Node]:
    """A node that records commands."""
    node = Node("rosbag2_recorder")
    node.create_subscription(JointTrajectory, COMMAND_TOPIC, lambda message: None, COMMANDS)
    yield node
    node.destroy_node()


def connected(cell: Cell, count: int) -> bool:
    return cell.node.count_subscribers(COMMAND_TOPIC) == count


def test_whoever_merely_listens_may_come_and_go(make_cell: MakeCell, holds: list[Cause], recorder: Node) -> None:
    cell = make_cell()
    cell.start()
    cell.spin_until(lambda: len(cell.robot.commands) >= 3 and connected(cell, 2))
    for name in ("_ros2cli_4711", "dashboard"):
        listener = Node(name)
        listener.create_subscription(JointTrajectory, COMMAND_TOPIC, lambda message: None, COMMANDS)
        cell.spin_until(lambda: connected(cell, 3))
        cell.spin_for_chunks(2)
        listener.destroy_node()
        cell.spin_until(lambda: connected(cell, 2))
        cell.spin_for_chunks(2)
    assert Cause.CONTROLLER_LOST not in holds
    assert cell.status.controller == "/synthetic_robot"


def test_a_recorder_hides_neither_a_missing_controller_nor_one_of_another_type(
    make_cell: MakeCell, holds: list[Cause], recorder: Node
) -> None:
    cell = make_cell()
    cell.start()
    cell.spin_until(lambda: len(cell.robot.commands) >= 3)
    cell.robot.disconnect()
    cell.spin_until(lambda: "listens only /rosbag2_recorder" in cell.status.detail)
    assert cell.reports(PolicyStatus.WAITING, Cause.NO_CONTROLLER) and cell.status.controller == ""
    assert Cause.CONTROLLER_LOST in holds
    elsewhere = Context()  # one process cannot have two types under one name
    elsewhere.init()
    servo = Node("joint_trajectory_controller", context=elsewhere)
    servo.create_subscription(PoseStamped, COMMAND_TOPIC, lambda message: None, 1)
    cell.spin_until(lambda: cell.reports(PolicyStatus.WAITING, Cause.CONTROLLER_INCOMPATIBLE))
    assert "takes geometry_msgs/msg/PoseStamped" in cell.status.detail
    servo.destroy_node()
    elsewhere.shutdown()
    count = len(cell.robot.commands)
    cell.robot.connect(COMMANDS)
    cell.spin_until(lambda: len(cell.robot.commands) > count)


def test_a_controller_that_is_started_again_between_two_looks_is_noticed(
    make_cell: MakeCell, holds: list[Cause]
) -> None:
    cell = make_cell(**{"command.controller": "/synthetic_robot"})
    cell.start()
    cell.spin_until(lambda: len(cell.robot.commands) >= 3)
    cell.robot.restart_controller()
    cell.robot.connect(COMMANDS)
    cell.spin_until(lambda: Cause.CONTROLLER_LOST in holds)


def test_only_the_controller_that_the_robot_file_names_counts(make_cell: MakeCell) -> None:
    cell = make_cell(**{"command.controller": "arm_driver"})
    cell.start()
    cell.spin_until(lambda: "listens only /synthetic_robot, and /arm_driver does not" in cell.status.detail)
    assert cell.reports(PolicyStatus.WAITING, Cause.NO_CONTROLLER)
    assert cell.robot.commands == []


def test_a_controller_is_asked_how_it_joins_trajectories_before_the_arm_moves(make_cell: MakeCell) -> None:
    cell = make_cell()
    cell.robot.declare_parameter("allow_trajectory_replacement", True)
    cell.start()
    cell.spin_until(lambda: len(cell.robot.commands) >= 3)
    assert cell.node._loop is not None and cell.node._loop.inputs.speed_scaling.time.replaces
    # It has time to get to the first point, from wherever it is.
    assert all(command.points[0].time_from_start.nanosec * 1e-9 > 0.1 for command in cell.robot.commands)

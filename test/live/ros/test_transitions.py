"""What could move an arm unasked: transitions, exits and changes in the middle of things."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import faulty_policies
import numpy as np
import pytest
import yaml
from geometry_msgs.msg import Twist, TwistStamped
from live_cell import Cell
from rclpy.clock import ClockType
from rclpy.parameter import Parameter
from sqap_vla.msg import PolicyStatus
from std_msgs.msg import String
from trajectory_msgs.msg import JointTrajectory

from sqap_vla_ros.core.rejection import Cause
from sqap_vla_ros.testing.random_checkpoint import write_random_checkpoint
from sqap_vla_ros.testing.synthetic_robot import LATCHED, SyntheticRobot, arm_urdf, parameters

MakeCell = Callable[..., Cell]


def jumps(cell: Cell) -> list[object]:
    return [violation for violation in cell.robot.controller.violations if violation.kind == "jump"]


def ends_at_rest(command: JointTrajectory) -> bool:
    return bool(np.allclose(command.points[-1].velocities, 0))


def test_a_plan_that_returns_after_deactivating_leaves_no_trace(make_cell: MakeCell) -> None:
    cell = make_cell(faulty_policies.slow)
    cell.start()
    for _ in range(3):
        wanted = len(cell.robot.commands) + 5
        cell.spin_until(lambda wanted=wanted: len(cell.robot.commands) >= wanted)
        cell.node.trigger_deactivate()  # with a plan of 150 ms on its way
        count = len(cell.robot.commands)
        cell.spin_for_statuses(2)
        assert len(cell.robot.commands) <= count + 1  # the ramp
        cell.node.trigger_activate()
    cell.spin_for_chunks(2)
    assert jumps(cell) == [] and cell.robot.controller.rejections == []


def test_an_error_in_the_ramp_does_not_keep_the_node_commanding(
    make_cell: MakeCell, monkeypatch: pytest.MonkeyPatch
) -> None:
    cell = make_cell()
    cell.start()
    cell.spin_until(lambda: len(cell.robot.commands) >= 3)

    def fail(*_: object) -> None:
        raise ArithmeticError("no ramp")

    monkeypatch.setattr("sqap_vla_ros.control.commander.stop_trajectory", fail)
    cell.node.trigger_deactivate()
    count = len(cell.robot.commands)
    cell.spin_for_statuses(4)
    assert len(cell.robot.commands) <= count + 1  # one may have been on its way
    assert cell.status.state == PolicyStatus.INACTIVE


def test_the_same_robot_description_again_changes_nothing(make_cell: MakeCell) -> None:
    cell = make_cell()
    publisher = cell.robot.create_publisher(String, "/robot_description", LATCHED)
    cell.start()
    cell.spin_until(lambda: len(cell.robot.commands) >= 3)
    cell.spin_for_statuses(2)  # what was refused before the first robot model is counted in these
    refused = cell.status.commands_refused
    publisher.publish(String(data=arm_urdf()))
    wanted = len(cell.robot.commands) + 10
    cell.spin_until(lambda: len(cell.robot.commands) >= wanted)
    assert cell.status.commands_refused == refused and jumps(cell) == []


def test_a_useless_robot_description_stops_the_arm_and_is_named(make_cell: MakeCell) -> None:
    cell = make_cell()
    publisher = cell.robot.create_publisher(String, "/robot_description", LATCHED)
    cell.start()
    cell.spin_until(lambda: len(cell.robot.commands) >= 3)
    publisher.publish(String(data="<robot/>"))
    cell.spin_until(lambda: cell.status.cause == Cause.ROBOT_MODEL_UNUSABLE)
    cell.spin_for_statuses(1)  # the ramp has arrived by then
    count = len(cell.robot.commands)
    cell.spin_for_statuses(3)
    assert len(cell.robot.commands) == count and ends_at_rest(cell.robot.commands[-1])


def test_switching_to_a_dry_run_brings_the_arm_to_rest(make_cell: MakeCell) -> None:
    cell = make_cell()
    cell.start()
    cell.spin_until(lambda: len(cell.robot.commands) >= 3)
    cell.node.set_parameters([Parameter("dry_run", value=True)])
    cell.spin_for_chunks(3)
    count = len(cell.robot.commands)
    cell.spin_for_chunks(3)
    assert len(cell.robot.commands) == count and ends_at_rest(cell.robot.commands[-1])
    cell.node.set_parameters([Parameter("dry_run", value=False)])
    cell.spin_until(lambda: len(cell.robot.commands) > count)
    assert jumps(cell) == []


@pytest.mark.parametrize("velocity", [[], [float("nan")] * 6], ids=["not reported", "NaN"])
def test_an_arm_that_reports_no_velocities_can_be_driven(make_cell: MakeCell, velocity: list[float]) -> None:
    cell = make_cell()
    cell.robot.reported_velocity = velocity
    cell.start()
    cell.spin_until(lambda: len(cell.robot.commands) >= 10)
    assert jumps(cell) == []


def test_without_a_clock_the_status_says_so(make_cell: MakeCell) -> None:
    cell = make_cell(use_sim_time=True)
    cell.start()
    cell.spin_until(lambda: cell.status.cause == Cause.NO_TIME)
    assert cell.robot.commands == []


@pytest.mark.parametrize(
    "function",
    ["sqap_vla_ros.control.targets.integrate", "sqap_vla_ros.ros.latest_inputs.FrozenCamera.check"],
    ids=["motion", "image"],
)
def test_an_unexpected_error_while_something_is_planned_is_a_refusal(
    make_cell: MakeCell, monkeypatch: pytest.MonkeyPatch, function: str
) -> None:
    cell = make_cell()
    cell.start()
    cell.spin_until(lambda: len(cell.robot.commands) >= 3)

    def fail(*_: object) -> None:
        raise ZeroDivisionError("somewhere deep")

    monkeypatch.setattr(function, fail)
    cell.spin_until(lambda: cell.status.last_rejection_cause == Cause.INTERNAL_ERROR)
    assert "ZeroDivisionError: somewhere deep" in cell.status.last_refusal
    monkeypatch.undo()
    count = len(cell.robot.commands)
    cell.spin_until(lambda: len(cell.robot.commands) > count)


def test_sigterm_ends_the_executable_with_the_arm_at_rest(tmp_path: Path, ros: None) -> None:
    checkpoint = write_random_checkpoint(tmp_path / "run", size="tiny")
    values = parameters(instruction="pick up the can", checkpoint=str(checkpoint), autostart=True)
    file = tmp_path / "parameters.yaml"
    file.write_text(yaml.safe_dump({"/**": {"ros__parameters": values}}))
    robot = SyntheticRobot(width=160, height=120)
    command = [sys.executable, "-m", "sqap_vla_ros.ros.main", "--ros-args", "--params-file", str(file)]
    with subprocess.Popen(command, env=dict(os.environ)) as node:
        try:
            robot.spin_until(lambda: len(robot.commands) >= 5, deadline_s=60)
            node.send_signal(signal.SIGTERM)
            robot.spin_until(lambda: node.poll() is not None)
        finally:
            node.kill()
    robot.spin_until(lambda: robot.rests)
    assert node.returncode == 0 and ends_at_rest(robot.commands[-1])
    robot.destroy_node()


def test_twists_end_with_zero_when_the_node_is_deactivated(make_cell: MakeCell) -> None:
    cell = make_cell(**{"command.output": "servo_twist", "topics.command": "/twists"})
    twists: list[TwistStamped] = []
    cell.robot.create_subscription(TwistStamped, "/twists", twists.append, 100)
    cell.start()
    # Not the ROS clock: set back, it would silence the timer and leave the last twist in force.
    assert cell.node._stream_timer.clock.clock_type == ClockType.STEADY_TIME
    cell.spin_until(lambda: bool(twists) and twists[-1].twist != Twist())
    cell.node.trigger_deactivate()
    cell.spin_until(lambda: twists[-1].twist == Twist())  # the ramp's messages wait in the robot's queue
    count = len(twists)
    cell.spin_for_statuses(3)
    assert all(message.twist == Twist() for message in twists[count - 1 :])


def test_an_executable_that_cannot_configure_ends_with_status_1_where_it_is_asked_to(tmp_path: Path) -> None:
    file = tmp_path / "parameters.yaml"
    values = {"autostart": True, "exit_on_failure": True, "limits.step": -1.0}
    file.write_text(yaml.safe_dump({"/**": {"ros__parameters": values}}))
    command = [sys.executable, "-m", "sqap_vla_ros.ros.main", "--ros-args", "--params-file", str(file)]
    assert subprocess.run(command, env=dict(os.environ), timeout=60).returncode == 1

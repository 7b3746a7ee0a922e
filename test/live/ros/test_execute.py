"""An instruction as a goal of the action ~/execute, sent by rclpy's own client."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from action_msgs.msg import GoalStatus
from live_cell import Cell
from rclpy.action import ActionClient
from rclpy.node import Node
from sqap_vla.action import ExecuteInstruction
from std_srvs.srv import Trigger

from sqap_vla_ros.core.rejection import Cause
from sqap_vla_ros.testing.synthetic_robot import SyntheticRobot, parameters

MakeCell = Callable[..., Cell]
MakeClient = Callable[[Cell], "Client"]
Result = ExecuteInstruction.Result


class Client:
    """A client of the action on a node of its own.

    Args:
        node: Its node.
        spin_until: Exchanges messages until something is so.
    """

    def __init__(self, node: Node, spin_until: Callable[[Callable[[], bool]], None]) -> None:
        self.feedback: list[ExecuteInstruction.Feedback] = []
        self._spin_until = spin_until
        self._client: Any = ActionClient(node, ExecuteInstruction, "/sqap_vla/execute")
        spin_until(self._client.server_is_ready)

    def wait(self, future: Any) -> Any:
        self._spin_until(future.done)
        return future.result()

    def send(self, instruction: str = "pick up the can", timeout: float = 0.0) -> Any:
        """rclpy's handle of the goal."""
        goal = ExecuteInstruction.Goal(instruction=instruction, timeout=timeout)
        return self.wait(self._client.send_goal_async(goal, lambda message: self.feedback.append(message.feedback)))

    def destroy(self) -> None:
        """A node whose client is left keeps being seen by others after its own end."""
        if self._client is not None:
            self._client.destroy()
            self._client = None


@pytest.fixture
def make_client(make_cell: MakeCell) -> Iterator[MakeClient]:
    clients: list[Client] = []

    def make(cell: Cell) -> Client:
        clients.append(Client(cell.robot, cell.spin_until))
        return clients[-1]

    yield make
    for client in clients:
        client.destroy()


def test_a_goal_moves_the_arm_and_its_cancellation_is_answered_when_the_arm_is_at_rest(
    make_cell: MakeCell, make_client: MakeClient
) -> None:
    cell = make_cell(instruction="")
    client = make_client(cell)
    assert not client.send().accepted  # the node is not configured
    cell.start()
    goal = client.send()
    assert goal.accepted
    result = goal.get_result_async()
    cell.spin_until(lambda: len(cell.robot.commands) >= 5 and not cell.robot.rests and len(client.feedback) >= 2)
    assert cell.status.instruction == "pick up the can"
    client.wait(goal.cancel_goal_async())
    while not result.done():
        is_at_rest = cell.robot.rests
        cell.executor.spin_once(timeout_sec=0.1)
    assert is_at_rest
    assert (result.result().status, result.result().result.outcome) == (GoalStatus.STATUS_CANCELED, Result.CANCELED)
    assert result.result().result.plans > 0
    cell.forget_statuses()
    assert (cell.status.instruction, cell.status.cause) == ("", Cause.NO_INSTRUCTION)
    assert client.feedback[-1].plans <= result.result().result.plans


def test_a_newer_goal_ends_the_one_before_and_a_stop_ends_that(make_cell: MakeCell, make_client: MakeClient) -> None:
    cell = make_cell(instruction="")
    cell.start()
    client = make_client(cell)
    first, second = client.send("pick up the can"), client.send("open the drawer")
    answer = client.wait(first.get_result_async())
    assert (answer.status, answer.result.outcome) == (GoalStatus.STATUS_ABORTED, Result.PREEMPTED)
    cell.spin_until(lambda: bool(cell.chunks) and cell.chunks[-1].instruction == "open the drawer")
    stop = cell.robot.create_client(Trigger, "/sqap_vla/stop")
    cell.spin_until(stop.service_is_ready)
    client.wait(stop.call_async(Trigger.Request()))
    answer = client.wait(second.get_result_async())
    assert (answer.status, answer.result.outcome) == (GoalStatus.STATUS_ABORTED, Result.ABORTED)
    assert answer.result.cause == Cause.STOPPED_BY_USER and cell.robot.rests
    assert not client.send().accepted


def test_a_client_that_goes_away_leaves_an_arm_at_rest(make_cell: MakeCell, make_client: MakeClient) -> None:
    cell = make_cell(instruction="")
    cell.start()
    client = make_client(cell)
    assert client.send().accepted
    cell.spin_until(lambda: len(cell.robot.commands) >= 5 and not cell.robot.rests)
    client.destroy()
    cell.spin_until(lambda: cell.robot.rests and cell.status.cause == Cause.NO_INSTRUCTION)


def test_a_client_learns_that_the_node_was_ended(ros: None, tmp_path: Path) -> None:
    settings = {"/**": {"ros__parameters": parameters(autostart=True)}}
    file = tmp_path / "parameters.yaml"
    file.write_text(yaml.safe_dump(settings))
    program = "sqap_vla_ros.testing.fault_injecting_node"
    command = [sys.executable, "-m", program, "--ros-args", "--params-file", str(file)]
    robot = SyntheticRobot(width=160, height=120)
    with subprocess.Popen(command, env=dict(os.environ)) as node:
        try:
            client = Client(robot, lambda condition: robot.spin_until(condition, 60.0))
            handles: list[Any] = []

            def is_accepted() -> bool:
                handles.append(client.send("go round"))
                return bool(handles[-1].accepted)

            robot.spin_until(is_accepted, 60.0)  # once it is active
            result = handles[-1].get_result_async()
            robot.spin_until(lambda: len(robot.commands) >= 10 and not robot.rests)
            node.send_signal(signal.SIGTERM)
            answer = client.wait(result)
            assert answer.status == GoalStatus.STATUS_ABORTED and answer.result.cause == Cause.NOT_ACTIVE
            assert node.wait(10.0) == 0
            client.destroy()
        finally:
            node.kill()
            robot.destroy_node()


@pytest.mark.parametrize("then", ["deactivate", "cleanup"])
def test_a_transition_ends_a_goal_with_its_cause(make_cell: MakeCell, make_client: MakeClient, then: str) -> None:
    cell = make_cell(instruction="")
    cell.start()
    client = make_client(cell)
    result = client.send().get_result_async()
    cell.spin_until(lambda: len(cell.robot.commands) >= 5)
    cell.node.trigger_deactivate()
    if then == "cleanup":
        cell.node.trigger_cleanup()
    answer = client.wait(result)
    assert answer.status == GoalStatus.STATUS_ABORTED and answer.result.cause == Cause.NOT_ACTIVE
    assert not client.send().accepted

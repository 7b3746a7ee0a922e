"""Grippers as action servers, with the real messages: each kind takes its own goals, and another kind is named."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from control_msgs.action import GripperCommand, ParallelGripperCommand
from rclpy.action import ActionServer
from rclpy.context import Context
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node

from sqap_vla_ros.config.robot import Command, Configuration, Topics
from sqap_vla_ros.ros.arm_publishers import GripperAction

NAME = "/robotiq_gripper_controller/gripper_cmd"


class Gripper:
    """An action server that keeps its goals, and a client that moves it, as in two processes."""

    def __init__(self, served: Any, output: str, effort: float) -> None:
        self._context = Context()
        self._context.init()
        self._controller = Node("robotiq_gripper_controller", context=self._context)
        self._node = Node("sqap_vla")
        self.warnings: list[str] = []
        self.goals: list[Any] = []
        self._server = ActionServer(self._controller, served, NAME, self._execute)
        command = Command(gripper_joint="knuckle", gripper_output=output, gripper_effort=effort)  # type: ignore[arg-type]
        configuration = Configuration(topics=Topics(gripper_command=NAME), command=command)
        self.action = GripperAction(self._node, configuration)  # type: ignore[arg-type]
        self.action._logger = self  # type: ignore[assignment]
        self._served = served
        self._executors = SingleThreadedExecutor(), SingleThreadedExecutor(context=self._context)
        for executor, node in zip(self._executors, (self._node, self._controller), strict=True):
            executor.add_node(node)

    def warning(self, text: str, **_: object) -> None:
        self.warnings.append(text)

    def _execute(self, handle: Any) -> Any:
        self.goals.append(handle.request.command)
        handle.abort() if len(self.goals) > 1 else handle.succeed()
        return self._served.Result()

    def spin_until(self, condition: Callable[[], bool]) -> None:
        for _ in range(600):
            if condition():
                return
            for executor in self._executors:
                executor.spin_once(timeout_sec=0.02)
        raise TimeoutError(f"goals: {self.goals}, warnings: {self.warnings}")

    def close(self) -> None:
        for executor in self._executors:
            executor.shutdown()
        self.action.destroy()
        self._server.destroy()
        self._node.destroy_node()
        self._controller.destroy_node()
        self._context.shutdown()


@pytest.fixture
def make_gripper(ros: None) -> Iterator[Callable[..., Gripper]]:
    grippers: list[Gripper] = []

    def make(served: Any, output: str, effort: float = 40.0) -> Gripper:
        grippers.append(Gripper(served, output, effort))
        return grippers[-1]

    yield make
    for gripper in grippers:
        gripper.close()


@pytest.mark.parametrize("effort", [0.0, 40.0])
def test_a_parallel_gripper_takes_joint_position_and_effort(
    make_gripper: Callable[..., Gripper], effort: float
) -> None:
    gripper = make_gripper(ParallelGripperCommand, "parallel_action", effort)
    gripper.spin_until(lambda: gripper.action.move(0.7))
    gripper.spin_until(lambda: bool(gripper.goals))
    goal = gripper.goals[0]
    assert (goal.name, list(goal.position), list(goal.effort)) == (["knuckle"], [0.7], [effort] if effort else [])
    assert list(goal.velocity) == []
    assert gripper.action.move(0.1)
    gripper.spin_until(lambda: any(f"{NAME} gave up moving the gripper to 0.1" in text for text in gripper.warnings))


def test_a_gripper_command_takes_position_and_effort(make_gripper: Callable[..., Gripper]) -> None:
    gripper = make_gripper(GripperCommand, "action")
    gripper.spin_until(lambda: gripper.action.move(0.04))
    gripper.spin_until(lambda: bool(gripper.goals))
    assert (gripper.goals[0].position, gripper.goals[0].max_effort) == (0.04, 40.0)


@pytest.mark.parametrize(
    ("served", "output", "right"),
    [(ParallelGripperCommand, "action", "parallel_action"), (GripperCommand, "parallel_action", "action")],
)
def test_a_gripper_of_the_other_kind_is_named_with_what_to_set(
    make_gripper: Callable[..., Gripper], served: Any, output: str, right: str
) -> None:
    gripper = make_gripper(served, output)

    def is_named() -> bool:
        assert not gripper.action.move(0.7)
        return f"of type control_msgs/action/{served.__name__}" in gripper.warnings[-1]

    gripper.spin_until(is_named)
    assert gripper.warnings[-1].split(": ", 2)[2] == f"set command.gripper_output to {right}; the gripper is not moved"
    assert gripper.goals == []

"""The server of the action ~/execute on a loop that is driven by hand, without a network."""

from types import SimpleNamespace
from typing import Any

import pytest
from hand_driven_loop import HandDrivenLoop
from rclpy.action import GoalResponse
from sqap_vla.action import ExecuteInstruction

from sqap_vla_ros.ros import execute_action
from sqap_vla_ros.ros.control_loop import ControlLoop
from sqap_vla_ros.ros.execute_action import ExecuteAction

CLIENT = SimpleNamespace(endpoint_gid=[1, 2, 3])


class Handle:
    """A goal as rclpy's server hands it over."""

    def __init__(self, goal: ExecuteInstruction.Goal) -> None:
        self.request = goal
        self.is_cancel_requested = False
        self.status = "accepted"
        self.feedback: list[ExecuteInstruction.Feedback] = []
        self.publish_feedback = self.feedback.append
        self._coroutine: Any = None
        self._result: ExecuteInstruction.Result | None = None

    def execute(self, callback: Any) -> None:
        self.status = "executing"
        self._coroutine = callback(self)

    def canceled(self) -> None:
        self.status = "canceled"

    def succeed(self) -> None:
        self.status = "succeeded"

    def abort(self) -> None:
        self.status = "aborted"

    @property
    def result(self) -> ExecuteInstruction.Result:
        """What rclpy sends once the goal has a result."""
        if self._result is None:
            with pytest.raises(StopIteration) as end:
                self._coroutine.send(None)
            self._result = end.value.value
        return self._result

    def close(self) -> None:
        """As an executor that ends."""
        self._coroutine.close()


class ExecuteBench:
    """A loop without an instruction, active and with all inputs, and the action's server on it."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.hand = HandDrivenLoop(instruction="", plan_timeout=1.0)
        self.hand.supervisor.activate()
        self.loop: ControlLoop | None = self.hand.loop
        self.log: list[str] = []
        self.clients = [CLIENT]
        self.handles: list[Handle] = []
        self.has_images = True
        self._steps = 0
        monkeypatch.setattr(execute_action, "ActionServer", self._make_server)
        logger = SimpleNamespace(info=self.log.append, warning=self.log.append)
        node: Any = SimpleNamespace(
            get_logger=lambda: logger,
            resolve_topic_name=lambda name: name,
            get_subscriptions_info_by_topic=lambda topic: list(self.clients),
        )
        self.action = ExecuteAction(node, lambda: self.loop, self.hand.clock)
        self.pass_time(0.5)

    def _make_server(self, node: Any, kind: Any, name: str, **callbacks: Any) -> Any:
        self.callbacks = callbacks
        return SimpleNamespace(destroy=lambda: None)

    def send(self, instruction: str = "pick up the can", timeout: float = 0.0) -> Handle | None:
        """What rclpy does with a goal; None: it was rejected."""
        goal = ExecuteInstruction.Goal(instruction=instruction, timeout=timeout)
        if self.callbacks["goal_callback"](goal) is GoalResponse.REJECT:
            return None
        self.handles.append(Handle(goal))
        self.callbacks["handle_accepted_callback"](self.handles[-1])
        return self.handles[-1]

    def accepted(self, instruction: str = "pick up the can", timeout: float = 0.0) -> Handle:
        handle = self.send(instruction, timeout)
        assert handle is not None
        return handle

    def pass_time(self, seconds: float) -> None:
        """In steps of 50 ms, with an image and a plan at each fifth."""
        for _ in range(round(seconds / 0.05)):
            self._steps += 1
            self.hand.sends.discard("image")
            if self.has_images and self._steps % 5 == 0:
                self.hand.sends.add("image")
            self.hand.pass_time(0.05)
            self.action.watch()

    def instruct(self, text: str) -> None:
        """As ~/instruction does."""
        if self.hand.supervisor.set_instruction(text):
            self.action.preempt(text)

    @property
    def instruction(self) -> str:
        return self.hand.loop.inputs.instruction

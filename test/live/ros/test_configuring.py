"""While a node configures, when it cannot, and under a lifecycle manager."""

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import faulty_policies
import pytest
from lifecycle_msgs.msg import State, Transition
from lifecycle_msgs.srv import ChangeState, GetState
from live_cell import Cell
from rclpy.context import Context
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from sqap_vla.msg import PolicyStatus
from std_srvs.srv import Trigger

from sqap_vla_ros.core.rejection import Cause

MakeCell = Callable[..., Cell]


class Manager:
    """Another process, which calls the node's services and waits for the answers.

    The order of its calls, and what it asks for after each, are those of nav2's lifecycle manager.
    """

    def __init__(self) -> None:
        self._context = Context()
        self._context.init()
        self.node = Node("lifecycle_manager", context=self._context)
        self._executor = SingleThreadedExecutor(context=self._context)
        self._executor.add_node(self.node)
        # The last one is called until it answers: then the node has discovered all of them, and no answer is lost.
        kinds = {"stop": Trigger, "change_state": ChangeState, "get_state": GetState}
        self._clients = {name: self.node.create_client(kind, f"/sqap_vla/{name}") for name, kind in kinds.items()}

    def get_to_know(self) -> None:
        """Wait until the node would answer."""
        while self._answer("get_state", GetState.Request(), 0.5) is None:
            pass

    def call(self, service: str, request: Any) -> Any:
        answer = self._answer(service, request, 60.0)
        assert answer is not None, f"{service} does not answer"
        return answer

    def _answer(self, service: str, request: Any, timeout_s: float) -> Any:
        client = self._clients[service]
        client.wait_for_service(timeout_sec=timeout_s)
        future = client.call_async(request)
        self._executor.spin_until_future_complete(future, timeout_sec=timeout_s)
        return future.result() if future.done() else None

    def change(self, transition: int, wanted: int) -> bool:
        """Whether a transition succeeds, and the node is then in the state that follows from it."""
        request = ChangeState.Request(transition=Transition(id=transition))
        if not self.call("change_state", request).success:
            return False
        return self.call("get_state", GetState.Request()).current_state.id == wanted

    def close(self) -> None:
        self._executor.shutdown()
        self.node.destroy_node()
        self._context.shutdown()


@pytest.fixture
def manager() -> Iterator[Manager]:
    manager = Manager()
    yield manager
    manager.close()


def spin_until_done(cell: Cell, work: Callable[[], Any]) -> Any:
    """Let the node run while somebody else waits for it."""
    with ThreadPoolExecutor(1) as others:
        future = others.submit(work)
        cell.spin_until(future.done, deadline_s=120.0)
        return future.result()


def test_the_node_can_be_stopped_while_its_policy_is_loading(make_cell: MakeCell, manager: Manager) -> None:
    cell = make_cell(faulty_policies.loading_slowly)
    spin_until_done(cell, manager.get_to_know)
    with ThreadPoolExecutor(1) as others:

        def stop() -> tuple[Trigger.Response, float]:
            answer = manager.call("stop", Trigger.Request())
            return answer, time.monotonic()

        answered = others.submit(stop)
        assert cell.configure()
        configured_s = time.monotonic()
        answer, answered_s = answered.result()
    assert answer.success and answered_s < configured_s
    cell.node.trigger_activate()
    cell.spin_until(lambda: cell.reports(PolicyStatus.STOPPED, Cause.STOPPED_BY_USER))
    assert any(
        status.state == PolicyStatus.UNCONFIGURED
        and status.cause == Cause.STOPPED_BY_USER
        and "~/resume" in status.detail
        for status in cell.statuses
    )
    assert cell.robot.commands == []


def test_a_node_that_cannot_configure_keeps_saying_why_and_what_to_do(
    make_cell: MakeCell, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sqap_vla_ros.ros.node.REMINDER_S", 0.3)
    cell = make_cell(faulty_policies.failing_to_load)
    assert not cell.configure()
    printed: list[str] = []

    def is_reminded() -> bool:
        printed.append(capfd.readouterr().err)
        return "".join(printed).count("still not configured") >= 2

    cell.spin_until(is_reminded)
    line = next(line for line in "".join(printed).splitlines() if "still not configured" in line)
    assert "no room for the weights" in line and "ros2 lifecycle set /sqap_vla configure" in line
    cell.node._policy_factory = faulty_policies.slow
    assert cell.configure()
    capfd.readouterr()
    cell.spin_for_statuses(5)
    assert "still not configured" not in capfd.readouterr().err


def test_nav2s_lifecycle_manager_takes_the_node_up_and_down(make_cell: MakeCell, manager: Manager) -> None:
    """With `bond_timeout: 0.0` it asks for these services alone."""
    cell = make_cell()
    spin_until_done(cell, manager.get_to_know)
    up = ((Transition.TRANSITION_CONFIGURE, State.PRIMARY_STATE_INACTIVE),)
    up += ((Transition.TRANSITION_ACTIVATE, State.PRIMARY_STATE_ACTIVE),)
    down = ((Transition.TRANSITION_DEACTIVATE, State.PRIMARY_STATE_INACTIVE),)
    down += ((Transition.TRANSITION_CLEANUP, State.PRIMARY_STATE_UNCONFIGURED),)
    for transition, state in (*up, *down, *up):
        assert spin_until_done(cell, lambda transition=transition, state=state: manager.change(transition, state))
    cell.spin_until(lambda: len(cell.robot.commands) >= 3)
    for transition, state in down:
        assert spin_until_done(cell, lambda transition=transition, state=state: manager.change(transition, state))
    end = (Transition.TRANSITION_UNCONFIGURED_SHUTDOWN, State.PRIMARY_STATE_FINALIZED)
    assert spin_until_done(cell, lambda: manager.change(*end))
    assert cell.robot.rests or cell.robot.commands[-1].points[-1].velocities[0] == 0
    assert "/bond" not in dict(cell.node.get_topic_names_and_types())

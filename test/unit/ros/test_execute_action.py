"""Goals of ~/execute on a loop that is driven by hand; rclpy's action server is replaced by one without a network."""

import math
from collections.abc import Iterator
from types import SimpleNamespace

import pytest
from execute_bench import CLIENT
from execute_bench import ExecuteBench as Bench

from sqap_vla_ros.control.safety.states import MotionState
from sqap_vla_ros.core.rejection import Cause, Rejection, Response
from sqap_vla_ros.ros.instruction_goal import Outcome


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch) -> Iterator[Bench]:
    bench = Bench(monkeypatch)
    yield bench
    for handle in bench.handles:
        handle.close()


def test_a_goal_moves_the_arm_and_tells_how_it_goes(bench: Bench) -> None:
    handle = bench.accepted("  pick up the can ")
    bench.pass_time(1.0)
    assert bench.instruction == "pick up the can" and bench.hand.output.commands
    assert (handle.status, bench.hand.state) == ("executing", MotionState.RUNNING)
    feedback = handle.feedback[-1]
    assert (feedback.state, feedback.cause, feedback.detail) == (MotionState.RUNNING, "", "")
    assert feedback.elapsed == pytest.approx(1.0, abs=0.25)
    assert feedback.plans == pytest.approx(feedback.elapsed / 0.25, abs=1)
    assert len(handle.feedback) == pytest.approx(5, abs=1)


def test_a_canceled_goal_ends_when_the_arm_is_at_rest_and_leaves_no_instruction(bench: Bench) -> None:
    handle = bench.accepted()
    bench.pass_time(1.0)
    handle.is_cancel_requested = True
    bench.pass_time(0.05)
    assert bench.hand.is_held and bench.instruction == "" and handle.status == "executing"
    ends_ns = (
        bench.hand.output.commands[-1].start_ns + bench.hand.output.commands[-1].trajectory.time_from_start[-1] * 1e9
    )
    while handle.status == "executing":
        bench.pass_time(0.05)
    assert ends_ns <= bench.hand.clock.ros_ns < ends_ns + 0.5e9
    assert handle.status == "canceled" and handle.result.outcome == Outcome.CANCELED
    assert handle.result.cause == "" and handle.result.plans == len(bench.hand.output.chunks)
    count = len(bench.hand.output.commands)
    bench.pass_time(1.0)
    assert len(bench.hand.output.commands) == count and bench.hand.cause == Cause.NO_INSTRUCTION


def test_a_goal_succeeds_when_it_was_followed_for_its_timeout(bench: Bench) -> None:
    handle = bench.accepted(timeout=2.0)
    bench.pass_time(1.9)
    assert handle.status == "executing" and not bench.hand.is_held
    bench.pass_time(0.1)
    assert bench.hand.is_held and bench.instruction == ""
    bench.pass_time(1.5)
    assert handle.status == "succeeded" and handle.result.outcome == Outcome.TIME_OVER
    assert 2.0 < handle.result.duration < 3.5


def test_a_newer_goal_takes_the_place_of_the_one_before_without_a_stop(bench: Bench) -> None:
    first = bench.accepted("pick up the can")
    bench.pass_time(1.0)
    second = bench.accepted("pick up the can")  # the same text is another episode all the same
    assert first.status == "aborted" and first.result.outcome == Outcome.PREEMPTED
    bench.pass_time(1.0)
    assert second.status == "executing" and bench.instruction == "pick up the can"
    assert not any(command.stops for command in bench.hand.output.commands)


def test_a_text_on_the_topic_takes_the_place_of_a_goal(bench: Bench) -> None:
    handle = bench.accepted("pick up the can")
    bench.pass_time(1.0)
    bench.instruct("pick up the can")  # says nothing new
    assert handle.status == "executing"
    bench.instruct("open the drawer")
    assert handle.status == "aborted" and handle.result.outcome == Outcome.PREEMPTED
    assert "open the drawer" in handle.result.detail
    bench.pass_time(1.0)
    assert bench.instruction == "open the drawer" and not bench.hand.is_held


def test_an_empty_text_on_the_topic_brings_the_arm_to_rest(bench: Bench) -> None:
    handle = bench.accepted()
    bench.pass_time(1.0)
    bench.instruct("")
    assert handle.status == "executing"
    bench.pass_time(1.5)
    assert bench.hand.is_held and handle.status == "aborted" and handle.result.outcome == Outcome.PREEMPTED


def test_a_text_on_the_topic_while_a_canceled_arm_comes_to_rest_does_not_change_the_outcome(bench: Bench) -> None:
    handle = bench.accepted()
    bench.pass_time(1.0)
    handle.is_cancel_requested = True
    bench.pass_time(0.05)
    bench.instruct("open the drawer")
    assert handle.status == "canceled" and handle.result.outcome == Outcome.CANCELED
    bench.pass_time(1.0)
    assert bench.instruction == "open the drawer" and bench.hand.state is MotionState.RUNNING


@pytest.mark.parametrize(
    ("instruction", "timeout", "says"),
    [
        ("", 0.0, "empty"),
        (" \n", 0.0, "empty"),
        ("x" * 1001, 0.0, "1001 characters, at most 1000"),
        ("go", -1.0, "timeout is -1 s"),
        ("go", math.nan, "timeout is nan s"),
        ("go", math.inf, "timeout is inf s"),
    ],
)
def test_a_goal_that_means_nothing_is_rejected_and_leaves_the_one_before(
    bench: Bench, instruction: str, timeout: float, says: str
) -> None:
    handle = bench.accepted()
    assert bench.send(instruction, timeout) is None and says in bench.log[-1]
    assert handle.status == "executing" and bench.instruction == "pick up the can"


def test_the_longest_instruction_is_accepted(bench: Bench) -> None:
    assert bench.send("ä" * 1000) is not None


def test_a_goal_is_rejected_while_the_node_is_not_configured_or_not_active(bench: Bench) -> None:
    bench.hand.supervisor.deactivate()
    assert bench.send() is None and "activate" in bench.log[-1]
    bench.loop = None
    assert bench.send() is None and "not active" in bench.log[-1]


def test_a_goal_is_rejected_while_the_arm_is_stopped_or_the_policy_is_dead(bench: Bench) -> None:
    bench.hand.supervisor.stop(Rejection(Cause.STOPPED_BY_USER, Response.STOP, "stopped by ~/stop"))
    assert bench.send() is None and "~/resume" in bench.log[-1]
    bench.hand.supervisor.resume()
    bench.hand.policy.heartbeat_age_s = 10.0
    assert bench.send() is None and "sign of life" in bench.log[-1]


def test_a_goal_may_come_before_the_images(bench: Bench) -> None:
    bench.has_images = False
    bench.pass_time(1.0)
    handle = bench.accepted()
    bench.pass_time(2.0)
    assert (handle.feedback[-1].state, handle.feedback[-1].cause) == (MotionState.WAITING, Cause.IMAGE_STALE)
    bench.has_images = True
    bench.pass_time(5.0)
    assert handle.status == "executing" and bench.hand.state is MotionState.RUNNING


def test_a_goal_that_cannot_begin_is_aborted_with_the_cause(bench: Bench) -> None:
    bench.hand.sends.discard("enable")
    bench.pass_time(1.0)
    handle = bench.accepted()
    bench.pass_time(5.5)
    assert handle.status == "aborted" and handle.result.cause == Cause.NOT_ENABLED
    assert bench.instruction == ""


def test_a_switch_that_is_let_go_holds_the_arm_and_keeps_the_goal(bench: Bench) -> None:
    handle = bench.accepted()
    bench.pass_time(1.0)
    bench.hand.sends.discard("enable")
    bench.pass_time(8.0)
    assert bench.hand.is_held and handle.status == "executing" and handle.feedback[-1].cause == Cause.NOT_ENABLED
    bench.hand.sends.add("enable")
    bench.pass_time(1.0)
    assert not bench.hand.is_held and handle.feedback[-1].state == MotionState.RUNNING


def test_a_stop_aborts_a_goal_and_nothing_of_it_is_left_after_resume(bench: Bench) -> None:
    handle = bench.accepted()
    bench.pass_time(1.0)
    bench.hand.supervisor.stop(Rejection(Cause.STOPPED_BY_USER, Response.STOP, "stopped by ~/stop"))
    bench.action.watch()
    bench.hand.supervisor.resume()
    bench.pass_time(1.5)
    assert handle.status == "aborted" and handle.result.cause == Cause.STOPPED_BY_USER
    assert bench.hand.is_held and bench.hand.cause == Cause.NO_INSTRUCTION


def test_a_deactivation_aborts_a_goal(bench: Bench) -> None:
    handle = bench.accepted()
    bench.pass_time(1.0)
    bench.hand.supervisor.deactivate()
    bench.action.abort("the node was deactivated")
    assert handle.status == "executing"
    bench.pass_time(1.5)
    assert handle.status == "aborted" and handle.result.cause == Cause.NOT_ACTIVE and bench.instruction == ""


def test_a_node_that_is_cleaned_up_or_shut_down_answers_at_once(bench: Bench) -> None:
    handle = bench.accepted()
    bench.pass_time(1.0)
    assert bench.action.has_undelivered_results
    bench.hand.supervisor.deactivate()
    bench.action.abort("the node was shut down")
    bench.action.finish()
    bench.loop = None
    assert handle.status == "aborted" and handle.result.cause == Cause.NOT_ACTIVE
    assert not bench.action.has_undelivered_results
    bench.action.watch()
    bench.action.finish()


def test_a_policy_that_dies_aborts_a_goal(bench: Bench) -> None:
    handle = bench.accepted()
    bench.pass_time(1.0)
    bench.hand.policy.heartbeat_age_s = 10.0
    bench.pass_time(1.5)
    assert handle.status == "aborted" and handle.result.cause == Cause.POLICY_UNRESPONSIVE


def test_a_client_that_has_gone_ends_its_goal_whoever_else_listens(bench: Bench) -> None:
    handle = bench.accepted()
    bench.pass_time(3.0)
    bench.clients.append(SimpleNamespace(endpoint_gid=[9]))  # came later
    bench.pass_time(1.0)
    assert handle.status == "executing"
    bench.clients.remove(CLIENT)
    bench.pass_time(1.5)
    assert bench.hand.is_held and handle.status == "aborted" and handle.result.outcome == Outcome.CLIENT_LOST


def test_a_client_whose_subscription_is_discovered_late_has_not_gone(bench: Bench) -> None:
    bench.clients.clear()
    handle = bench.accepted()
    bench.pass_time(4.0)
    bench.clients.append(CLIENT)
    bench.pass_time(1.0)
    assert handle.status == "executing"


def test_a_clock_that_is_set_back_does_not_keep_a_goal_from_ending(bench: Bench) -> None:
    handle = bench.accepted(timeout=2.0)
    bench.pass_time(1.0)
    bench.hand.clock.ros_ns -= 10**12
    bench.pass_time(3.0)
    assert handle.status == "succeeded"

"""The life of a goal of ~/execute, moment by moment."""

from dataclasses import replace

import numpy as np
import pytest
from sqap_vla.action import ExecuteInstruction

from sqap_vla_ros.control.commands import JointState
from sqap_vla_ros.control.safety.states import MotionState
from sqap_vla_ros.core.rejection import Cause, Rejection, Response
from sqap_vla_ros.ros.instruction_goal import LONGEST_REST_S, START_S, ArmReading, Ending, InstructionGoal, Outcome

BEGIN_S = 100.0
STALE = Rejection(Cause.IMAGE_STALE, Response.HOLD, "the last image is old")


def joints(position: float = 0.0, at_s: float = 0.0) -> JointState:
    return JointState(np.array([position, 1.0]), np.zeros(2), round(at_s * 1e9))


MOVING = ArmReading(MotionState.RUNNING, None, True, joints(), plans=7, steady_s=BEGIN_S)
WAITING = replace(MOVING, state=MotionState.WAITING, why=STALE, is_commanded=False)


def watch(goal: InstructionGoal, arm: ArmReading, is_canceled: bool = False, has_client: bool = True) -> bool:
    return goal.watch(arm, is_canceled=is_canceled, has_client=has_client)


def after(arm: ArmReading, seconds: float) -> ArmReading:
    return replace(arm, steady_s=BEGIN_S + seconds)


def test_the_outcomes_are_those_of_the_action() -> None:
    numbers = {name: getattr(ExecuteInstruction.Result, name) for name in Outcome.__members__}
    assert numbers == {name: outcome.value for name, outcome in Outcome.__members__.items()}


def test_a_goal_without_a_timeout_goes_on_until_it_is_canceled() -> None:
    goal = InstructionGoal("go", 0.0, MOVING)
    assert not watch(goal, after(MOVING, 1e6))
    assert watch(goal, after(MOVING, 1e6), is_canceled=True)
    assert goal.ending is not None and goal.ending.outcome is Outcome.CANCELED


def test_a_goal_ends_with_its_timeout_and_counts_its_own_plans() -> None:
    goal = InstructionGoal("go", 10.0, MOVING)
    assert not watch(goal, after(MOVING, 9.9))
    assert watch(goal, after(replace(MOVING, plans=17), 10.0))
    assert goal.ending is not None and (goal.ending.outcome, goal.plans) == (Outcome.TIME_OVER, 10)


def test_a_timeout_of_an_arm_that_waits_is_no_success() -> None:
    goal = InstructionGoal("go", 10.0, MOVING)
    watch(goal, MOVING)
    assert watch(goal, after(WAITING, 10.0))
    assert goal.ending is not None and (goal.ending.outcome, goal.ending.cause) == (Outcome.ABORTED, Cause.IMAGE_STALE)


def test_what_passes_by_itself_is_waited_for() -> None:
    goal = InstructionGoal("go", 0.0, MOVING)
    watch(goal, MOVING)
    assert not watch(goal, after(WAITING, 1000.0))


def test_an_arm_that_cannot_start_is_not_waited_for_long() -> None:
    goal = InstructionGoal("go", 0.0, WAITING)
    assert not watch(goal, after(WAITING, START_S - 0.1))
    assert watch(goal, after(WAITING, START_S))
    assert goal.ending is not None and (goal.ending.outcome, goal.ending.cause) == (Outcome.ABORTED, Cause.IMAGE_STALE)


@pytest.mark.parametrize("state", [MotionState.INACTIVE, MotionState.FAULT, MotionState.STOPPED])
def test_what_does_not_pass_by_itself_aborts_a_goal(state: MotionState) -> None:
    goal = InstructionGoal("go", 0.0, MOVING)
    why = Rejection(Cause.POLICY_DEAD, Response.HOLD, "it is dead")
    assert watch(goal, replace(MOVING, state=state, why=why))
    assert goal.ending == Ending(Outcome.ABORTED, "it is dead", Cause.POLICY_DEAD)


def test_a_goal_ends_when_its_client_has_gone() -> None:
    goal = InstructionGoal("go", 0.0, MOVING)
    assert watch(goal, MOVING, has_client=False)
    assert goal.ending is not None and goal.ending.outcome is Outcome.CLIENT_LOST


def test_the_first_reason_to_end_counts() -> None:
    goal = InstructionGoal("go", 1.0, MOVING)
    watch(goal, after(MOVING, 2.0))
    assert not watch(goal, after(MOVING, 2.1), is_canceled=True)
    goal.end(Ending(Outcome.PREEMPTED, "another one"), BEGIN_S + 2.2)
    assert goal.ending is not None and goal.ending.outcome is Outcome.TIME_OVER


def ended() -> InstructionGoal:
    goal = InstructionGoal("go", 0.0, MOVING)
    goal.end(Ending(Outcome.CANCELED, "canceled"), BEGIN_S)
    return goal


def test_a_goal_is_over_when_the_joints_have_stood_still_after_the_last_command() -> None:
    goal = ended()
    arm = replace(MOVING, joints=joints(0.0, at_s=1.0))
    assert not goal.is_over(arm)
    arm = replace(arm, is_commanded=False)
    assert not goal.is_over(arm)
    for at_s, position, is_over in ((1.05, 0.0, False), (1.1, 0.01, False), (1.15, 0.0101, False), (1.2, 0.0102, True)):
        assert goal.is_over(replace(arm, joints=joints(position, at_s))) == is_over


def test_one_measurement_that_is_read_twice_does_not_show_that_the_arm_stands_still() -> None:
    goal, arm = ended(), replace(MOVING, is_commanded=False)
    assert not any(goal.is_over(after(arm, seconds)) for seconds in (0.0, 1.0, 2.0))


def test_an_arm_that_was_never_measured_and_never_commanded_is_at_rest() -> None:
    assert ended().is_over(replace(MOVING, is_commanded=False, joints=None))


def test_an_arm_that_does_not_come_to_rest_is_not_waited_for_for_ever() -> None:
    assert ended().is_over(after(MOVING, LONGEST_REST_S + 0.1))


def test_a_goal_that_is_followed_is_not_over() -> None:
    assert not InstructionGoal("go", 0.0, MOVING).is_over(replace(MOVING, is_commanded=False, joints=None))

"""An arm that stands still although plans arrive: what is said about it, and when nothing is."""

import numpy as np
import pytest

from sqap_vla_ros.control.commands import Command
from sqap_vla_ros.control.safety.standstill import Standstill
from sqap_vla_ros.control.trajectory import Trajectory
from sqap_vla_ros.core.action_chunk import ActionChunk
from sqap_vla_ros.core.rejection import Cause
from sqap_vla_ros.core.token_selection import keep_all


def chunk(step_m: float = 0.0, jitter_m: float = 0.0) -> ActionChunk:
    actions = np.zeros((16, 7))
    actions[:, 0] = step_m + jitter_m * (-1.0) ** np.arange(16)
    return ActionChunk(10**9, actions, 0.2, np.eye(4), "pick", 0, keep_all())


def command(moves_rad: float = 0.0, gripper: float | None = None, clipped: tuple[str, ...] = ()) -> Command:
    positions = np.linspace(0, moves_rad, 10)[:, None] * np.ones(6)
    trajectory = Trajectory(0.02 * np.arange(1, 11), positions, np.zeros((10, 6)), np.zeros((10, 6)))
    return Command(trajectory, 0, 0, gripper, clipped)


def looked_at(seconds: float, plan: ActionChunk, sent: Command, gripper_reached: bool = True) -> Standstill:
    standstill = Standstill()
    for at_s in np.arange(0, seconds + 0.01, 0.25):
        standstill.look(100.0 + float(at_s), plan, sent, gripper_reached)
    return standstill


def test_an_arm_that_moves_has_no_cause() -> None:
    assert looked_at(20.0, chunk(0.01), command(0.05)).reason is None


def test_a_moment_of_rest_has_no_cause() -> None:
    assert looked_at(4.0, chunk(), command()).reason is None


@pytest.mark.parametrize("jitter_m", [0.0, 0.0005])
def test_plans_of_no_motion_are_named(jitter_m: float) -> None:
    reason = looked_at(6.0, chunk(jitter_m=jitter_m), command(2e-4)).reason
    assert reason is not None and reason.cause is Cause.PLANS_STAND_STILL
    assert "they ask for no motion, and the gripper was not told to move" in reason.sentence


def test_plans_that_are_clipped_to_no_motion_are_named_with_what_clips_them() -> None:
    sent = command(clipped=("16 targets, up to 0.300 m, into the workspace",))
    reason = looked_at(6.0, chunk(0.02), sent).reason
    assert reason is not None and reason.cause is Cause.PLANS_STAND_STILL
    assert "into the workspace" in reason.sentence


def test_one_plan_that_moves_the_arm_ends_it() -> None:
    standstill = looked_at(6.0, chunk(), command())
    standstill.look(107.0, chunk(0.01), command(0.05), True)
    assert standstill.reason is None


def test_another_instruction_begins_anew() -> None:
    standstill = looked_at(6.0, chunk(), command())
    standstill.forget()
    assert standstill.reason is None


def test_a_gripper_that_nobody_moves_is_named_also_while_the_arm_moves() -> None:
    reason = looked_at(6.0, chunk(0.01), command(0.05, gripper=0.0), gripper_reached=False).reason
    assert reason is not None and reason.cause is Cause.GRIPPER_UNREACHED


def test_a_gripper_that_was_moved_is_not_complained_about() -> None:
    reason = looked_at(6.0, chunk(), command(gripper=0.0)).reason
    assert reason is not None and "gripper" not in reason.sentence

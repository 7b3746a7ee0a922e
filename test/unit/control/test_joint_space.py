"""Chunks of joint positions reach the controller through the same checks, without inverse kinematics."""

import numpy as np
import pytest
from commanded_arm import STEP_S, Arm, command_settings, settings
from control_robots import PANDA_HOME

from sqap_vla_ros.config.robot import Command as CommandSettings
from sqap_vla_ros.control.commands import Command
from sqap_vla_ros.control.kinematics import Kinematics
from sqap_vla_ros.control.targets import joint_targets, own_gripper
from sqap_vla_ros.core.action_chunk import ActionChunk, ActionSpace
from sqap_vla_ros.core.rejection import Cause, Rejection

POSITIONS = ActionSpace("joint_positions", 8, (7,))
DELTAS = ActionSpace("joint_deltas", 8, (7,))
TWO_ARMS = ActionSpace("joint_positions", 6, (2, 5))


@pytest.fixture
def arm(panda: Kinematics) -> Arm:
    return Arm(panda, settings(command=command_settings(horizon=1.0)))


def chunk(arm: Arm, joints: np.ndarray, space: ActionSpace = POSITIONS, gripper: float = 1.0) -> ActionChunk:
    actions = np.concatenate([joints, np.full((len(joints), 1), gripper)], axis=1)
    planned = arm.chunk(np.zeros((1, 7)))
    return ActionChunk(
        planned.stamp_ns, actions, STEP_S, planned.T_base_tool, "pick", 0, planned.selection, space=space
    )


def way(step: np.ndarray, count: int = 8) -> np.ndarray:
    return PANDA_HOME + step * np.arange(1, count + 1)[:, None]


STEP = np.array([0.03, -0.01, 0.02, 0.0, 0.01, 0.0, 0.05])


def test_the_joints_follow_the_positions(arm: Arm) -> None:
    answer = arm.command(chunk(arm, way(STEP)))
    assert isinstance(answer, Command) and answer.clipped == ()
    arm.run(0.6)
    np.testing.assert_allclose(arm.state[0], PANDA_HOME + 3 * STEP, atol=0.02)
    arm.run(2.0)
    assert arm.controller.violations == [] and arm.rests


def test_changes_add_up_from_where_the_arm_is(arm: Arm) -> None:
    absolute = arm.prepare(chunk(arm, way(STEP)))
    changes = arm.prepare(chunk(arm, np.tile(STEP, (8, 1)), DELTAS))
    np.testing.assert_allclose(changes.command.trajectory.positions, absolute.command.trajectory.positions, atol=1e-9)


def test_the_gripper_is_commanded_beside_the_joints(arm: Arm) -> None:
    assert arm.command(chunk(arm, way(STEP), gripper=0.0)).gripper == arm.robot.command.gripper_closed
    arm.run(0.2)
    assert arm.command(chunk(arm, way(STEP), gripper=1.0)).gripper == arm.robot.command.gripper_open


def test_a_first_target_far_from_the_arm_is_rejected(arm: Arm) -> None:
    far = way(STEP) + np.array([0, 0.6, 0, 0, 0, 0, 0])
    answer = arm.prepare(chunk(arm, far))
    assert isinstance(answer, Rejection) and answer.cause is Cause.TARGET_FAR_FROM_TOOL


def test_joints_that_lead_out_of_the_workspace_are_rejected(arm: Arm) -> None:
    out = way(np.array([0.2, 0, 0, 0, 0, 0, 0]), 16)
    answers = []
    for _ in range(12):
        answers.append(arm.command(chunk(arm, arm.state[0] + out - PANDA_HOME)))
        arm.run(0.3)
    causes = [answer.cause for answer in answers if isinstance(answer, Rejection)]
    assert Cause.OUT_OF_WORKSPACE in causes
    tool = np.array([arm.kinematics.forward(q)[:3, 3] for q in arm.path])
    assert (np.abs(tool[:, 1]) <= 0.4 + 1e-3).all()


def test_positions_beyond_a_joint_s_limit_are_clipped_and_reported(arm: Arm) -> None:
    beyond = way(np.zeros(7))
    beyond[-1, 6] = arm.kinematics.upper[6] + 1.0
    answer = arm.prepare(chunk(arm, beyond))
    assert "into the joints' limits" in " ".join(answer.command.clipped)
    assert (answer.command.trajectory.positions <= arm.kinematics.upper + 1e-6).all()


def test_a_leap_is_travelled_within_the_limits(arm: Arm) -> None:
    leap = np.concatenate([way(np.zeros(7), 1), np.tile(PANDA_HOME + [0, 0, 0, 0, 0, 0, 1.5], (7, 1))])
    answer = arm.command(chunk(arm, leap))
    assert isinstance(answer, Command)
    arm.run(3.0)
    assert arm.controller.violations == []


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_joints_that_are_not_finite_are_rejected(arm: Arm, value: float) -> None:
    broken = way(STEP)
    broken[2, 3] = value
    assert arm.prepare(chunk(arm, broken)).cause is Cause.CHUNK_INVALID


def test_overlapping_chunks_can_be_mixed(panda: Kinematics) -> None:
    arm = Arm(panda, settings(command=command_settings(horizon=1.0, blending="ensemble")))
    for _ in range(3):
        assert isinstance(arm.command(chunk(arm, way(STEP) - PANDA_HOME + arm.state[0])), Command)
        arm.run(0.2)
    assert arm.controller.violations == []


def test_grippers_can_be_joints_of_the_controller() -> None:
    command = CommandSettings(joints=tuple("abcdef"), moves_grippers=True, gripper_open=0.05, gripper_closed=0.01)
    start, actions = np.zeros(6), np.array([[0.1, 0.2, 1.0, 0.3, 0.4, 0.5]])
    targets = joint_targets(actions, TWO_ARMS, start, command)
    np.testing.assert_allclose(targets.q, [start, [0.1, 0.2, 0.05, 0.3, 0.4, 0.03]])
    changes = joint_targets(actions, ActionSpace("joint_deltas", 6, (2, 5)), np.ones(6), command)
    np.testing.assert_allclose(changes.q[1], [1.1, 1.2, 0.05, 1.3, 1.4, 0.03])


@pytest.mark.parametrize(
    ("space", "moves_grippers", "expected"),
    [(ActionSpace(), False, 6), (POSITIONS, False, 7), (POSITIONS, True, None), (TWO_ARMS, True, None)],
)
def test_a_gripper_has_a_command_of_its_own_where_the_controller_does_not_move_it(
    space: ActionSpace, moves_grippers: bool, expected: int | None
) -> None:
    assert own_gripper(space, CommandSettings(moves_grippers=moves_grippers)) == expected

"""What the commander rejects, and how it goes on after what others did to arm, gripper and clock."""

import numpy as np
import pytest
from commanded_arm import EPOCH_NS, STEP_S, Arm, settings, steady
from control_robots import PANDA_HOME, PANDA_JOINTS

from sqap_vla_ros.config.robot import ActionConvention, Frames, Limits, Robot
from sqap_vla_ros.config.robot import Command as CommandSettings
from sqap_vla_ros.control.commander import Commander
from sqap_vla_ros.control.commands import Command, JointState, PreparedCommand
from sqap_vla_ros.control.kinematics import Kinematics
from sqap_vla_ros.core.action_chunk import ActionChunk
from sqap_vla_ros.core.rejection import Cause, RejectedError, Rejection, Response
from sqap_vla_ros.core.token_selection import keep_all
from sqap_vla_ros.simulation.joint_trajectory_controller import JointTrajectoryController


def test_published_times_increase_from_above_zero(arm: Arm) -> None:
    for _ in range(3):
        answer = arm.command(arm.chunk(steady((0.01, 0, 0))))
        assert isinstance(answer, Command)
        assert (np.diff(answer.trajectory.time_from_start, prepend=0) > 0).all()
        arm.run(0.13)


def test_a_chunk_of_the_past_is_rejected(arm: Arm) -> None:
    robot = settings(freshness={"image": 100, "joint_states": 1})
    fresh, chunk = Commander(robot, arm.kinematics), arm.chunk(steady())
    arm.run(3.3)
    answer = fresh.prepare(chunk, arm.now_ns, arm.joint_state)
    assert isinstance(answer, Rejection) and answer.cause is Cause.CHUNK_OUTDATED
    assert answer.response is Response.DROP and "0.100 s ago" in answer.sentence


def test_an_old_image_is_rejected(arm: Arm) -> None:
    chunk = arm.chunk(steady())
    arm.run(0.6)
    answer = arm.command(chunk)
    assert isinstance(answer, Rejection) and answer.cause is Cause.IMAGE_STALE


def test_old_joint_states_are_rejected(arm: Arm) -> None:
    old = arm.joint_state
    arm.run(0.3)
    answer = arm.prepare(arm.chunk(steady()), old)
    assert isinstance(answer, Rejection) and answer.cause is Cause.JOINT_STATES_STALE


def test_actions_that_are_not_finite_are_rejected(arm: Arm) -> None:
    actions = steady()
    actions[5, 2] = np.nan
    assert isinstance(arm.command(arm.chunk(actions)), Rejection)


def test_a_tool_pose_in_another_frame_is_rejected(arm: Arm) -> None:
    chunk = arm.chunk(steady())
    chunk.T_base_tool[0, 3] += 0.3
    answer = arm.command(chunk)
    assert isinstance(answer, Rejection) and answer.cause is Cause.TARGET_FAR_FROM_TOOL


def test_an_arm_that_stands_still_against_its_trajectory_is_noticed(arm: Arm) -> None:
    arm.command(arm.chunk(steady((0.05, 0, 0))))
    blocked = arm.state
    arm.run(0.9)
    arm.state = blocked
    chunk = arm.chunk(steady())
    answer = arm.prepare(chunk)
    assert isinstance(answer, Rejection) and answer.cause is Cause.NOT_FOLLOWING


def test_an_arm_that_others_move_is_left_alone(arm: Arm) -> None:
    moving = JointState(PANDA_HOME, np.array([0, 0.3, 0, 0, 0, 0, 0]), arm.now_ns)
    answer = arm.prepare(arm.chunk(steady()), moving)
    assert isinstance(answer, Rejection) and answer.cause is Cause.ALREADY_MOVING


def test_clipping_is_reported(arm: Arm) -> None:
    answer = arm.command(arm.chunk(steady((0.1, 0, 0))))
    assert isinstance(answer, Command)
    assert any(text.startswith("translation of 16 actions") for text in answer.clipped)


def test_the_gripper_is_sent_on_change(arm: Arm) -> None:
    sent = []
    for value in (1.0, 0.9, 0.1):
        answer = arm.command(arm.chunk(steady(gripper=value)))
        assert isinstance(answer, Command)
        sent.append(answer.gripper)
        arm.run(0.2)
    assert sent == [0.04, None, 0.0]


def test_a_gripper_that_was_not_there_is_commanded_again(arm: Arm) -> None:
    sent = []
    for reached in (False, True, True):
        prepared = arm.prepare(arm.chunk(steady(gripper=1.0)))
        assert isinstance(prepared, PreparedCommand)
        assert prepared.publish_through(lambda command, reached=reached: reached, arm.now_ns) is None
        sent.append(prepared.command.gripper)
    assert sent == [0.04, 0.04, None]


def test_the_gripper_value_is_the_one_that_is_due(arm: Arm) -> None:
    actions = steady()
    actions[:2, 6] = 0.0
    chunk = arm.chunk(actions)
    arm.run(0.45)  # the first two actions are past
    answer = arm.command(chunk)
    assert isinstance(answer, Command) and answer.gripper == 0.04


def test_measured_anchors_start_from_the_observed_pose(arm: Arm) -> None:
    still = steady()
    arm.command(arm.chunk(steady((0.02, 0, 0))))
    arm.run(0.5)
    chunk = arm.chunk(still)
    arm.command(chunk)
    arm.run(2.0)
    np.testing.assert_allclose(arm.T_base_tool[:3, 3], chunk.T_base_tool[:3, 3], atol=2e-3)


def test_previous_targets_are_kept_where_the_arm_lags_behind(panda: Kinematics) -> None:
    """Still chunks end where the last target was, wherever the arm was when it was observed."""
    arm = Arm(panda, settings(action=ActionConvention(anchor="previous_target")))
    start = arm.T_base_tool[0, 3]
    arm.command(arm.chunk(steady((0.03, 0, 0))))
    arm.run(0.3)  # the target is at 0.045 m by now, the arm is still gathering speed
    lagging = arm.chunk(steady())
    assert lagging.T_base_tool[0, 3] - start < 0.042
    arm.command(lagging)
    arm.run(2.0)
    assert arm.T_base_tool[0, 3] - start == pytest.approx(0.045, abs=1e-3)


def test_a_command_that_is_not_published_leaves_no_trace(arm: Arm) -> None:
    assert isinstance(arm.prepare(arm.chunk(steady((0.02, 0, 0)))), PreparedCommand)
    arm.run(0.3)
    assert arm.commander.prepare_stop(arm.now_ns) is None


def test_only_the_last_command_can_be_sent_and_only_once(arm: Arm) -> None:
    sent: list[Command] = []

    def send(command: Command) -> bool:
        sent.append(command)
        return True

    first = arm.prepare(arm.chunk(steady((0.02, 0, 0))))
    second = arm.prepare(arm.chunk(steady((0.02, 0, 0))))
    assert isinstance(first, PreparedCommand) and isinstance(second, PreparedCommand)
    with pytest.raises(ValueError, match="only the last command"):
        first.publish_through(send, arm.now_ns)
    assert second.publish_through(send, arm.now_ns) is None
    with pytest.raises(ValueError, match="only the last command"):
        second.publish_through(send, arm.now_ns)
    assert sent == [second.command]


def test_a_command_that_the_controller_does_not_take_leaves_no_trace(arm: Arm) -> None:
    def send(command: Command) -> bool:
        raise RejectedError(Cause.CONTROLLER_REJECTED, Response.DROP, "not now")

    prepared = arm.prepare(arm.chunk(steady((0.02, 0, 0))))
    assert isinstance(prepared, PreparedCommand)
    rejection = prepared.publish_through(send, arm.now_ns)
    assert rejection is not None and rejection.cause is Cause.CONTROLLER_REJECTED
    assert arm.commander.prepare_stop(arm.now_ns) is None


def test_a_clock_that_is_set_back_starts_anew(arm: Arm) -> None:
    arm.command(arm.chunk(steady((0.02, 0, 0))))
    arm.run(2.0)
    arm.now_ns = EPOCH_NS - 50 * 10**9
    prepared = arm.prepare(arm.chunk(steady((0.02, 0, 0))))
    assert isinstance(prepared, PreparedCommand)
    np.testing.assert_allclose(prepared.command.trajectory.positions[0], arm.state[0], atol=1e-9)


def test_a_clock_that_goes_back_a_little_does_not_keep_the_arm_from_stopping(arm: Arm) -> None:
    for _ in range(2):
        arm.command(arm.chunk(steady((0.02, 0, 0))))
        arm.run(0.5)
    arm.command(arm.chunk(steady((0.02, 0, 0))))
    set_back_ns = arm.now_ns - 50 * 10**6
    ramp = arm.commander.prepare_stop(set_back_ns)
    assert ramp is not None and np.abs(ramp.command.trajectory.velocities[0]).max() > 0.01
    assert ramp.publish_through(lambda command: True, set_back_ns) is None


def test_an_arm_moved_by_hand_after_a_trajectory_starts_from_where_it_is(arm: Arm) -> None:
    arm.command(arm.chunk(steady((0.01, 0, 0))))
    arm.run(2.0)
    elsewhere = arm.state[0] + 0.2
    arm.state = (elsewhere, np.zeros(7), np.zeros(7))
    prepared = arm.prepare(arm.chunk(steady()))
    assert isinstance(prepared, PreparedCommand)
    np.testing.assert_allclose(prepared.command.trajectory.positions[0], elsewhere, atol=1e-9)


@pytest.mark.parametrize("nudge", [0.01, 0.03, 0.049])
def test_an_arm_that_was_nudged_while_its_controller_was_off_goes_back_within_the_limits(
    arm: Arm, nudge: float
) -> None:
    arm.command(arm.chunk(steady((0.01, 0, 0))))
    arm.run(2.0)
    arm.controller = JointTrajectoryController(PANDA_JOINTS, arm.state[0] + nudge, arm.bounds)
    arm.run(0.1)
    assert isinstance(arm.command(arm.chunk(steady())), Command)
    arm.run(2.0)
    assert not arm.controller.violations and arm.rests


def test_velocity_limits_of_the_model_count_as_well(chain: Kinematics) -> None:
    joints = ("pan", "lift", "elbow", "wrist1", "wrist2", "wrist3")
    limits = Limits(joint_velocity=(1.0,), workspace_min=(-2, -2, -2), workspace_max=(2, 2, 2))
    robot = Robot(frames=Frames(base="base", tool="tool0"), limits=limits, command=CommandSettings(joints=joints))
    q = np.array([0.3, 0.5, 0.8, -0.4, 0.7, 0.2])
    actions = np.tile([0, 0, 0, 0, 0, 0.25, 1.0], (16, 1))
    chunk = ActionChunk(10**12, actions, STEP_S, chain.forward(q), "turn", 0, keep_all())
    answer = Commander(robot, chain).prepare(chunk, 10**12, JointState(q, np.zeros(6), 10**12))
    assert isinstance(answer, PreparedCommand)
    assert np.abs(answer.command.trajectory.velocities[:, 5]).max() <= 0.5 + 1e-6

import dataclasses
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest

from sqap_vla_ros.config.robot import Command, Freshness, Limits
from sqap_vla_ros.control.safety import checks, clipping
from sqap_vla_ros.control.trajectory import JointLimits, Trajectory
from sqap_vla_ros.core.action_chunk import ActionChunk, ActionSpace
from sqap_vla_ros.core.rejection import Cause, RejectedError, Response
from sqap_vla_ros.core.token_selection import keep_all
from sqap_vla_ros.perception.transforms import rotation_from_rpy, transform_from

LIMITS = Limits(workspace_min=(0, 0, 0), workspace_max=(1, 1, 1), step=0.05, step_rotation=0.25, tool_to_target=0.1)
JOINTS = JointLimits(np.full(2, -1.0), np.full(2, 1.0), np.full(2, 2.0), np.full(2, 5.0), np.full(2, 100.0))
FRESHNESS = Freshness(image=0.5, joint_states=0.2)


def chunk(actions: np.ndarray | None = None, **fields: Any) -> ActionChunk:
    actions = np.zeros((16, 7)) if actions is None else actions
    return dataclasses.replace(ActionChunk(0, actions, 0.2, np.eye(4), "pick", 0, keep_all()), **fields)


def trajectory(**fields: Any) -> Trajectory:
    still = Trajectory(np.array([0.02, 0.04]), np.zeros((2, 2)), np.zeros((2, 2)), np.zeros((2, 2)))
    return dataclasses.replace(still, **fields)


INSIDE = np.full((2, 3), 0.5)


@contextmanager
def rejected(cause: Cause, numbers: str = "") -> Iterator[None]:
    """Fails unless what is done in it is rejected for that cause, with these numbers in the sentence."""
    with pytest.raises(RejectedError) as caught:
        yield
    assert caught.value.rejection.cause is cause
    assert numbers in caught.value.rejection.sentence


def pose(x: float, y: float, z: float) -> np.ndarray:
    T = np.eye(4)
    T[:3, 3] = x, y, z
    return T


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_actions_that_are_not_finite_never_pass(value: float) -> None:
    actions = np.zeros((16, 7))
    actions[3, 6] = value
    with rejected(Cause.CHUNK_INVALID, "[3]"):
        checks.check_chunk(chunk(actions))


def test_a_tool_pose_that_is_not_finite_never_passes() -> None:
    with rejected(Cause.CHUNK_INVALID, "tool pose"):
        checks.check_chunk(chunk(T_base_tool=np.full((4, 4), np.nan)))


@pytest.mark.parametrize("shape", [(16, 6), (0, 7), (7,)])
def test_actions_of_another_shape_are_rejected(shape: tuple[int, ...]) -> None:
    with rejected(Cause.CHUNK_INVALID, "(horizon, 7)"):
        checks.check_chunk(chunk(np.zeros(shape)))


@pytest.mark.parametrize(
    ("space", "command", "sentence"),
    [
        (ActionSpace("tool_deltas", 8, (6, 7)), {}, "2 grippers; expected one"),
        (
            ActionSpace("joint_positions", 8, (7,)),
            {"output": "servo_twist"},
            "command.output = servo_twist moves the tool",
        ),
        (
            ActionSpace("joint_positions", 8, (7,)),
            {"blending": "temporal"},
            "command.blending = temporal blends tool poses",
        ),
        (ActionSpace("joint_deltas", 7, (6,)), {}, "actions have 6 joints and 1 grippers; command.joints has 7"),
        (ActionSpace("joint_positions", 9, (3, 8)), {}, "name the grippers' joints"),
    ],
)
def test_actions_that_this_robot_s_controller_cannot_move_are_rejected(
    space: ActionSpace, command: dict[str, Any], sentence: str
) -> None:
    joints = tuple(f"joint{number}" for number in range(7))
    with rejected(Cause.CHUNK_INVALID, sentence):
        checks.check_action_space(space, Command(joints=joints, **command))
    checks.check_action_space(ActionSpace("joint_positions", 8, (7,)), Command(joints=joints))
    checks.check_action_space(ActionSpace("joint_positions", 7, (6,)), Command(joints=joints, moves_grippers=True))
    checks.check_action_space(ActionSpace(), Command(joints=joints))


def test_actions_have_as_many_numbers_as_their_space_says() -> None:
    space = ActionSpace("joint_positions", 14, (6, 13))
    checks.check_chunk(chunk(np.zeros((25, 14)), space=space))
    with rejected(Cause.CHUNK_INVALID, "(horizon, 14)"):
        checks.check_chunk(chunk(np.zeros((25, 7)), space=space))


@pytest.mark.parametrize("step", [0.0, -0.2, np.nan])
def test_a_time_step_that_is_no_time_is_rejected(step: float) -> None:
    with rejected(Cause.CHUNK_INVALID, "time step"):
        checks.check_chunk(chunk(time_step_s=step))


def test_a_good_chunk_passes() -> None:
    checks.check_chunk(chunk())


@pytest.mark.parametrize(
    ("image", "joints", "cause", "numbers"),
    [
        (0.6, 0.1, Cause.IMAGE_STALE, "0.600 s old (limit 0.5 s)"),
        (0.1, 0.3, Cause.JOINT_STATES_STALE, "0.300 s old (limit 0.2 s)"),
        (-1.0, 0.1, Cause.STAMP_IN_FUTURE, "image is stamped 1.000 s"),
        (0.1, -1.0, Cause.STAMP_IN_FUTURE, "joint state is stamped 1.000 s"),
        (-1.1 * checks.STAMP_TOLERANCE_S, 0.1, Cause.STAMP_IN_FUTURE, "image"),
        (np.nan, 0.1, Cause.IMAGE_MISSING, "image"),
    ],
)
def test_inputs_that_are_not_of_now_are_rejected(image: float, joints: float, cause: Cause, numbers: str) -> None:
    with rejected(cause, numbers):
        checks.check_freshness(image, joints, FRESHNESS)


def test_fresh_inputs_pass() -> None:
    checks.check_freshness(0.5, -0.9 * checks.STAMP_TOLERANCE_S, FRESHNESS)


def test_joints_that_are_not_finite_are_named() -> None:
    with rejected(Cause.JOINT_STATES_UNUSABLE, "positions of b"):
        checks.check_joint_state(np.array([0, np.nan]), np.zeros(2), ("a", "b"))


def test_joints_that_are_missing_are_rejected() -> None:
    with rejected(Cause.JOINT_STATES_UNUSABLE, "velocities"):
        checks.check_joint_state(np.zeros(2), np.zeros(0), ("a", "b"))


def test_long_steps_are_shortened_in_their_direction() -> None:
    actions, _ = clipping.clip_actions(np.array([[0.3, 0.4, 0, 0, 0, 0, 1]]), LIMITS)
    np.testing.assert_allclose(actions, [[0.03, 0.04, 0, 0, 0, 0, 1]])


def test_large_rotations_are_shortened_about_their_axis() -> None:
    actions, _ = clipping.clip_actions(np.array([[0, 0, 0, 0, 3.0, 4.0, 0]]), LIMITS)
    np.testing.assert_allclose(actions, [[0, 0, 0, 0, 0.15, 0.2, 0]])


def test_what_was_clipped_is_said() -> None:
    _, clipped = clipping.clip_actions(np.array([[0.3, 0.4, 0, 0, 3.0, 4.0, 0], np.zeros(7)]), LIMITS)
    assert clipped == (
        "translation of 1 actions, up to 0.500 m, to 0.05 m",
        "rotation of 1 actions, up to 5.000 rad, to 0.25 rad",
    )


def test_short_steps_pass_unchanged() -> None:
    actions = np.array([[0.03, 0.04, 0, 0, 0.15, 0.2, 0.7]])
    clipped, what = clipping.clip_actions(actions, LIMITS)
    np.testing.assert_array_equal(clipped, actions)
    assert what == ()


def test_targets_outside_move_into_the_workspace() -> None:
    targets, clipped = clipping.clip_targets(np.array([pose(0.5, 0.5, 0.5), pose(1.5, 0.5, -2)]), LIMITS, 0.01)
    np.testing.assert_allclose(targets[:, :3, 3], [(0.5, 0.5, 0.5), (0.99, 0.5, 0.01)])
    assert clipped == ("1 targets, up to 2.074 m, into the workspace",)


def test_far_first_targets_are_rejected_with_the_distance() -> None:
    with rejected(Cause.TARGET_FAR_FROM_TOOL, "0.200 m"):
        checks.check_first_target(pose(0.2, 0, 0), np.eye(4), LIMITS)


def test_near_first_targets_pass() -> None:
    checks.check_first_target(pose(0.09, 0, 0), np.eye(4), LIMITS)


def test_first_targets_turned_from_the_tool_are_rejected_with_the_angle() -> None:
    mounted_otherwise = transform_from((0, 0, 0), rotation_from_rpy((0, 0, -np.pi / 4)))
    with rejected(Cause.TARGET_FAR_FROM_TOOL, "0.785 rad"):
        checks.check_first_target(mounted_otherwise, np.eye(4), LIMITS)
    checks.check_first_target(transform_from((0, 0, 0), rotation_from_rpy((0.3, 0, 0.3))), np.eye(4), LIMITS)


@pytest.mark.parametrize("wanted", [pose(0.2, 0, 0), transform_from((0, 0, 0), rotation_from_rpy((0, 0, 0.6)))])
def test_an_arm_that_does_not_follow_is_noticed(wanted: np.ndarray) -> None:
    with rejected(Cause.NOT_FOLLOWING):
        checks.check_following(wanted, np.eye(4), LIMITS)


def test_a_trajectory_within_all_limits_passes() -> None:
    checks.check_trajectory(trajectory(), INSIDE, JOINTS, LIMITS)


@pytest.mark.parametrize(
    ("fields", "cause", "numbers"),
    [
        ({"positions": np.array([[0, 0], [0, np.nan]])}, Cause.TRAJECTORY_INVALID, "not finite"),
        ({"velocities": np.array([[np.inf, 0], [0, 0]])}, Cause.TRAJECTORY_INVALID, "not finite"),
        ({"accelerations": np.array([[np.nan, 0], [0, 0]])}, Cause.TRAJECTORY_INVALID, "not finite"),
        ({"time_from_start": np.array([0.02, np.nan])}, Cause.TRAJECTORY_INVALID, "not finite"),
        ({"time_from_start": np.array([0.0, 0.02])}, Cause.TRAJECTORY_INVALID, "do not increase from above 0"),
        ({"time_from_start": np.array([0.02, 0.02])}, Cause.TRAJECTORY_INVALID, "do not increase"),
        ({"velocities": np.array([[0, -2.1], [0, 0]])}, Cause.LIMIT_EXCEEDED, "velocity 2.100 of joint 1; at most 2"),
        (
            {"accelerations": np.array([[6.0, 0], [0, 0]])},
            Cause.LIMIT_EXCEEDED,
            "acceleration 6.000 of joint 0; at most 5",
        ),
        (
            {"positions": np.array([[0, 0], [0, -1.1]])},
            Cause.LIMIT_EXCEEDED,
            "joint 1 to -1.100; allowed are -1.000 to 1.000",
        ),
        ({"positions": np.array([[1.1, 0], [1.2, 0]])}, Cause.LIMIT_EXCEEDED, "joint 0 to 1.200"),
    ],
)
def test_a_trajectory_beyond_a_limit_is_rejected(fields: dict[str, np.ndarray], cause: Cause, numbers: str) -> None:
    with rejected(cause, numbers):
        checks.check_trajectory(trajectory(**fields), INSIDE, JOINTS, LIMITS)


def test_joints_beyond_a_limit_may_come_back() -> None:
    checks.check_trajectory(trajectory(positions=np.array([[1.2, 0], [1.1, 0]])), INSIDE, JOINTS, LIMITS)


def test_leaving_the_workspace_is_rejected() -> None:
    tool = np.array([(0.5, 0.5, 0.5), (0.5, 1.02, 0.5)])
    with rejected(Cause.OUT_OF_WORKSPACE, "[0.5, 1.02, 0.5] m"):
        checks.check_trajectory(trajectory(), tool, JOINTS, LIMITS)


def test_a_tool_outside_the_workspace_may_come_back() -> None:
    checks.check_trajectory(trajectory(), np.array([(0.5, 1.2, 0.5), (0.5, 1.1, 0.5)]), JOINTS, LIMITS)


def test_a_tool_outside_the_workspace_may_not_leave_it_further() -> None:
    with rejected(Cause.OUT_OF_WORKSPACE):
        checks.check_trajectory(trajectory(), np.array([(0.5, 1.2, 0.5), (0.5, 1.2, 1.1)]), JOINTS, LIMITS)


def test_a_trajectory_with_too_much_jerk_is_rejected() -> None:
    jerky = trajectory(accelerations=np.array([[0.0, -2.0], [0.0, 2.0]]))  # 4 rad/s^2 within 20 ms
    with rejected(Cause.LIMIT_EXCEEDED, "jerk 200.000 of joint 1; at most 100"):
        checks.check_trajectory(jerky, INSIDE, JOINTS, LIMITS)


def test_a_late_command_is_dropped_and_a_broken_policy_holds_the_arm() -> None:
    with pytest.raises(RejectedError) as late:
        checks.check_freshness(1.0, 0.1, FRESHNESS)
    with pytest.raises(RejectedError) as broken:
        checks.check_chunk(chunk(np.full((16, 7), np.nan)))
    assert (late.value.rejection.response, broken.value.rejection.response) == (Response.DROP, Response.HOLD)


def test_an_arm_that_does_not_follow_is_stopped_until_somebody_has_looked() -> None:
    with pytest.raises(RejectedError) as blocked:
        checks.check_following(pose(0.2, 0, 0), np.eye(4), LIMITS)
    assert blocked.value.rejection.response is Response.STOP

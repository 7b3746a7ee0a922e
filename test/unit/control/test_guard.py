import dataclasses
from typing import Any

import numpy as np
import pytest

from sqap_vla_ros.config.robot import Freshness, Limits
from sqap_vla_ros.control import guard
from sqap_vla_ros.control.trajectory import JointLimits, Trajectory
from sqap_vla_ros.core.action_chunk import ActionChunk
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


def pose(x: float, y: float, z: float) -> np.ndarray:
    T = np.eye(4)
    T[:3, 3] = x, y, z
    return T


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_actions_that_are_not_finite_never_pass(value: float) -> None:
    actions = np.zeros((16, 7))
    actions[3, 6] = value
    with pytest.raises(guard.Refused, match=r"actions \[3\]"):
        guard.check_chunk(chunk(actions))


def test_a_tool_pose_that_is_not_finite_never_passes() -> None:
    with pytest.raises(guard.Refused, match="tool pose"):
        guard.check_chunk(chunk(T_base_tool=np.full((4, 4), np.nan)))


@pytest.mark.parametrize("shape", [(16, 6), (0, 7), (7,)])
def test_actions_of_another_shape_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(guard.Refused, match="expected \\(horizon, 7\\)"):
        guard.check_chunk(chunk(np.zeros(shape)))


@pytest.mark.parametrize("step", [0.0, -0.2, np.nan])
def test_a_time_step_that_is_no_time_is_refused(step: float) -> None:
    with pytest.raises(guard.Refused, match="time step"):
        guard.check_chunk(chunk(time_step_s=step))


def test_a_good_chunk_passes() -> None:
    guard.check_chunk(chunk())


@pytest.mark.parametrize(
    ("image", "joints", "reason"),
    [
        (0.6, 0.1, "image: 0.600 s old; at most 0.5 s"),
        (0.1, 0.3, "joint states: 0.300 s old; at most 0.2 s"),
        (-1.0, 0.1, "image: stamped 1.000 s in the future"),
        (0.1, -1.0, "joint states: stamped 1.000 s in the future"),
        (np.nan, 0.1, "image"),
    ],
)
def test_inputs_that_are_not_of_now_are_refused(image: float, joints: float, reason: str) -> None:
    with pytest.raises(guard.Refused, match=reason):
        guard.check_freshness(image, joints, FRESHNESS)


def test_fresh_inputs_pass() -> None:
    guard.check_freshness(0.5, -0.01, FRESHNESS)


def test_joints_that_are_not_finite_are_named() -> None:
    with pytest.raises(guard.Refused, match="positions of b are not finite"):
        guard.check_joint_state(np.array([0, np.nan]), np.zeros(2), ("a", "b"))


def test_joints_that_are_missing_are_refused() -> None:
    with pytest.raises(guard.Refused, match="velocities have shape"):
        guard.check_joint_state(np.zeros(2), np.zeros(0), ("a", "b"))


def test_long_steps_are_shortened_in_their_direction() -> None:
    actions, _ = guard.clip_actions(np.array([[0.3, 0.4, 0, 0, 0, 0, 1]]), LIMITS)
    np.testing.assert_allclose(actions, [[0.03, 0.04, 0, 0, 0, 0, 1]])


def test_large_rotations_are_shortened_about_their_axis() -> None:
    actions, _ = guard.clip_actions(np.array([[0, 0, 0, 0, 3.0, 4.0, 0]]), LIMITS)
    np.testing.assert_allclose(actions, [[0, 0, 0, 0, 0.15, 0.2, 0]])


def test_what_was_clipped_is_said() -> None:
    _, clipped = guard.clip_actions(np.array([[0.3, 0.4, 0, 0, 3.0, 4.0, 0], np.zeros(7)]), LIMITS)
    assert clipped == (
        "translation of 1 actions, up to 0.500 m, to 0.05 m",
        "rotation of 1 actions, up to 5.000 rad, to 0.25 rad",
    )


def test_short_steps_pass_unchanged() -> None:
    actions = np.array([[0.03, 0.04, 0, 0, 0.15, 0.2, 0.7]])
    clipped, what = guard.clip_actions(actions, LIMITS)
    np.testing.assert_array_equal(clipped, actions)
    assert what == ()


def test_targets_outside_move_into_the_workspace() -> None:
    targets, clipped = guard.clip_targets(np.array([pose(0.5, 0.5, 0.5), pose(1.5, 0.5, -2)]), LIMITS, 0.01)
    np.testing.assert_allclose(targets[:, :3, 3], [(0.5, 0.5, 0.5), (0.99, 0.5, 0.01)])
    assert clipped == ("1 targets, up to 2.074 m, into the workspace",)


def test_far_first_targets_are_refused_with_the_distance() -> None:
    with pytest.raises(guard.Refused, match="0.200 m from the tool"):
        guard.check_first_target(pose(0.2, 0, 0), np.eye(4), LIMITS)


def test_near_first_targets_pass() -> None:
    guard.check_first_target(pose(0.09, 0, 0), np.eye(4), LIMITS)


def test_first_targets_turned_from_the_tool_are_refused_with_the_angle() -> None:
    mounted_otherwise = transform_from((0, 0, 0), rotation_from_rpy((0, 0, -np.pi / 4)))
    with pytest.raises(guard.Refused, match="turned by 0.785 rad from the tool"):
        guard.check_first_target(mounted_otherwise, np.eye(4), LIMITS)
    guard.check_first_target(transform_from((0, 0, 0), rotation_from_rpy((0.3, 0, 0.3))), np.eye(4), LIMITS)


@pytest.mark.parametrize("wanted", [pose(0.2, 0, 0), transform_from((0, 0, 0), rotation_from_rpy((0, 0, 0.6)))])
def test_an_arm_that_does_not_follow_is_noticed(wanted: np.ndarray) -> None:
    with pytest.raises(guard.Refused, match="does the controller follow"):
        guard.check_following(wanted, np.eye(4), LIMITS)


def test_a_trajectory_within_all_limits_passes() -> None:
    guard.check_trajectory(trajectory(), INSIDE, JOINTS, LIMITS)


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"positions": np.array([[0, 0], [0, np.nan]])}, "not finite"),
        ({"velocities": np.array([[np.inf, 0], [0, 0]])}, "not finite"),
        ({"accelerations": np.array([[np.nan, 0], [0, 0]])}, "not finite"),
        ({"time_from_start": np.array([0.02, np.nan])}, "not finite"),
        ({"time_from_start": np.array([0.0, 0.02])}, "do not increase from above 0"),
        ({"time_from_start": np.array([0.02, 0.02])}, "do not increase"),
        ({"velocities": np.array([[0, -2.1], [0, 0]])}, "velocity 2.100 of joint 1; at most 2"),
        ({"accelerations": np.array([[6.0, 0], [0, 0]])}, "acceleration 6.000 of joint 0; at most 5"),
        ({"positions": np.array([[0, 0], [0, -1.1]])}, "joint 1 to -1.100; allowed are -1.000 to 1.000"),
        ({"positions": np.array([[1.1, 0], [1.2, 0]])}, "joint 0 to 1.200"),
    ],
)
def test_a_trajectory_beyond_a_limit_is_refused(fields: dict[str, np.ndarray], reason: str) -> None:
    with pytest.raises(guard.Refused, match=reason):
        guard.check_trajectory(trajectory(**fields), INSIDE, JOINTS, LIMITS)


def test_joints_beyond_a_limit_may_come_back() -> None:
    guard.check_trajectory(trajectory(positions=np.array([[1.2, 0], [1.1, 0]])), INSIDE, JOINTS, LIMITS)


def test_leaving_the_workspace_is_refused() -> None:
    tool = np.array([(0.5, 0.5, 0.5), (0.5, 1.02, 0.5)])
    with pytest.raises(guard.Refused, match=r"tool to \[0.5, 1.02, 0.5\] m, out of the workspace"):
        guard.check_trajectory(trajectory(), tool, JOINTS, LIMITS)


def test_a_tool_outside_the_workspace_may_come_back() -> None:
    guard.check_trajectory(trajectory(), np.array([(0.5, 1.2, 0.5), (0.5, 1.1, 0.5)]), JOINTS, LIMITS)


def test_a_tool_outside_the_workspace_may_not_leave_it_further() -> None:
    with pytest.raises(guard.Refused, match="out of the workspace"):
        guard.check_trajectory(trajectory(), np.array([(0.5, 1.2, 0.5), (0.5, 1.2, 1.1)]), JOINTS, LIMITS)


def test_a_trajectory_with_too_much_jerk_is_refused() -> None:
    jerky = trajectory(accelerations=np.array([[0.0, -2.0], [0.0, 2.0]]))  # 4 rad/s^2 within 20 ms
    with pytest.raises(guard.Refused, match="jerk 200.000 of joint 1; at most 100"):
        guard.check_trajectory(jerky, INSIDE, JOINTS, LIMITS)


def test_a_late_command_is_dropped_and_a_broken_policy_holds_the_arm() -> None:
    with pytest.raises(guard.Refused) as late:
        guard.check_freshness(1.0, 0.1, FRESHNESS)
    with pytest.raises(guard.Refused) as broken:
        guard.check_chunk(chunk(np.full((16, 7), np.nan)))
    assert (late.value.response, broken.value.response) == (guard.Response.DROP, guard.Response.HOLD)


def test_an_arm_that_does_not_follow_is_stopped_until_somebody_has_looked() -> None:
    with pytest.raises(guard.Refused) as blocked:
        guard.check_following(pose(0.2, 0, 0), np.eye(4), LIMITS)
    assert blocked.value.response is guard.Response.STOP

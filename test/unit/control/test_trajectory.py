import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sqap_vla_ros.control.trajectory import (
    JointLimits,
    JointMotion,
    Trajectory,
    TrajectoryError,
    plan_trajectory,
    stop_trajectory,
)

SPACING = 0.02


def limits(joints: int = 1, velocity: float = 1, acceleration: float = 5, jerk: float = 100) -> JointLimits:
    each = np.ones(joints)
    return JointLimits(-2 * each, 2 * each, velocity * each, acceleration * each, jerk * each)


def motion(position: float = 0, velocity: float = 0, acceleration: float = 0) -> JointMotion:
    return JointMotion(np.array([position]), np.array([velocity]), np.array([acceleration]))


def track(path: np.ndarray, times: np.ndarray, bounds: JointLimits, start: JointMotion | None = None) -> Trajectory:
    return plan_trajectory(path[:, None], times, start or motion(), 0.0, 1.5, SPACING, bounds)


def between_points(trajectory: Trajectory, start: JointMotion) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Position, velocity and acceleration of joint 0 as cubics through positions and velocities, finely sampled."""
    times = np.concatenate([[0], trajectory.time_from_start])
    q = np.concatenate([start.position, trajectory.positions[:, 0]])
    v = np.concatenate([start.velocity, trajectory.velocities[:, 0]])
    samples = []
    for t0, t1, q0, q1, v0, v1 in zip(times, times[1:], q, q[1:], v, v[1:], strict=False):
        duration, s = t1 - t0, np.linspace(0, 1, 11)
        slope = (q1 - q0) / duration
        b, c = 3 * slope - 2 * v0 - v1, v0 + v1 - 2 * slope
        samples.append(
            (
                q0 + duration * (v0 * s + b * s**2 + c * s**3),
                v0 + 2 * b * s + 3 * c * s**2,
                (2 * b + 6 * c * s) / duration,
            )
        )
    position, velocity, acceleration = (np.concatenate(part) for part in zip(*samples, strict=True))
    return position, velocity, acceleration


EACH_JERK = pytest.mark.parametrize("jerk", [20, 100, 5000])


@settings(max_examples=40, deadline=None)
@given(
    path=st.lists(st.floats(-2, 2), min_size=1, max_size=16),
    jerk=st.sampled_from([10.0, 100.0, 5000.0]),
    velocity=st.sampled_from([0.05, 1.0, 3.0]),
    late=st.floats(0, 1),
    horizon=st.floats(0.05, 1.0),
)
def test_limits_hold_also_between_the_points(
    path: list[float], jerk: float, velocity: float, late: float, horizon: float
) -> None:
    bounds, start = limits(velocity=velocity, jerk=jerk), motion()
    waypoints, times = np.array(path)[:, None], 0.2 * np.arange(len(path), dtype=np.float64)
    trajectory = plan_trajectory(waypoints, times, start, late, horizon, SPACING, bounds)
    position, speed, acceleration = between_points(trajectory, start)
    assert np.abs(position).max() <= 2 + 1e-6
    assert np.abs(speed).max() <= velocity + 1e-6
    assert np.abs(acceleration).max() <= 5 + 1e-6
    change = np.diff(trajectory.accelerations[:, 0], prepend=0)
    assert np.abs(change).max() / SPACING <= jerk * (1 + 1e-6)


def test_published_accelerations_are_those_of_the_cubics() -> None:
    start = motion()
    trajectory = track(np.array([0, 0.3]), np.array([0, 0.5]), limits(), start)
    _, _, acceleration = between_points(trajectory, start)
    np.testing.assert_allclose(acceleration[10::11], trajectory.accelerations[:, 0], atol=1e-8)


def test_the_last_velocity_is_exactly_zero() -> None:
    trajectory = track(np.array([0, 2.0]), np.array([0, 4.0]), limits())
    assert trajectory.velocities[-1] == 0 and trajectory.accelerations[-1] == 0


def test_times_start_one_spacing_on_and_increase() -> None:
    trajectory = track(np.array([0, 0.2]), np.array([0, 1.0]), limits())
    np.testing.assert_allclose(trajectory.time_from_start, SPACING * np.arange(1, len(trajectory.positions) + 1))


def test_it_ends_soon_after_the_horizon() -> None:
    trajectory = plan_trajectory(np.array([[0], [3.0]]), np.array([0, 3.0]), motion(), 0.0, 0.4, SPACING, limits())
    assert trajectory.time_from_start[-1] < 0.4 + 0.45  # 1 rad/s at 5 rad/s^2, and changing the acceleration twice


def test_it_ends_at_the_horizon_when_it_is_at_rest_by_then() -> None:
    trajectory = plan_trajectory(np.zeros((1, 1)), np.zeros(1), motion(), 0.0, 0.4, SPACING, limits())
    assert trajectory.time_from_start[-1] == pytest.approx(0.4)


def test_a_step_is_approached_without_overshoot() -> None:
    trajectory = track(np.array([0.3]), np.array([0.0]), limits())
    assert trajectory.positions.max() < 0.3 + 1e-3
    assert trajectory.positions[40, 0] == pytest.approx(0.3, abs=0.01)


def test_joints_close_their_gaps_together() -> None:
    """So the tool goes straight to the path, and not first where the quickest joint takes it."""
    trajectory = plan_trajectory(
        np.array([[0.3, 0.03]]), np.array([0.0]), JointMotion(*np.zeros((3, 2))), 0.0, 1.5, SPACING, limits(2)
    )
    np.testing.assert_allclose(trajectory.positions[:, 0], 10 * trajectory.positions[:, 1], atol=5e-3)


@EACH_JERK
def test_a_step_does_not_oscillate(jerk: float) -> None:
    error = track(np.array([0.3]), np.array([0.0]), limits(jerk=jerk)).positions[:, 0] - 0.3
    assert error.max() < 0.04 * 0.3
    crossings = np.flatnonzero(np.diff(np.sign(np.where(np.abs(error) < 1e-3, 0, error))))
    assert len(crossings) <= 3  # over it at most once, and back


@EACH_JERK
def test_a_ramp_is_followed_without_lag(jerk: float) -> None:
    times = np.arange(-0.2, 3, 0.2)
    trajectory = track(0.4 * times, times, limits(jerk=jerk), motion(velocity=0.4))
    steady = (trajectory.time_from_start > 0.3) & (trajectory.time_from_start < 1.3)
    lag = trajectory.positions[steady, 0] - 0.4 * trajectory.time_from_start[steady]
    assert np.abs(lag).max() < 1e-3


def test_a_moving_target_is_caught_up_with_from_rest() -> None:
    times = np.arange(-0.2, 3, 0.2)
    trajectory = track(0.4 * times, times, limits())
    late = (trajectory.time_from_start > 0.6) & (trajectory.time_from_start < 1.3)
    lag = trajectory.positions[late, 0] - 0.4 * trajectory.time_from_start[late]
    assert np.abs(lag).max() < 2e-3


def test_a_sine_is_followed() -> None:
    times = np.arange(-0.2, 3, 0.1)
    trajectory = track(0.1 * np.sin(3 * times), times, limits(), motion(velocity=0.3))
    followed = trajectory.time_from_start < 1.3
    error = trajectory.positions[followed, 0] - 0.1 * np.sin(3 * trajectory.time_from_start[followed])
    assert np.abs(error).max() < 5e-3


def test_a_path_that_stops_at_a_wall_does_not_pass_it() -> None:
    times = np.arange(0, 3, 0.2)
    trajectory = track(np.minimum(0.5 * times, 0.3), times, limits())
    assert trajectory.positions.max() < 0.3 + 2e-3


def test_waypoints_in_the_past_only_lead_to_the_next_one() -> None:
    waypoints, times = np.array([[0.0], [0.1], [0.2], [0.3]]), np.array([-0.4, -0.2, 0.0, 0.2])
    trajectory = plan_trajectory(waypoints, times, motion(0.2, 0.5), 0.0, 1.0, SPACING, limits())
    assert trajectory.positions.min() > 0.2 - 1e-3
    assert trajectory.positions[-1, 0] == pytest.approx(0.3, abs=1e-3)


def test_position_limits_hold_when_waypoints_lie_beyond() -> None:
    trajectory = track(np.array([1.8, 3.0]), np.array([0, 1.0]), limits(), motion(1.8))
    assert 1.99 < trajectory.positions.max() <= 2


def test_a_start_beyond_a_position_limit_comes_back() -> None:
    trajectory = track(np.array([1.5]), np.array([0.0]), limits(), motion(2.05))
    assert trajectory.positions.max() <= 2.05 + 1e-6
    assert trajectory.positions[-1, 0] == pytest.approx(1.5, abs=0.01)


def test_without_room_to_stop_in_front_of_a_limit_there_is_no_trajectory() -> None:
    with pytest.raises(TrajectoryError, match="joint 0"):
        track(np.array([1.99]), np.array([0.0]), limits(), motion(1.99, 0.9))


def test_every_trajectory_can_be_left_at_any_point() -> None:
    random, bounds, start = np.random.default_rng(0), limits(7), JointMotion(*np.zeros((3, 7)))
    for _ in range(60):
        waypoints = start.position + random.normal(size=(8, 7)).cumsum(axis=0) * 0.1
        trajectory = plan_trajectory(waypoints, 0.2 * np.arange(8, dtype=np.float64), start, 0.0, 0.6, SPACING, bounds)
        point = random.integers(len(trajectory.positions))
        start = JointMotion(trajectory.positions[point], trajectory.velocities[point], trajectory.accelerations[point])


def test_a_stop_takes_no_longer_than_the_limits_need() -> None:
    trajectory = stop_trajectory(motion(velocity=0.9), SPACING, limits())
    resting = trajectory.time_from_start[np.abs(trajectory.velocities[:, 0]) < 0.01]
    assert resting[0] < 0.9 / 5 + 5 / 100 + 0.1


def test_a_stop_does_not_turn_back() -> None:
    trajectory = stop_trajectory(motion(velocity=0.9), SPACING, limits())
    assert trajectory.velocities.min() > -0.01


def test_a_stop_keeps_acceleration_and_jerk_limits() -> None:
    trajectory = stop_trajectory(motion(velocity=0.9), SPACING, limits())
    assert np.abs(trajectory.accelerations).max() <= 5 + 1e-6
    assert np.abs(np.diff(trajectory.accelerations[:, 0], prepend=0)).max() <= 100 * SPACING + 1e-6


@pytest.mark.parametrize("start", [motion(1.99, 0.9), motion(0, 0.95, 4), motion(0, 1.5), motion(2.5, 0.5)])
def test_a_stop_succeeds_from_where_limits_cannot_be_kept(start: JointMotion) -> None:
    assert stop_trajectory(start, SPACING, limits()).velocities[-1] == 0

"""From timed joint waypoints to a joint trajectory that keeps every limit and ends at rest.

Time is cut into steps of one point spacing, in each of which every joint's jerk is constant. The jerks are the
variables of one small quadratic programme per joint: follow the waypoints with position and velocity for the
horizon, then brake, with velocity, acceleration, jerk and position limits as constraints and rest at the end. A
programme that sees the whole horizon follows a moving target without the lag, and reaches it without the
chattering, of a time-optimal generator that is re-targeted at every point.

With constant jerk the motion between two points is the cubic that a joint_trajectory_controller interpolates from
positions and velocities, so what holds here holds exactly between the points as well. That is why a message carries
no accelerations: they would make the controller fit quintics, equal for these points but badly conditioned in the
short segment from wherever it is to the first point. They are kept for the next splice.
"""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

# Weight of a velocity error against a position error [s]: an offset from the waypoints decays with this time
# constant, where the limits allow it.
SETTLING_S = 0.1
# Weight of acceleration, relative to the same scale: smooths corners of the path.
SMOOTHING = 0.1
# A gap between the start and the waypoints closes in this time at least [s], using this share of velocity and
# acceleration limits: the rest is for following the waypoints meanwhile.
SHORTEST_CLOSING_S = 0.2
CLOSING_SHARE = 0.8


class TrajectoryError(ValueError):
    """There is no trajectory within the limits from where the arm is; the message names the joint."""


@dataclass(frozen=True)
class JointLimits:
    """Bounds of each joint, float64 (joints,) each; lower and upper may be infinite, the rest is positive."""

    lower: Array
    upper: Array
    velocity: Array
    acceleration: Array
    jerk: Array


@dataclass(frozen=True)
class JointMotion:
    """Position [rad or m], velocity and acceleration of the joints at one moment, float64 (joints,) each."""

    position: Array
    velocity: Array
    acceleration: Array


@dataclass(frozen=True)
class Trajectory:
    """Points of a joint trajectory.

    Attributes:
        time_from_start: float64 (points,), strictly increasing, the first above 0 [s].
        positions: float64 (points, joints) [rad or m].
        velocities: float64 (points, joints); the last row is exactly 0.
        accelerations: float64 (points, joints); not published, see above.
    """

    time_from_start: Array
    positions: Array
    velocities: Array
    accelerations: Array


def plan_trajectory(
    waypoints_q: Array,
    waypoint_times_s: Array,
    start: JointMotion,
    start_time_s: float,
    horizon_s: float,
    point_spacing_s: float,
    limits: JointLimits,
) -> Trajectory:
    """Follow timed waypoints for a horizon, then come to rest.

    Args:
        waypoints_q: float64 (waypoints, joints). Between them the reference is a monotone cubic; before the first
            and after the last it stands still. Those before `start_time_s` only shape the way to the next.
        waypoint_times_s: float64 (waypoints,), strictly increasing.
        start: The controller's desired state at `start_time_s`.
        start_time_s: When the trajectory starts, on the clock of the waypoints.
        horizon_s: How long waypoints are followed.
        point_spacing_s: Time between two points.
        limits: Bounds of each joint.

    Returns:
        Points at 1, 2, ... spacings after `start_time_s`: the horizon, then as many as any stop can take.

    Raises:
        TrajectoryError: No trajectory from `start` keeps the limits.
    """
    tracked = max(1, round(horizon_s / point_spacing_s))
    steps = tracked + _stop_steps(start, point_spacing_s, limits)
    times = start_time_s + point_spacing_s * np.arange(1, tracked + 1, dtype=np.float64)
    reference, velocity = _interpolate(waypoints_q, waypoint_times_s, np.append(start_time_s, times))
    position_gap, velocity_gap = start.position - reference[0], start.velocity - velocity[0]
    gap, gap_velocity = _close(position_gap, velocity_gap, times - start_time_s, limits)
    reference, velocity = reference[1:] + gap, velocity[1:] + gap_velocity
    return _solve(reference, velocity, start, steps, point_spacing_s, limits)


def stop_trajectory(start: JointMotion, point_spacing_s: float, limits: JointLimits) -> Trajectory:
    """Come to rest as soon as the limits allow.

    Braking comes first: from a state that cannot but leave its position or velocity limit, the arm still stops.

    Args:
        start: The controller's desired state.
        point_spacing_s: Time between two points.
        limits: Bounds of each joint.
    """
    nothing = np.empty((0, len(start.position)))
    steps = _stop_steps(start, point_spacing_s, limits)
    try:
        return _solve(nothing, nothing, start, steps, point_spacing_s, limits)
    except TrajectoryError:
        unbounded = np.full(len(start.position), np.inf)
        fastest = np.abs(start.velocity) + start.acceleration**2 / _jerk(limits, point_spacing_s) + limits.velocity
        relaxed = JointLimits(-unbounded, unbounded, fastest, limits.acceleration, limits.jerk)
        return _solve(nothing, nothing, start, steps, point_spacing_s, relaxed)


def _interpolate(waypoints_q: Array, waypoint_times_s: Array, times: Array) -> tuple[Array, Array]:
    """Reference positions and velocities (times, joints).

    Monotone cubics do not overshoot: a path that runs into a clipped target arrives there with zero velocity.
    """
    from scipy.interpolate import PchipInterpolator  # comes with pin-pink, the optional extra [ik]

    if len(waypoints_q) == 1:
        return np.repeat(waypoints_q, len(times), axis=0), np.zeros((len(times), waypoints_q.shape[1]))
    path = PchipInterpolator(waypoint_times_s, waypoints_q)
    held = np.clip(times, waypoint_times_s[0], waypoint_times_s[-1])
    return path(held), path(held, 1) * (times == held)[:, None]


def _close(position_gap: Array, velocity_gap: Array, times: Array, limits: JointLimits) -> tuple[Array, Array]:
    """How the gap between start and waypoints closes: cubics that end at the same time for all joints.

    Left to themselves, the joints would each close theirs as fast as they can, and the tool would go astray.

    Args:
        position_gap: float64 (joints,), start minus waypoints.
        velocity_gap: float64 (joints,).
        times: float64 (times,), since the start [s].
        limits: Of which a share is used.

    Returns:
        Gap of position and of velocity at each time, float64 (times, joints).
    """
    speed, acceleration = CLOSING_SHARE * limits.velocity, CLOSING_SHARE * limits.acceleration
    x, v = np.abs(position_gap), np.abs(velocity_gap)
    # A cubic's largest velocity is 3/2 of the mean one; its acceleration is at most 6 x / T^2 + 4 v / T.
    by_acceleration = (2 * v + np.sqrt(4 * v**2 + 6 * acceleration * x)) / acceleration
    duration = max(SHORTEST_CLOSING_S, float(np.max(1.5 * x / speed)), float(np.max(by_acceleration)))
    s = np.minimum(times / duration, 1)[:, None]
    position = (1 - s) ** 2 * ((1 + 2 * s) * position_gap + s * duration * velocity_gap)
    velocity = (1 - s) * ((1 - 3 * s) * velocity_gap - 6 * s * position_gap / duration)
    return position, velocity


def _stop_steps(start: JointMotion, spacing: float, limits: JointLimits) -> int:
    """Steps that a stop takes at most, from any state that the horizon can end in, and from the start."""
    jerk = _jerk(limits, spacing)
    velocity = np.maximum(limits.velocity, np.abs(start.velocity)) + limits.acceleration**2 / (2 * jerk)
    acceleration = np.maximum(limits.acceleration, np.abs(start.acceleration))
    # Acceleration to zero, full braking, braking to zero: each rounded up to whole steps.
    return int(np.ceil(np.max(velocity / limits.acceleration + 2 * acceleration / jerk) / spacing)) + 3


def _jerk(limits: JointLimits, spacing: float) -> Array:
    """Jerk limits that let a velocity exceed those at the points on both sides by 10 % of its limit at most."""
    return np.minimum(limits.jerk, 0.8 * limits.velocity / spacing**2)


@lru_cache(maxsize=32)
def _matrices(steps: int, spacing: float) -> tuple[Array, Array, Array]:
    """How jerks (columns) add to accelerations, velocities and positions at the points: (steps, steps) each."""
    since = np.arange(1, steps + 1)[:, None] - np.arange(1, steps + 1)[None, :]  # whole steps since the jerk ended
    after = since >= 0
    acceleration = np.where(after, spacing, 0.0)
    velocity = np.where(after, (since + 1 / 2) * spacing**2, 0.0)
    position = np.where(after, (since**2 / 2 + since / 2 + 1 / 6) * spacing**3, 0.0)
    return acceleration, velocity, position


@lru_cache(maxsize=32)
def _programme(tracked: int, steps: int, spacing: float) -> tuple[Array, Array, Array, Array]:
    """Hessian of the cost, and the maps from errors of position, velocity and acceleration to its gradient."""
    acceleration, velocity, position = _matrices(steps, spacing)
    followed = position * (np.arange(steps) < tracked)[:, None]
    smoothing = SMOOTHING * SETTLING_S**2
    hessian = (
        followed.T @ followed + SETTLING_S**2 * velocity.T @ velocity + smoothing**2 * acceleration.T @ acceleration
    )
    scale = 1 / np.max(np.diag(hessian))
    return (
        scale * hessian,
        scale * followed.T,
        scale * SETTLING_S**2 * velocity.T,
        scale * smoothing**2 * acceleration.T,
    )


def _solve(
    reference: Array, reference_velocity: Array, start: JointMotion, steps: int, spacing: float, limits: JointLimits
) -> Trajectory:
    """One quadratic programme per joint.

    Args:
        reference: float64 (tracked, joints), positions to follow in the first steps; then velocity is braked.
        reference_velocity: float64 (tracked, joints).
    """
    import daqp  # optional extra [ik]; imported late, so that the types here can be used without it

    tracked = len(reference)
    from_jerk = _matrices(steps, spacing)
    hessian, from_position, from_velocity, from_acceleration = _programme(tracked, steps, spacing)
    time = spacing * np.arange(1, steps + 1, dtype=np.float64)
    jerk_limit = _jerk(limits, spacing)
    # Between two points a velocity peaks by up to jerk * spacing^2 / 8 above them, and a position by as much as
    # full acceleration moves in half a step.
    velocity_limit = limits.velocity - jerk_limit * spacing**2 / 8
    inset = limits.acceleration * spacing**2 / 8
    free = np.stack(
        [
            np.broadcast_to(start.acceleration, (steps, len(start.position))),
            start.velocity + np.outer(time, start.acceleration),
            start.position + np.outer(time, start.velocity) + np.outer(time**2 / 2, start.acceleration),
        ]
    )  # the motion without any jerk
    motion = np.empty_like(free)
    for joint in range(len(start.position)):
        a, v, q = free[:, :, joint]
        drift = np.zeros(steps)
        drift[:tracked] = q[:tracked] - reference[:, joint]
        excess = v.copy()
        excess[:tracked] -= reference_velocity[:, joint]
        gradient = from_position @ drift + from_velocity @ excess + from_acceleration @ a
        # A start beyond a limit may come back at its own pace.
        low = min(limits.lower[joint] + inset[joint], start.position[joint])
        high = max(limits.upper[joint] - inset[joint], start.position[joint])
        fastest = max(velocity_limit[joint], abs(start.velocity[joint]))
        strongest = max(limits.acceleration[joint], abs(start.acceleration[joint]))
        rows, lower, upper = [from_jerk[0], from_jerk[1]], [-strongest - a, -fastest - v], [strongest - a, fastest - v]
        if np.isfinite(low) or np.isfinite(high):
            rows.append(from_jerk[2])
            lower.append(low - q)
            upper.append(high - q)
        A, below, above = np.vstack(rows), np.concatenate(lower), np.concatenate(upper)
        kind = np.zeros(steps + len(A), dtype=np.int32)
        for last, rest in ((steps - 1, -a[-1]), (2 * steps - 1, -v[-1])):
            below[last] = above[last] = rest
            kind[steps + last] = 5  # equality
        jerk = np.full(steps, jerk_limit[joint])
        solution, _, status, _ = daqp.solve(
            hessian, gradient, A, np.concatenate([jerk, above]), np.concatenate([-jerk, below]), kind
        )
        if status != 1:
            raise TrajectoryError(
                f"joint {joint}: no trajectory within the limits from position {start.position[joint]:.3f}, velocity "
                f"{start.velocity[joint]:.3f}, acceleration {start.acceleration[joint]:.3f}"
            )
        motion[:, :, joint] = free[:, :, joint] + [M @ solution for M in from_jerk]
    accelerations, velocities, positions = motion
    velocities[-1] = accelerations[-1] = 0.0  # equal up to rounding; a controller may insist on exactly 0
    return Trajectory(time, positions, velocities, accelerations)

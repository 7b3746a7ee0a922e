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

import numpy as np

from sqap_vla_ros.control.jerk_qp import ROUNDING, jerk_qp
from sqap_vla_ros.core.types import Array

# A gap between the start and the waypoints closes in this time at least [s], using this share of velocity and
# acceleration limits: the rest is for following the waypoints meanwhile.
SHORTEST_CLOSING_S = 0.2
CLOSING_SHARE = 0.8
# Velocities and accelerations that are nothing but rounding [SI].
_REST = 1e-9


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
        Points at 1, 2, ... spacings after `start_time_s`: the horizon, and on until all joints are at rest.

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


def _solve(
    reference: Array, reference_velocity: Array, start: JointMotion, steps: int, spacing: float, limits: JointLimits
) -> Trajectory:
    """One quadratic programme per joint.

    Args:
        reference: float64 (tracked, joints), positions to follow in the first steps; then velocity is braked.
        reference_velocity: float64 (tracked, joints).
    """
    tracked, joints = reference.shape
    programme = jerk_qp(tracked, steps, spacing)
    time = spacing * np.arange(1, steps + 1, dtype=np.float64)
    jerk_limit = _jerk(limits, spacing)
    free = np.stack(
        [
            np.broadcast_to(start.acceleration, (steps, joints)),
            start.velocity + np.outer(time, start.acceleration),
            start.position + np.outer(time, start.velocity) + np.outer(time**2 / 2, start.acceleration),
        ]
    )  # the motion without any jerk
    errors = free.copy()
    errors[1, :tracked] -= reference_velocity
    errors[2, :tracked] -= reference
    gradient = programme.gradient @ errors.reshape(3 * steps, joints)

    # Between two points a velocity peaks by up to jerk * spacing^2 / 8 above them, and a position by as much as
    # full acceleration moves in half a step. A start beyond a limit may come back at its own pace.
    strongest = np.maximum(limits.acceleration, np.abs(start.acceleration))
    fastest = np.maximum(limits.velocity - jerk_limit * spacing**2 / 8, np.abs(start.velocity))
    inset = limits.acceleration * spacing**2 / 8
    low, high = np.minimum(limits.lower + inset, start.position), np.maximum(limits.upper - inset, start.position)
    below = (np.stack([-strongest, -fastest, low])[:, None] - free).reshape(3 * steps, joints)
    above = (np.stack([strongest, fastest, high])[:, None] - free).reshape(3 * steps, joints)
    last = [steps - 1, 2 * steps - 1]
    below[last] = above[last] = -free[:2, -1]  # at rest

    jerks = programme.optimum @ np.vstack([gradient, above[last]])
    moved = programme.effect @ jerks
    within = (below - ROUNDING <= moved) & (moved <= above + ROUNDING)
    bound = ~within.all(axis=0) | (np.abs(jerks) > jerk_limit).any(axis=0)
    for joint in np.flatnonzero(bound):
        solution = programme.bounded(gradient[:, joint], below[:, joint], above[:, joint], jerk_limit[joint])
        if solution is None:
            raise TrajectoryError(
                f"joint {joint}: no trajectory within the limits from position {start.position[joint]:.3f}, velocity "
                f"{start.velocity[joint]:.3f}, acceleration {start.acceleration[joint]:.3f}"
            )
        moved[:, joint] = programme.effect @ solution
    motion = free + moved.reshape(free.shape)
    # Of the points after the horizon, one at rest is enough.
    moving = np.flatnonzero((np.abs(motion[:2]) > _REST).any(axis=(0, 2)))
    points = min(max(tracked, moving[-1] + 2 if len(moving) else 1), steps)
    accelerations, velocities, positions = motion[:, :points]
    velocities[-1] = accelerations[-1] = 0.0  # equal up to rounding; a controller may insist on exactly 0
    return Trajectory(time[:points], positions, velocities, accelerations)

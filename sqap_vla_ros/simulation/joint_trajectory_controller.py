"""The rules of ros2_control's joint_trajectory_controller without a controller manager: what it accepts and follows.

Modelled on its Jazzy release with `interpolate_from_desired_state`: a new trajectory replaces the old one at the next
sample; until its first point it is interpolated from the last desired state, points that are past are skipped, and the
last point is held. Positions alone are interpolated linearly, with velocities by cubics, with accelerations too by
quintics. Unlike the real controller it also counts what a robot would not survive: steps of position, velocities and
accelerations beyond the limits, and numbers that are not finite.

Speed scaling: in each cycle the trajectory's time advances by the factor times the cycle; a new trajectory sets it to
the clock, so that what it had fallen behind is gone. In releases with speed scaling, and in UR's controller, a command
is what the trajectory has one cycle later, and yet is remembered with the cycle's begin as its time: a new trajectory
whose first point is still to come is entered one cycle too far (`looks_ahead`).

Releases from July 2026 on keep the old trajectory up to the new one's stamp (`replaces`, their
`allow_trajectory_replacement`): a stamp that is past counts as now, and one that is to come is a time on the clock.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

from sqap_vla_ros.config.robot import Limits
from sqap_vla_ros.control.trajectory import JointLimits
from sqap_vla_ros.core.types import Array
from sqap_vla_ros.simulation.polynomials import State, evaluate, polynomial

# The real controller's tolerance on the velocity of the last point.
_FLOAT32_EPSILON = float(np.finfo(np.float32).eps)
# Share of a limit that may be exceeded: rounding of times and stamps.
_TOLERANCE = 1e-3
# Rounding of a position, over the float64 seconds of a clock that counts from 1970 [rad or m].
_POSITION_ROUNDING = 1e-5


@dataclass(frozen=True)
class Violation:
    """Something that would fault a real robot.

    Attributes:
        kind: "velocity", "acceleration", "jump" or "not finite".
        time_s: Time (s).
        joint: Name of the joint.
        value: The desired value [SI]; for a jump the step of position.
        limit: The largest value that is allowed.
    """

    kind: str
    time_s: float
    joint: str
    value: float
    limit: float


@dataclass(frozen=True)
class _Points:
    """An accepted message: arrays in the controller's order of joints.

    Attributes:
        start_s: The header's stamp; 0: the moment of the first sample.
        time_from_start: float64 (points,) [s].
        states: Positions, velocities and accelerations, float64 (points, joints) each; zeros where none are given.
        order: 1, 3 or 5, the order of the polynomials that the given quantities allow.
    """

    start_s: float
    time_from_start: Array
    states: tuple[Array, Array, Array]
    order: int


class JointTrajectoryController:
    """One controller: `accept` messages, sample `desired` at the control rate, read `violations`.

    Attributes:
        factor: Speed scaling: the share of full speed.
        violations: What a robot would not survive.
    """

    def __init__(
        self,
        joints: tuple[str, ...],
        position: Array,
        limits: JointLimits | None = None,
        looks_ahead: bool = False,
        replaces: bool = False,
    ) -> None:
        """Hold a position.

        Args:
            joints: The controller's joints, in the order of all arrays that it returns.
            position: float64 (joints,) [rad or m].
            limits: Limits for `violations`; the real controller knows none.
            looks_ahead: Whether commands are remembered with the time of a cycle before they are reached.
            replaces: Whether the old trajectory goes on up to the stamp of a new one.
        """
        self.factor = 1.0
        self.violations: list[Violation] = []
        self._looks_ahead = looks_ahead
        self._replaces = replaces
        self._cursor_s = 0.0  # the trajectory's time in the last cycle
        self._behind_s = 0.0  # the trajectory's time, behind the clock
        self._joints = joints
        self._limits = limits
        zero = np.zeros(len(joints))
        self._last_s: float | None = None
        self._last = (np.array(position, dtype=np.float64), zero, zero)
        self._watched = self._last[:2]  # position and velocity on the clock, as they were last looked at
        self._running: _Running | None = None
        self._pending: _Points | None = None

    def accept(self, trajectory: Any, now_s: float) -> str | None:
        """Take a trajectory over at the next sample.

        Args:
            trajectory: A trajectory_msgs/JointTrajectory, or an object with its fields.
            now_s: Time on the clock of the stamps (s).

        Returns:
            None, or the reason why it is rejected.
        """
        try:
            self._pending = self._read(trajectory, now_s)
        except _Rejected as rejection:
            return str(rejection)
        return None

    def desired(self, now_s: float) -> State:
        """The desired state of now.

        Args:
            now_s: Time (s), which must not go back.

        Returns:
            Positions, velocities and accelerations, float64 (joints,) each, as a function of the clock.
        """
        cycle_s = 0.0 if self._last_s is None else now_s - self._last_s
        if self._pending is not None:
            before_s = now_s if self._last_s is None else self._last_s - (cycle_s if self._looks_ahead else 0.0)
            points = self._pending
            if self._replaces and self._running is not None:
                points = self._running.replaced_by(points, self._cursor_s, now_s, self.factor)
            self._running = _Running(points, before_s, self._last, now_s)
            self._pending, self._behind_s = None, 0.0
        self._cursor_s = now_s - self._behind_s
        state = self._last if self._running is None else self._running.sample(self._cursor_s)
        self._behind_s += (1.0 - self.factor) * cycle_s
        self._last = state
        position, velocity, acceleration = state
        on_the_clock = position, self.factor * velocity, self.factor**2 * acceleration
        if self._limits is not None:
            self._watch(on_the_clock, now_s, self._limits)
        self._last_s = now_s
        return on_the_clock

    def _read(self, trajectory: Any, now_s: float) -> _Points:
        names, points = list(trajectory.joint_names), list(trajectory.points)
        if sorted(names) != sorted(self._joints):
            raise _Rejected(f"joints {names} are not the controller's {list(self._joints)}")
        if not points:
            raise _Rejected("no points")
        if any(len(point.effort) for point in points):
            raise _Rejected("effort, without an effort interface")
        times = np.array([_seconds(point.time_from_start) for point in points])
        positions = self._field(points, names, "positions", now_s)
        velocities = self._field(points, names, "velocities", now_s)
        accelerations = self._field(points, names, "accelerations", now_s)
        if positions is None:
            raise _Rejected("no positions")
        if velocities is not None and np.abs(velocities[-1]).max() > _FLOAT32_EPSILON:
            raise _Rejected(f"velocity of the last point is not zero: {velocities[-1].tolist()}")
        start_s = _seconds(trajectory.header.stamp)
        if start_s != 0 and start_s + times[-1] < now_s:
            raise _Rejected(f"the trajectory ended {now_s - start_s - times[-1]:.3f} s ago")
        if not (np.diff(times) > 0).all():
            raise _Rejected("times are not strictly increasing")
        zero = np.zeros_like(positions)
        order = 1 if velocities is None else 3 if accelerations is None else 5
        given = (velocities if velocities is not None else zero, accelerations if accelerations is not None else zero)
        return _Points(start_s, times, (positions, *given), order)

    def _field(self, points: list[Any], names: list[str], field: str, now_s: float) -> Array | None:
        """One field of all points, in the controller's order; None when no point has it.

        Raises:
            _Rejected: Points differ in having it, it has another length, or it is not finite.
        """
        rows = [getattr(point, field) for point in points]
        if not any(len(row) for row in rows):
            return None
        if any(len(row) != len(names) for row in rows):
            raise _Rejected(f"{field} must have {len(names)} values in every point")
        values = np.array(rows, dtype=np.float64)[:, [names.index(joint) for joint in self._joints]]
        if not np.isfinite(values).all():
            point, joint = np.argwhere(~np.isfinite(values))[0]
            self._violate("not finite", now_s, self._joints[joint], values[point, joint], 0.0)
            raise _Rejected(f"{field} are not finite (the real controller would follow them)")
        return values

    def _watch(self, state: State, now_s: float, limits: JointLimits) -> None:
        position, velocity, acceleration = state
        for kind, values, largest in (
            ("velocity", velocity, limits.velocity),
            ("acceleration", acceleration, limits.acceleration),
        ):
            for joint in np.flatnonzero(np.abs(values) > largest * (1 + _TOLERANCE)):
                self._violate(kind, now_s, self._joints[joint], values[joint], largest[joint])
        elapsed = 0.0 if self._last_s is None else now_s - self._last_s
        before, self._watched = self._watched, (position, velocity)
        step = position - before[0]
        reach = limits.velocity * elapsed * (1 + _TOLERANCE) + _POSITION_ROUNDING
        # A step of velocity is a jump too: no acceleration within the limits makes it.
        change = velocity - before[1]
        gain = limits.acceleration * elapsed * (1 + _TOLERANCE) + _POSITION_ROUNDING
        for joint in np.flatnonzero((np.abs(step) > reach) | (np.abs(change) > gain)):
            if abs(step[joint]) > reach[joint]:
                self._violate("jump", now_s, self._joints[joint], step[joint], reach[joint])
            else:
                self._violate("acceleration", now_s, self._joints[joint], change[joint], gain[joint])

    def _violate(self, kind: str, time_s: float, joint: str, value: float, limit: float) -> None:
        self.violations.append(Violation(kind, time_s, joint, float(value), float(limit)))


class _Rejected(Exception):
    """The controller does not accept the trajectory; the message says why."""


class _Running:
    """The points that are followed, and the state before the first."""

    def __init__(self, points: _Points, before_s: float, before: State, now_s: float) -> None:
        self._points = points
        self._times_s = (points.start_s or now_s) + points.time_from_start
        self._before_s = before_s
        self._before = before
        self._segment = -1  # the polynomial is that of the segment before this point
        self._coefficients: Array = np.zeros((6, 0))

    def sample(self, now_s: float) -> State:
        following = int(np.searchsorted(self._times_s, now_s, side="right"))  # the first point still to come
        if following == len(self._times_s):
            return self._at(following - 1)
        start_s, start = self._before_s, self._before
        if following > 0:
            start_s, start = self._times_s[following - 1], self._at(following - 1)
        duration = self._times_s[following] - start_s
        if following != self._segment:
            self._coefficients = polynomial(start, self._at(following), duration, self._points.order)
            self._segment = following
        return evaluate(self._coefficients, duration, now_s - start_s)

    def replaced_by(self, points: _Points, cursor_s: float, now_s: float, factor: float) -> _Points:
        """A new trajectory after what is left of this one, counted from its time in the last cycle."""
        begin_s = cursor_s + max(points.start_s - now_s, 0.0) * factor
        kept = (self._times_s > cursor_s) & (self._times_s < begin_s)
        times_s = np.concatenate([self._times_s[kept], [begin_s], begin_s + points.time_from_start]) - cursor_s
        states = [
            np.concatenate([old[kept], bridge[None], new])
            for old, bridge, new in zip(self._points.states, self.sample(begin_s), points.states, strict=True)
        ]
        return _Points(now_s, times_s, (states[0], states[1], states[2]), points.order)

    def _at(self, point: int) -> State:
        positions, velocities, accelerations = self._points.states
        return positions[point], velocities[point], accelerations[point]


def _seconds(time: Any) -> float:
    """Seconds of a builtin_interfaces Time or Duration."""
    return float(time.sec + time.nanosec * 1e-9)


def arm_limits(joint_ranges: Array, limits: Limits) -> JointLimits:
    """Limits of the simulated arm: its joints' ranges, float64 (7, 2), and what the robot's settings allow."""
    lower, upper = joint_ranges.T
    bounds = (limits.joint_velocity, limits.joint_acceleration, limits.joint_jerk)
    return JointLimits(lower, upper, *(np.broadcast_to(np.array(bound, float), len(lower)) for bound in bounds))

"""The trajectory that the arm is doing, in the controller's time, and how the next one branches off it.

         now            branch
    ------|---------------|===============>  active trajectory
          |<---- lead --->|`````````````->   next one

Up to the branch both are the same points. The lead is the time that the next one needs until the controller has it.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sqap_vla_ros.control.commands import JointState
from sqap_vla_ros.control.trajectory import JointLimits, JointMotion, Trajectory
from sqap_vla_ros.core.rejection import Cause, RejectedError, Response
from sqap_vla_ros.core.types import Array

# The least lead of a start from rest, where the controller may hold a position slightly off the measured one.
START_LEAD_NS = 100_000_000
# After a trajectory's end the controller is taken to hold its last point, if the joints are still this near [rad or m].
HOLDING = 0.05
# An arm that moves faster than this fraction of its velocity limits without an active trajectory is moved by others.
MOVING = 0.05


@dataclass(frozen=True)
class TimedPoints:
    """Points of a published trajectory: times int64 (points,) [ns], the rest float64 (points, joints)."""

    times_ns: NDArray[np.int64]
    positions: Array
    velocities: Array
    accelerations: Array

    @classmethod
    def at_rest(cls, time_ns: int, position: Array) -> "TimedPoints":
        """One point without motion."""
        still = np.zeros((1, len(position)))
        return cls(np.array([time_ns], dtype=np.int64), position[None], still, still)

    def motion(self, point: int) -> JointMotion:
        """State at a point."""
        return JointMotion(self.positions[point], self.velocities[point], self.accelerations[point])

    def part(self, points: slice) -> "TimedPoints":
        """Some of the points."""
        return TimedPoints(
            self.times_ns[points], self.positions[points], self.velocities[points], self.accelerations[points]
        )

    def then(self, other: "TimedPoints") -> "TimedPoints":
        """These points and later ones."""
        return TimedPoints(
            np.concatenate([self.times_ns, other.times_ns]),
            np.vstack([self.positions, other.positions]),
            np.vstack([self.velocities, other.velocities]),
            np.vstack([self.accelerations, other.accelerations]),
        )

    def followed_by(self, planned: Trajectory, spacing_ns: int) -> "TimedPoints":
        """These points and a trajectory from the last of them on."""
        times_ns = self.times_ns[-1] + spacing_ns * np.arange(1, len(planned.positions) + 1)
        return self.then(TimedPoints(times_ns, planned.positions, planned.velocities, planned.accelerations))

    def from_start(self, start_ns: int) -> Trajectory:
        """With times counted from a moment before the first."""
        seconds = (self.times_ns - start_ns).astype(np.float64) * 1e-9
        return Trajectory(seconds, self.positions, self.velocities, self.accelerations)

    def desired(self, stamp_ns: int) -> tuple[Array, Array]:
        """Positions and velocities that the controller wanted at a moment, float64 (joints,) each.

        Good to the bend of one spacing.
        """
        origin = self.times_ns[0]
        times = self.times_ns - origin
        positions, velocities = (
            np.array([np.interp(stamp_ns - origin, times, column) for column in values.T])
            for values in (self.positions, self.velocities)
        )
        return positions, velocities


class ActiveTrajectory:
    """What was published last: the arm follows it, or rests at its end."""

    def __init__(self) -> None:
        """Start with nothing published."""
        self._points: TimedPoints | None = None

    def replace(self, points: TimedPoints) -> None:
        """Take note that these points were published."""
        self._points = points

    def forget(self) -> None:
        """Take note that what was published is void."""
        self._points = None

    def is_active(self, now_ns: int) -> bool:
        """Whether the arm still follows it; otherwise it rests, as far as this node knows."""
        return self._points is not None and now_ns < self._points.times_ns[-1]

    def desired(self, stamp_ns: int) -> tuple[Array, Array]:
        """Positions and velocities, float64 (joints,) each, wanted at a moment of a trajectory that is active."""
        assert self._points is not None
        return self._points.desired(stamp_ns)

    def branch(self, now_ns: int, lead_ns: int) -> TimedPoints:
        """What remains up to the lead, of a trajectory that is active."""
        assert self._points is not None
        return self._branch(now_ns, self._points.positions[-1], lead_ns)

    def start(
        self, now_ns: int, lead_ns: int, measured: JointState, limits: JointLimits, joints: tuple[str, ...]
    ) -> TimedPoints:
        """The points to publish again, and the last of them to branch off; from rest where nothing is active.

        Args:
            now_ns: The controller's time.
            lead_ns: From now to the branch, at least.
            measured: The arm's joints.
            limits: Of the joints.
            joints: Their names.

        Raises:
            RejectedError: Nothing is active, and yet the arm moves.
        """
        if self.is_active(now_ns):
            return self.branch(now_ns, lead_ns)
        if self._points is not None:
            end = self._points.positions[-1]
            gap = np.abs(measured.positions - end)
            if gap.max() <= HOLDING:
                return self._branch(now_ns, end, max(START_LEAD_NS, lead_ns, _closing_ns(gap, limits)))
        speed = np.abs(measured.velocities) / limits.velocity
        if speed.max() > MOVING:
            joint = int(speed.argmax())
            raise RejectedError(
                Cause.ALREADY_MOVING,
                Response.DROP,
                f"joint {joints[joint]} moves at {measured.velocities[joint]:.3f} rad/s and "
                "no trajectory of this node is active; wait until the arm rests",
            )
        return self._branch(now_ns, measured.positions, max(START_LEAD_NS, lead_ns))

    def _branch(self, now_ns: int, rest: Array, lead_ns: int) -> TimedPoints:
        """What remains of the published points up to the lead; past their end, and a point at rest there."""
        at_rest = TimedPoints.at_rest(now_ns + lead_ns, rest)
        if not self.is_active(now_ns):
            return at_rest
        assert self._points is not None
        times_ns = self._points.times_ns
        previous = max(int(np.searchsorted(times_ns, now_ns, side="right")) - 1, 0)
        branch = int(np.searchsorted(times_ns, now_ns + lead_ns))
        remaining = self._points.part(slice(previous, branch + 1))
        return remaining if branch < len(times_ns) else remaining.then(at_rest)


def going_on(measured: JointState, at_ns: int, limits: JointLimits) -> TimedPoints:
    """The point at which an arm that others move will be: to plan as if it had got there by this node's commands.

    Args:
        measured: The arm's joints.
        at_ns: When.
        limits: A motion beyond them is taken to be as fast as they allow.
    """
    velocity = np.clip(measured.velocities, -limits.velocity, limits.velocity)
    position = measured.positions + velocity * max(at_ns - measured.stamp_ns, 0) * 1e-9
    inside = np.clip(position, limits.lower, limits.upper)
    velocity = np.where(inside == position, velocity, 0.0)
    return TimedPoints(np.array([at_ns], dtype=np.int64), inside[None], velocity[None], np.zeros((1, len(inside))))


def _closing_ns(gap: Array, limits: JointLimits) -> int:
    """How long a cubic from rest to rest takes across a gap float64 (joints,), within the limits.

    A controller that was halted and started again holds the measured position instead, and goes that way.
    """
    fastest, hardest = 1.5 * gap / limits.velocity, np.sqrt(6 * gap / limits.acceleration)
    return round(float(max(fastest.max(), hardest.max())) * 1e9)

"""The trajectory that the arm is doing, on the ROS clock."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sqap_vla_ros.control.trajectory import JointMotion, Trajectory
from sqap_vla_ros.core.types import Array


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

    def desired(self, stamp_ns: int) -> Array:
        """Positions that the controller wanted at a moment, float64 (joints,); good to the bend of one spacing."""
        origin = self.times_ns[0]
        times = self.times_ns - origin
        return np.array([np.interp(stamp_ns - origin, times, column) for column in self.positions.T])

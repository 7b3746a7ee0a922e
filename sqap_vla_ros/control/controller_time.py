"""The time that the arm's controller lives by: below 100 % of speed it passes more slowly than the clock.

A controller with speed scaling (joint_trajectory_controller, UR's scaled_joint_trajectory_controller) samples its
trajectory at a time of its own, which advances in every cycle by the factor times the cycle. With a new trajectory
that time is set to the clock again. So a trajectory that is stamped by the clock would move the arm at once by all
that it has fallen behind.

Everything about motion is therefore planned in *controller time*, the clock less what the factor has taken off it: the
active trajectory, the poses of a chunk, the branch. A message is stamped by what the difference will be when the
controller takes it. At a factor of one the two times are the same.
"""

import math
from bisect import bisect_right

# A factor below this is a pause: a trajectory would last for minutes.
SMALLEST = 0.02
# Above one the arm would be faster than planned; rounding, and a slider's own resolution, are not meant.
LARGEST = 1.001
# How long a change of the factor is remembered [ns]: longer than any image is old.
_REMEMBERED_NS = 30 * 10**9


class ControllerTime:
    """Controller time as a function of the ROS clock, from the factors that the controller reports.

    Attributes:
        factor: As reported last.
        is_scaled: Whether the factor was ever reported as other than one: then it may change again at any moment, and
            trajectories are joined in a way that bears it.
        replaces: Whether the controller keeps the old trajectory up to the stamp of a new one, and takes a stamp that
            is past for now (ros2_controllers' `allow_trajectory_replacement`).
    """

    def __init__(self) -> None:
        """Start at a factor of one, with nothing reported."""
        self.factor = 1.0
        self.is_scaled = False
        self.replaces = False
        self._since_ns = [0]
        self._moments = [(0.0, 1.0)]  # difference [ns] and factor from each of these times on

    def report(self, at_ns: int, factor: float) -> None:
        """Take note of a factor.

        Args:
            at_ns: ROS clock, from when on it holds; reports of earlier moments than the last one hold from then.
            factor: Share of full speed; one that cannot be planned for counts as a pause.
        """
        factor = factor if math.isfinite(factor) and factor > 0.0 else 0.0
        self.is_scaled = self.is_scaled or abs(factor - 1.0) > LARGEST - 1.0
        if factor == self.factor:
            return
        at_ns = max(at_ns, self._since_ns[-1])
        self._moments.append((self._difference_ns(at_ns), factor))
        self._since_ns.append(at_ns)
        self.factor = factor
        forgotten = max(bisect_right(self._since_ns, at_ns - _REMEMBERED_NS) - 1, 0)
        del self._since_ns[:forgotten], self._moments[:forgotten]

    def at(self, now_ns: int) -> int:
        """Controller time at a moment of the ROS clock, which may lie a little ahead."""
        return now_ns - self.difference_ns(now_ns)

    @property
    def splices(self) -> bool:
        """Whether a message must begin at the branch: repeating what is under way would not leave it as it is."""
        return self.is_scaled or self.replaces

    def difference_ns(self, now_ns: int) -> int:
        """How far controller time is behind the ROS clock at a moment."""
        return round(self._difference_ns(now_ns))

    def forget(self) -> None:
        """The ROS clock was set: start again; the next report says what the factor is."""
        self.factor = 1.0
        self._since_ns, self._moments = [0], [(0.0, 1.0)]

    def _difference_ns(self, now_ns: int) -> float:
        moment = max(bisect_right(self._since_ns, now_ns) - 1, 0)
        difference_ns, factor = self._moments[moment]
        return difference_ns + (1.0 - factor) * (now_ns - self._since_ns[moment])

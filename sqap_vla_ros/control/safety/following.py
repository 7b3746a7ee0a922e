"""Whether the arm follows: where the active trajectory has it, and as fast.

An arm that is far from its trajectory is noticed at once (`check_following` in `checks`). One that merely lags is not:
each command takes it along, and between two of them it falls behind by centimetres at most. But its joints are then
slower than what is commanded, whenever one looks.
"""

from collections import deque

import numpy as np

from sqap_vla_ros.core.rejection import Cause, RejectedError, Response
from sqap_vla_ros.core.types import Array

# Commands over which the pace is taken, and how many of a moving arm it takes, over which time [ns].
_WINDOW = 40
_ENOUGH, _LONG_ENOUGH_NS = 8, 10**9
# Slower than this share of the limits an arm is not looked at: friction and noise are as large.
_MOVES = 0.02
# Tracking delays and what positions are rounded to leave more than this of the commanded pace.
_SMALLEST_PACE = 0.75


class Pace:
    """How fast the arm goes, as a share of what is commanded: over the last commands.

    Args:
        velocity_limits: float64 (joints,), which make joints of different kinds comparable.
    """

    def __init__(self, velocity_limits: Array) -> None:
        self._limits = velocity_limits
        self._before: tuple[int, Array, Array] | None = None
        self._looks: deque[tuple[int, float, float]] = deque(maxlen=_WINDOW)  # when, along the command, commanded

    def forget(self) -> None:
        """Begin anew: the arm comes to rest, or does something else."""
        self._looks.clear()
        self._before = None

    def check_positions(self, now_ns: int, wanted: Array, measured: Array) -> None:
        """Look at the arm once more, where each command joins its motion wherever it is.

        Args:
            now_ns: ROS clock.
            wanted: float64 (joints,), positions that its controller should have [rad or m].
            measured: float64 (joints,), its positions.

        Raises:
            RejectedError: It lags.
        """
        before, self._before = self._before, (now_ns, wanted, measured)
        if before is not None and now_ns > before[0]:
            passed_s = (now_ns - before[0]) * 1e-9
            self.check(now_ns, (wanted - before[1]) / passed_s, (measured - before[2]) / passed_s)

    def check(self, now_ns: int, commanded: Array, measured: Array) -> None:
        """Look at the arm once more.

        Args:
            now_ns: ROS clock.
            commanded: float64 (joints,), the velocities that its controller should have had then [rad/s or m/s].
            measured: float64 (joints,), its velocities, from its positions.

        Raises:
            RejectedError: It lags.
        """
        wanted, real = commanded / self._limits, measured / self._limits
        if np.abs(wanted).max() < _MOVES or (self._looks and now_ns <= self._looks[-1][0]):
            return
        self._looks.append((now_ns, float(real @ wanted), float(wanted @ wanted)))
        if len(self._looks) < _ENOUGH or now_ns - self._looks[0][0] < _LONG_ENOUGH_NS:
            return
        pace = sum(along for _, along, _ in self._looks) / sum(whole for _, _, whole in self._looks)
        if pace < _SMALLEST_PACE:
            self.forget()
            raise RejectedError(
                Cause.NOT_FOLLOWING,
                Response.STOP,
                f"the arm lags: it goes at {100 * max(pace, 0.0):.0f} % of the commanded speed; is its speed scaled "
                "(topics.speed_scaling), or is it held?",
            )

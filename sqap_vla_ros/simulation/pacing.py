"""Keeps a simulation from running faster than it should."""

import threading
import time

# A lag up to here is made up for by running faster. Making up for more would be a burst of simulated time, in which a
# command that was sent on time arrives late.
_LARGEST_LAG_S = 0.02


class Pacer:
    """Holds simulated time to a multiple of wall time; time that a slow machine loses stays lost.

    Args:
        factor: Simulated seconds per wall second, at most; 0: no limit.
        interrupted: Ends a wait early.
    """

    def __init__(self, factor: float, interrupted: threading.Event) -> None:
        self._factor = factor
        self._interrupted = interrupted
        self._start_s = time.monotonic()

    def wait(self, simulated_s: float) -> float:
        """Wait until the simulation may continue.

        Args:
            simulated_s: Simulated time since this was made (s).

        Returns:
            Wall time that the simulation fell behind for good (s).
        """
        if not self._factor:
            return 0.0
        ahead_s = self._start_s + simulated_s / self._factor - time.monotonic()
        if ahead_s > 0:
            self._interrupted.wait(ahead_s)
        lost_s = max(0.0, -ahead_s - _LARGEST_LAG_S)
        self._start_s += lost_s
        return lost_s

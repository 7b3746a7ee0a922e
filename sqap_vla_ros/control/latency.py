"""Measured delays: how long a trajectory must last, and how far ahead of now it may branch off the running one."""

from collections import deque

import numpy as np

# Spare time beyond what was measured [s].
SPARE_S = 0.2
# Before anything is measured [s]: a plan of a few hundred milliseconds, twice a second.
FIRST_GUESS_S = 1.0
# Whatever was measured: without a new command the arm is at rest after this and its ramp [s].
LONGEST_S = 2.0
# From publishing a command to the controller's next cycle, at least [ns].
TRANSPORT_NS = 30_000_000
# Computing a command may take longer by this much than it ever did [ns].
SPARE_LEAD_NS = 10_000_000
# Chunks after the start that do not count: memory is touched and code is compiled for the first time.
WARM_UP = 3


class DelayEstimate:
    """From an image to the command that follows from it, over the last 200 chunks; and what to do about it.

    What a trajectory has to bridge at its end is the time between two chunks and the age that the next one has when
    it is commanded.
    """

    def __init__(self) -> None:
        """Start without measurements."""
        self._delays_s: deque[float] = deque(maxlen=200)
        self._needed_s: deque[float] = deque(maxlen=200)
        self._chunks = 0
        self._last_ns: int | None = None

    def add(self, stamp_ns: int, now_ns: int) -> None:
        """Count a chunk that was planned from an observation at `stamp_ns` and is commanded at `now_ns`."""
        self._chunks += 1
        if self._chunks > WARM_UP:
            self._delays_s.append((now_ns - stamp_ns) * 1e-9)
            if self._last_ns is not None:
                self._needed_s.append((now_ns - stamp_ns + now_ns - self._last_ns) * 1e-9)
        self._last_ns = now_ns

    def interrupt(self) -> None:
        """The time to the next chunk is a pause, not a period."""
        self._last_ns = None

    @property
    def delay_s(self) -> float | None:
        """99th percentile of the age that a chunk has when it is commanded [s]; None before any counts."""
        return float(np.quantile(self._delays_s, 0.99)) if self._delays_s else None

    @property
    def horizon_s(self) -> float:
        """99th percentile of what was needed, and some spare time [s]."""
        if not self._needed_s:
            return FIRST_GUESS_S
        return float(min(np.quantile(self._needed_s, 0.99) + SPARE_S, LONGEST_S))


class LeadEstimate:
    """How far ahead of now a trajectory may leave the running one: measured, over the last 100 commands.

    A controller that gets it later than that jumps. How long a message takes to the controller cannot be measured from
    here, but the way back can: commands are taken to be as late as joint states are old, also on a busy machine.
    """

    def __init__(self) -> None:
        """Start without measurements."""
        self._computing_ns: deque[int] = deque(maxlen=100)
        self._ages_ns: deque[int] = deque(maxlen=100)

    def computed(self, computing_ns: int) -> None:
        """Count a command that was ready so long after the clock was read for it."""
        self._computing_ns.append(computing_ns)

    def received(self, age_ns: int) -> None:
        """Count the age that the newest joint states had when a command was asked for."""
        self._ages_ns.append(age_ns)

    @property
    def transport_ns(self) -> int:
        """What the way to the controller may take."""
        return max(TRANSPORT_NS, *self._ages_ns, 0)

    @property
    def lead_ns(self) -> int:
        """That, the longest computing, and some time to spare."""
        return self.transport_ns + SPARE_LEAD_NS + max(self._computing_ns, default=0)

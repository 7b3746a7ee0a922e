"""Times of ROS messages as nanoseconds, for messages of rclpy and of rosbags alike; and clocks that were set."""

from typing import Any, Protocol

# A clock whose reading goes back by more than this was set. By less, it was adjusted: the arm still does what was
# published, and must be stopped from there.
CLOCK_BACK_NS = 10**8
# A clock that goes ahead of real time by more than this was set; by less, this process was held up.
CLOCK_AHEAD_NS = 10**9
# Messages may arrive out of order. A stamp that is further back than this shows that the clock was set back (or that a
# bag was started over), not that a message was late.
STAMP_BACK_NS = 10**9


def time_ns(time: Any) -> int:
    """Nanoseconds of a builtin_interfaces Time or Duration."""
    return int(time.sec) * 10**9 + int(time.nanosec)


def stamp_ns(message: Any) -> int:
    """Nanoseconds of the stamp in a message's header."""
    return time_ns(message.header.stamp)


class JumpDetector:
    """Notices from a clock's readings, or from the stamps of messages, that the clock was set.

    Args:
        back_ns: A reading further back than this from the newest one is a jump: `CLOCK_BACK_NS` for readings,
            `STAMP_BACK_NS` for stamps.
    """

    def __init__(self, back_ns: int) -> None:
        self._back_ns = back_ns
        self.forget()

    def forget(self) -> None:
        """Take the next reading for the first one."""
        self._newest_ns = self._steady_ns = 0

    def jump_ns(self, reading_ns: int, steady_ns: int | None = None) -> int:
        """Take a reading.

        Args:
            reading_ns: Of the clock; 0 is no time yet.
            steady_ns: Of a clock that nobody can set, at the same moment. With it, jumps ahead are noticed as well.

        Returns:
            By how much the clock was set since the newest reading; 0 when it was not. A simulated clock may stand
            still, or run slower or faster than real time.
        """
        passed_ns = reading_ns - self._newest_ns
        real_ns = 0 if steady_ns is None else steady_ns - self._steady_ns
        is_ahead = steady_ns is not None and passed_ns - real_ns > CLOCK_AHEAD_NS
        is_jump = self._newest_ns != 0 and (passed_ns < -self._back_ns or is_ahead)
        if is_jump or passed_ns >= 0:
            self._newest_ns, self._steady_ns = reading_ns, steady_ns or 0
        return passed_ns - real_ns if is_jump else 0


class Clock(Protocol):
    """The clocks that a control loop lives by: ROS time, which can be set or stand still, and steady time."""

    def now_ns(self) -> int:
        """The ROS clock; 0: there is no time yet."""

    def steady_ns(self) -> int:
        """A clock that nobody can set."""

    def sleep(self, seconds: float) -> None:
        """Let steady time pass."""

"""A controller that nothing holds up, in a process that may be.

The synthetic robot shares its cores with the node and whatever else runs; a real controller does not. So this one gets
each command at the moment when the middleware received it, and is sampled at 100 Hz without gaps (where its speed is
scaled, at the 500 Hz of the arms that have that): what should have happened since it was asked last is made up for when
it is asked again.
"""

from collections.abc import Callable
from typing import Any

from numpy.typing import NDArray

from sqap_vla_ros.control.trajectory import JointLimits
from sqap_vla_ros.simulation.joint_trajectory_controller import JointTrajectoryController, State, Violation

_PERIOD_NS = 10_000_000
_SCALED_PERIOD_NS = 2_000_000


class IdealController:
    """Follows the commands in the order of their reception.

    Args:
        joints: Of the controller.
        position: float64 (joints,), where the arm is [rad or m].
        limits: That the motion has to keep.
        begin_ns: Time of the first sample, on the clock of the commands.

    Attributes:
        factor_at: The speed scaling's factor at a moment (ns); None: a controller without speed scaling.
        violations: What a real arm would not have survived.
        rejections: Why commands were not taken.
    """

    def __init__(self, joints: tuple[str, ...], position: NDArray[Any], limits: JointLimits, begin_ns: int) -> None:
        self._joints = joints
        self._limits = limits
        self._waiting: list[tuple[int, Any]] = []
        self.factor_at: Callable[[int], float] | None = None
        self.violations: list[Violation] = []
        self.rejections: list[str] = []
        self._sampled_ns = begin_ns
        self._begin(position, begin_ns)

    def receive(self, at_ns: int, message: Any) -> None:
        """Take a command that was received at a moment; those that were received before it come before it."""
        self._waiting.append((at_ns, message))

    def restart(self, now_ns: int, position: NDArray[Any]) -> None:
        """It begins anew and holds a position, float64 (joints,); the account goes on."""
        self.follow(now_ns)
        self._begin(position, now_ns)

    def follow(self, now_ns: int) -> State:
        """What is wanted now: position, velocity, acceleration, float64 (joints,) each.

        Call it after `receive` was called for all commands that were received by now.
        """
        while (at_ns := self._next_ns(now_ns)) is not None:
            self._sampled_ns = at_ns
            self._controller.factor = 1.0 if self.factor_at is None else self.factor_at(at_ns)
            while self._waiting and self._waiting[0][0] <= self._sampled_ns:
                received_ns, message = self._waiting.pop(0)
                if rejection := self._controller.accept(message, received_ns * 1e-9):
                    self.rejections.append(rejection)
            self._state = self._controller.desired(self._sampled_ns * 1e-9)
        return self._state

    def _next_ns(self, now_ns: int) -> int | None:
        """The next cycle; None when it is still to come. The rule of speed scaling needs cycles of one length."""
        if self.factor_at is not None:
            at_ns = self._sampled_ns + _SCALED_PERIOD_NS
            return at_ns if at_ns <= now_ns else None
        return min(self._sampled_ns + _PERIOD_NS, now_ns) if self._sampled_ns < now_ns else None

    def _begin(self, position: NDArray[Any], now_ns: int) -> None:
        self._controller = JointTrajectoryController(self._joints, position, self._limits, looks_ahead=True)
        self._controller.violations = self.violations
        self._sampled_ns = now_ns
        self._state = self._controller.desired(now_ns * 1e-9)

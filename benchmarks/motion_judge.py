"""What a controller makes of the commands when nothing holds it up.

The synthetic robot shares its cores with the node and whatever else runs; a real controller does not. So commands are
judged by a controller that gets each at the moment when the middleware received it, and that is sampled at 100 Hz
without gaps. It runs behind real time, by more than a busy machine delays the hand-over.
"""

from typing import Any

from numpy.typing import NDArray

from sqap_vla_ros.control.trajectory import JointLimits
from sqap_vla_ros.simulation.joint_trajectory_controller import JointTrajectoryController, Violation

BEHIND_S = 0.5
_PERIOD_NS = 10_000_000


class MotionJudge:
    """Follows the commands in the order of their reception.

    Args:
        joints: Of the controller.
        position: float64 (joints,), where the arm is [rad or m].
        limits: That the motion has to keep.
        begin_ns: Time of the first sample, on the clock of the commands.

    Attributes:
        violations: What a real arm would not have survived.
    """

    def __init__(self, joints: tuple[str, ...], position: NDArray[Any], limits: JointLimits, begin_ns: int) -> None:
        self._joints = joints
        self._limits = limits
        self._sampled_ns = begin_ns
        self._events: list[tuple[int, Any]] = []
        self._controller = JointTrajectoryController(joints, position, limits)
        self.violations: list[Violation] = []
        self._controller.violations = self.violations

    def receive(self, at_ns: int, message: Any) -> None:
        """A command was received."""
        self._events.append((at_ns, message))

    def restart(self, at_ns: int, position: NDArray[Any]) -> None:
        """The controller began anew and holds a position, float64 (joints,)."""
        self._events.append((at_ns, position))

    def watch(self, now_ns: int) -> None:
        """Sample what is due by now; call often."""
        while self._sampled_ns + _PERIOD_NS <= now_ns - BEHIND_S * 1e9:
            self._sampled_ns += _PERIOD_NS
            self._events.sort(key=lambda event: event[0])
            while self._events and self._events[0][0] <= self._sampled_ns:
                at_ns, event = self._events.pop(0)
                if hasattr(event, "points"):
                    self._controller.accept(event, at_ns * 1e-9)
                else:
                    self._controller = JointTrajectoryController(self._joints, event, self._limits)
                    self._controller.violations = self.violations
            self._controller.desired(self._sampled_ns * 1e-9)

"""An arm whose controller scales its speed, by the real rule, at UR's 500 Hz."""

from collections.abc import Callable

import numpy as np
from commanded_arm import MS, Arm
from control_robots import PANDA_HOME, PANDA_JOINTS

from sqap_vla_ros.config.robot import Robot
from sqap_vla_ros.control.commander import Commander
from sqap_vla_ros.control.commands import JointState
from sqap_vla_ros.control.controller_time import ControllerTime
from sqap_vla_ros.control.kinematics import Kinematics
from sqap_vla_ros.simulation.joint_trajectory_controller import JointTrajectoryController

# The factor is published at 100 Hz, and takes so long to the node.
REPORTED_EVERY_NS, REPORTED_LATE_NS = 10 * MS, 12 * MS


class ScaledArm(Arm):
    """`Arm` with a speed slider.

    Args:
        kinematics: Of the arm.
        robot: Its settings.
        factor_at: Share of full speed, by the seconds since the start.
        is_reported: Whether the node knows.
    """

    def __init__(
        self, kinematics: Kinematics, robot: Robot, factor_at: Callable[[float], float], is_reported: bool = True
    ) -> None:
        super().__init__(kinematics, robot)
        self.factor_at = factor_at
        self.time = ControllerTime()
        self.is_reported = is_reported
        self.commander = Commander(robot, kinematics, self.time)
        self.controller = JointTrajectoryController(PANDA_JOINTS, PANDA_HOME, self.bounds, looks_ahead=True)
        self.state = self.controller.desired(self.now_ns * 1e-9)
        self.begin_ns = self.now_ns
        self._before: JointState | None = None

    def elapsed_s(self, at_ns: int) -> float:
        return (at_ns - self.begin_ns) * 1e-9

    @property
    def joint_state(self) -> JointState:
        pace = None if self._before is None else (self.state[0] - self._before.positions) / (2 * MS * 1e-9)
        return JointState(self.state[0], self.state[1], self.now_ns, pace)

    def run(self, seconds: float) -> None:
        end_ns = self.now_ns + round(seconds * 1e9)
        while self.now_ns < end_ns:
            self._before = self.joint_state
            self.now_ns += 2 * MS
            self.controller.factor = self.factor_at(self.elapsed_s(self.now_ns))
            if self.is_reported and (self.now_ns - self.begin_ns) % REPORTED_EVERY_NS == 0:
                measured_ns = self.now_ns - REPORTED_LATE_NS
                self.time.report(self.now_ns, self.factor_at(max(self.elapsed_s(measured_ns), 0.0)))
            while self.messages and self.messages[0][0] <= self.now_ns:
                assert self.controller.accept(self.messages.popleft()[1], self.now_ns * 1e-9) is None
            self.state = self.controller.desired(self.now_ns * 1e-9)
            self.path.append(self.state[0])

    @property
    def fastest(self) -> float:
        """The largest step of a commanded position, as a share of what the velocity limits allow in a cycle."""
        steps = np.abs(np.diff(self.path, axis=0)) / (2 * MS * 1e-9)
        return float((steps / self.bounds.velocity).max())

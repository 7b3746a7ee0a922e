"""Commands for a controller that keeps the old trajectory up to the stamp of a new one (ros2_controllers of 2026)."""

from collections.abc import Callable

import numpy as np
import pytest
from commanded_arm import settings, steady
from control_robots import PANDA_HOME, PANDA_JOINTS
from scaled_arm import ScaledArm

from sqap_vla_ros.control.commands import Command
from sqap_vla_ros.control.kinematics import Kinematics
from sqap_vla_ros.simulation.joint_trajectory_controller import JointTrajectoryController

FACTORS: dict[str, Callable[[float], float]] = {
    "100 %": lambda at_s: 1.0,
    "50 %": lambda at_s: 0.5,
    "10 %": lambda at_s: 0.1,
    "moved": lambda at_s: float(np.interp(at_s, [1, 1.5, 3, 3.5], [1, 0.1, 0.1, 1])),
}


class ReplacingArm(ScaledArm):
    """An arm whose controller has `allow_trajectory_replacement`.

    Args:
        is_known: Whether the node knows.
    """

    def __init__(
        self, kinematics: Kinematics, factor_at: Callable[[float], float] = lambda at_s: 1.0, is_known: bool = True
    ) -> None:
        super().__init__(kinematics, settings(), factor_at)
        self.time.replaces = is_known
        self.controller = JointTrajectoryController(
            PANDA_JOINTS, PANDA_HOME, self.bounds, looks_ahead=True, replaces=True
        )
        self.state = self.controller.desired(self.now_ns * 1e-9)

    def there_and_back(self, seconds: float, period_s: float = 0.06) -> list:
        """Send the tool to and fro in the horizontal plane, as fast as the limits let it, by messages of any age."""
        random, answers = np.random.default_rng(0), []
        while (at_s := self.elapsed_s(self.now_ns)) < seconds:
            chunk = self.chunk(steady((0.02 * np.cos(1.3 * at_s), 0.03 * np.sin(1.7 * at_s), 0.0)))
            self.run(0.5 * period_s)
            answers.append(self.command(chunk, round(random.uniform(0.001, 0.02) * 1e9)))
            self.run(0.5 * period_s)
        return answers


def test_a_node_that_does_not_know_goes_through_part_of_the_motion_again(panda: Kinematics) -> None:
    """What the other tests are about."""
    arm = ReplacingArm(panda, is_known=False)
    arm.there_and_back(2.0)
    worst = max(abs(violation.value) / violation.limit for violation in arm.controller.violations)
    assert worst > 5


@pytest.mark.parametrize("period_s", [0.06, 0.24])
@pytest.mark.parametrize("factor", FACTORS)
def test_the_motion_keeps_the_limits(panda: Kinematics, factor: str, period_s: float) -> None:
    arm = ReplacingArm(panda, FACTORS[factor])
    answers = arm.there_and_back(4.0, period_s)
    assert all(isinstance(answer, Command) for answer in answers)
    assert arm.controller.violations == []
    assert arm.fastest <= 1.01


@pytest.mark.parametrize("factor", ["100 %", "50 %"])
def test_a_stop_brings_the_arm_to_rest_within_the_limits(panda: Kinematics, factor: str) -> None:
    arm = ReplacingArm(panda, FACTORS[factor])
    arm.there_and_back(1.2)
    ramp = arm.commander.prepare_stop(arm.now_ns)
    assert ramp is not None
    arm.publish(ramp)
    arm.run(4.0)
    assert arm.rests and arm.controller.violations == []

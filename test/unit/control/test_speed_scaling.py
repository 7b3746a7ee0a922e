"""Commands for a controller whose speed is scaled: whatever the factor is and does, the motion keeps the limits."""

from collections.abc import Callable

import numpy as np
import pytest
from commanded_arm import LIMITS, Arm, settings, steady
from scaled_arm import ScaledArm

from sqap_vla_ros.control.commands import Command
from sqap_vla_ros.control.controller_time import ControllerTime
from sqap_vla_ros.control.kinematics import Kinematics
from sqap_vla_ros.core.rejection import Cause, Rejection, Response


def slid(*times_and_factors: tuple[float, float]) -> Callable[[float], float]:
    """A slider that goes steadily from one place to the next."""
    times, factors = zip(*times_and_factors, strict=True)
    return lambda at_s: float(np.interp(at_s, times, factors))


SLIDERS = {
    "100 %": slid((0, 1)),
    "90 %": slid((0, 0.9)),
    "50 %": slid((0, 0.5)),
    "10 %": slid((0, 0.1)),
    "moved": slid((0, 1), (1, 1), (1.5, 0.1), (3, 0.1), (3.5, 1), (4.5, 1), (5, 0.5)),
    "trembles": lambda at_s: 0.6 + 0.3 * np.sin(5 * at_s),
}


def there_and_back(arm: Arm, seconds: float, period_s: float, transport_s: tuple[float, float], seed: int = 0) -> list:
    """The tool is sent to and fro in the horizontal plane, as fast as the limits let it."""
    random, answers, begin_ns = np.random.default_rng(seed), [], arm.now_ns
    while (at_s := (arm.now_ns - begin_ns) * 1e-9) < seconds:
        chunk = arm.chunk(steady((0.02 * np.cos(1.3 * at_s), 0.03 * np.sin(1.7 * at_s), 0.0)))
        arm.run(0.5 * period_s)
        answers.append(arm.command(chunk, round(random.uniform(*transport_s) * 1e9)))
        arm.run(0.5 * period_s)
    return answers


@pytest.mark.parametrize("period_s", [0.06, 0.24])
@pytest.mark.parametrize("slider", SLIDERS)
def test_the_motion_keeps_the_limits_at_any_factor(panda: Kinematics, slider: str, period_s: float) -> None:
    arm = ScaledArm(panda, settings(), SLIDERS[slider])
    answers = there_and_back(arm, 5.5, period_s, (0.001, 0.02))
    assert all(isinstance(answer, Command) for answer in answers)
    assert arm.controller.violations == []
    assert arm.fastest <= 1.01
    assert arm.travel > 0.2 * min(SLIDERS[slider](at_s) for at_s in np.arange(0, 5, 0.1))


def test_a_node_that_does_not_know_the_factor_makes_the_arm_jump(panda: Kinematics) -> None:
    """What the other tests are about: the same arm, and nobody says that it is slower."""
    arm = ScaledArm(panda, settings(), SLIDERS["50 %"], is_reported=False)
    there_and_back(arm, 0.9, 0.06, (0.001, 0.02))
    assert arm.fastest > 2


@pytest.mark.parametrize("factor", [1.0, 0.5, 0.1])
def test_a_slider_slows_the_arm_down_and_is_not_made_up_for(panda: Kinematics, factor: float) -> None:
    arm = ScaledArm(panda, settings(), slid((0, factor)))
    arm.time.is_scaled = True
    for _ in range(30):
        arm.command(arm.chunk(steady((0.004, 0.0, 0.0))))
        arm.run(0.1)
    begin_m = arm.T_base_tool[0, 3]
    for _ in range(30):
        arm.command(arm.chunk(steady((0.004, 0.0, 0.0))))
        arm.run(0.1)
    assert arm.T_base_tool[0, 3] - begin_m == pytest.approx(3.0 * 0.02 * factor, rel=0.15)


@pytest.mark.parametrize("slider", ["90 %", "10 %", "moved"])
def test_a_stop_brings_the_arm_to_rest_within_the_limits(panda: Kinematics, slider: str) -> None:
    arm = ScaledArm(panda, settings(), SLIDERS[slider])
    there_and_back(arm, 1.2, 0.06, (0.001, 0.02))
    ramp = arm.commander.prepare_stop(arm.now_ns)
    assert ramp is not None
    arm.publish(ramp)
    arm.run(6.0)
    assert arm.rests and arm.controller.violations == []


def test_after_silence_a_slow_arm_goes_no_further_than_a_fast_one(panda: Kinematics) -> None:
    travelled = {}
    for slider in ("100 %", "10 %"):
        arm = ScaledArm(panda, settings(), SLIDERS[slider])
        arm.time.is_scaled = True
        there_and_back(arm, 1.2, 0.06, (0.001, 0.02))
        before = arm.travel
        arm.run(8.0)
        assert arm.rests
        travelled[slider] = arm.travel - before
    assert travelled["10 %"] < travelled["100 %"]


@pytest.mark.parametrize("factor", [0.6, 0.3, 0.0])
def test_an_arm_that_lags_and_nobody_says_why_is_stopped(panda: Kinematics, factor: float) -> None:
    limits = LIMITS.model_copy(update={"tool_to_target": 0.5, "tool_to_target_rotation": 2.0})
    arm = ScaledArm(panda, settings(limits=limits), slid((0, factor)), is_reported=False)
    answers = there_and_back(arm, 3.0, 0.06, (0.001, 0.02))
    (rejection, *_) = [answer for answer in answers if isinstance(answer, Rejection)]
    assert (rejection.cause, rejection.response) == (Cause.NOT_FOLLOWING, Response.STOP)
    assert "lags" in rejection.sentence


@pytest.mark.parametrize("factor", [1.0, 0.3])
def test_an_arm_that_is_as_slow_as_is_known_is_not_stopped(panda: Kinematics, factor: float) -> None:
    arm = ScaledArm(panda, settings(), slid((0, factor)))
    answers = there_and_back(arm, 3.0, 0.06, (0.001, 0.02))
    assert not [answer for answer in answers if isinstance(answer, Rejection)]


def test_controller_time_passes_by_the_factor() -> None:
    time = ControllerTime()
    assert time.at(10**18) == 10**18
    time.report(10**18, 0.5)
    assert time.at(10**18 + 1000) == 10**18 + 500
    time.report(10**18 + 1000, 0.1)
    assert time.at(10**18 + 2000) == 10**18 + 600
    assert time.at(10**18 + 500) == 10**18 + 250  # what was, stays
    time.report(10**18 + 2000, 1.0)
    assert time.difference_ns(10**18 + 5000) == 1400


@pytest.mark.parametrize("factor", [float("nan"), float("inf"), -1.0])
def test_a_factor_that_is_none_counts_as_a_pause(factor: float) -> None:
    time = ControllerTime()
    time.report(1000, factor)
    assert time.at(5000) == 1000 and time.factor == 0

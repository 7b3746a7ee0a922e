"""The rule by which a real controller scales its speed, on one joint whose right positions follow by hand."""

from types import SimpleNamespace

import numpy as np
import pytest

from sqap_vla_ros.control.trajectory import JointLimits
from sqap_vla_ros.simulation.joint_trajectory_controller import JointTrajectoryController

CYCLE_S = 0.01
LIMITS = JointLimits(*(bound * np.ones(1) for bound in (-3.0, 3.0, 1.0, 50.0, 1000.0)))


def time(seconds: float) -> SimpleNamespace:
    return SimpleNamespace(sec=int(seconds), nanosec=round((seconds - int(seconds)) * 1e9))


def line(stamp_s: float, first_s: float, speed: float = 0.1, offset: float = 0.0) -> SimpleNamespace:
    """Positions that grow steadily with the time since 10 s, for 5 s; points every 0.1 s."""
    times = np.arange(first_s, 5.0, 0.1)
    points = [
        SimpleNamespace(
            time_from_start=time(t), positions=[offset + speed * (stamp_s + t - 10)], velocities=[speed],
            accelerations=[], effort=[],
        )
        for t in times
    ]  # fmt: skip
    points[-1].velocities = [0.0]
    return SimpleNamespace(header=SimpleNamespace(stamp=time(stamp_s)), joint_names=["a"], points=points)


def controller(factor: float, looks_ahead: bool = False) -> JointTrajectoryController:
    made = JointTrajectoryController(("a",), np.zeros(1), LIMITS, looks_ahead)
    made.factor = factor
    made.desired(10.0)
    assert made.accept(line(10.0, 0.0), 10.0) is None
    return made


def run(made: JointTrajectoryController, until_s: float) -> list[float]:
    """Positions of each cycle from where it is until a time."""
    assert made._last_s is not None
    times = np.arange(round(made._last_s / CYCLE_S) + 1, round(until_s / CYCLE_S) + 1) * CYCLE_S
    return [float(made.desired(t)[0][0]) for t in times]


@pytest.mark.parametrize("factor", [1.0, 0.9, 0.5, 0.1, 0.0])
def test_in_each_cycle_the_trajectory_goes_on_by_the_factor_times_the_cycle(factor: float) -> None:
    positions = run(controller(factor), 11.0)
    np.testing.assert_allclose(np.diff(positions), 0.1 * factor * CYCLE_S, atol=1e-9)


@pytest.mark.parametrize("factor", [1.0, 0.5, 0.1])
def test_velocity_and_acceleration_are_those_on_the_clock(factor: float) -> None:
    made = controller(factor)
    run(made, 10.5)
    assert made.desired(10.51)[1][0] == pytest.approx(0.1 * factor)


def test_a_new_trajectory_sets_the_time_to_the_clock_so_that_the_arm_jumps_by_what_it_lags() -> None:
    made = controller(0.5)
    before = run(made, 11.0)[-1]
    assert made.accept(line(10.0, 0.0), 11.0) is None
    step = run(made, 11.01)[-1] - before
    assert step == pytest.approx(0.1 * 0.5 + 0.1 * CYCLE_S * 0.5, abs=1e-3)
    assert "jump" in {violation.kind for violation in made.violations}


def test_a_trajectory_whose_first_point_is_to_come_is_entered_without_a_jump() -> None:
    made = controller(0.5)
    run(made, 11.0)
    # In its own time it is at 10.5 s of the line: the new one is the same line, half a second later.
    assert made.accept(line(11.0, 0.2, offset=-0.05), 11.0) is None
    run(made, 11.5)
    assert made.violations == []


def test_with_a_look_ahead_it_is_entered_one_cycle_too_far() -> None:
    steps = {}
    for looks_ahead in (False, True):
        made = controller(1.0, looks_ahead)
        before = run(made, 11.0)[-1]
        assert made.accept(line(11.0, 0.2), 11.0) is None
        steps[looks_ahead] = run(made, 11.01)[-1] - before
    assert steps[False] == pytest.approx(0.1 * CYCLE_S, rel=1e-2)
    assert steps[True] == pytest.approx(0.2 * CYCLE_S, rel=0.02)


def test_a_factor_that_changes_counts_from_the_next_cycle_on() -> None:
    made = controller(1.0)
    run(made, 10.5)
    made.factor = 0.2
    positions = run(made, 11.0)
    np.testing.assert_allclose(np.diff(positions), 0.1 * 0.2 * CYCLE_S, atol=1e-9)

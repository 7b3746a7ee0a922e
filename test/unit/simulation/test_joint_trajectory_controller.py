from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from sqap_vla_ros.control.trajectory import JointLimits
from sqap_vla_ros.simulation.joint_trajectory_controller import JointTrajectoryController

JOINTS = ("a", "b")


def time(seconds: float) -> SimpleNamespace:
    nanoseconds = round(seconds * 1e9)
    return SimpleNamespace(sec=nanoseconds // 10**9, nanosec=nanoseconds % 10**9)


def message(times: list[float], stamp: float = 0, names: tuple[str, ...] = JOINTS, **fields: Any) -> SimpleNamespace:
    """A JointTrajectory; fields are lists of rows."""
    fields = {"positions": [[0.1, 0.2]] * len(times), **fields}
    points = [
        SimpleNamespace(
            time_from_start=time(t),
            **{
                name: fields[name][i] if name in fields else []
                for name in ("positions", "velocities", "accelerations", "effort")
            },
        )
        for i, t in enumerate(times)
    ]
    return SimpleNamespace(header=SimpleNamespace(stamp=time(stamp)), joint_names=list(names), points=points)


@pytest.fixture
def controller() -> JointTrajectoryController:
    each = np.ones(2)
    limits = JointLimits(-3 * each, 3 * each, each, 5 * each, 100 * each)
    controller = JointTrajectoryController(JOINTS, np.zeros(2), limits)
    controller.desired(10.0)
    return controller


def positions(controller: JointTrajectoryController, *times: float) -> list[float]:
    return [float(controller.desired(t)[0][0]) for t in times]


def test_it_holds_its_position_without_a_trajectory(controller: JointTrajectoryController) -> None:
    position, velocity, acceleration = controller.desired(11.0)
    assert not position.any() and not velocity.any() and not acceleration.any()


def test_stamp_zero_starts_now(controller: JointTrajectoryController) -> None:
    assert controller.accept(message([1.0]), 10.0) is None
    assert positions(controller, 10.0, 10.5, 11.0) == pytest.approx([0, 0.05, 0.1])


def test_a_stamp_starts_then(controller: JointTrajectoryController) -> None:
    assert controller.accept(message([1.0], stamp=12.0), 10.0) is None
    assert positions(controller, 13.0) == pytest.approx([0.1])


def test_the_last_point_is_held(controller: JointTrajectoryController) -> None:
    controller.accept(message([1.0]), 10.0)
    assert positions(controller, 10.0, 99.0) == pytest.approx([0, 0.1])


def test_points_that_are_past_are_skipped(controller: JointTrajectoryController) -> None:
    rows = [[0.9, 0], [0.0, 0], [0.2, 0]]
    controller.accept(message([1.0, 2.0, 3.0], stamp=7.5, positions=rows), 10.0)
    assert positions(controller, 10.0) == pytest.approx([0.1])


def test_a_new_trajectory_replaces_the_old_one_from_what_was_wanted(controller: JointTrajectoryController) -> None:
    controller.accept(message([1.0]), 10.0)
    positions(controller, 10.0, 10.5)
    controller.accept(message([1.0], stamp=10.5, positions=[[0.0, 0]]), 10.5)
    assert positions(controller, 10.5, 11.0, 11.5) == pytest.approx([0.05, 0.025, 0])


def test_a_first_point_at_zero_makes_the_arm_jump(controller: JointTrajectoryController) -> None:
    assert controller.accept(message([0.0, 1.0]), 10.0) is None
    assert positions(controller, 10.002) == pytest.approx([0.1])
    assert {violation.kind for violation in controller.violations} >= {"jump"}


def test_positions_alone_are_interpolated_linearly(controller: JointTrajectoryController) -> None:
    controller.accept(message([1.0, 2.0], positions=[[0.1, 0], [0.3, 0]]), 10.0)
    controller.desired(10.0)
    position, velocity, _ = controller.desired(11.5)
    assert (position[0], velocity[0]) == pytest.approx((0.2, 0.2))


def polynomial(t: float, order: int) -> tuple[float, float, float]:
    return t**order, order * t ** (order - 1), order * (order - 1) * t ** (order - 2)


@pytest.mark.parametrize(("order", "given"), [(3, 2), (5, 3)])
def test_given_derivatives_make_polynomials_exact(order: int, given: int) -> None:
    controller = JointTrajectoryController(("a",), np.zeros(1))
    names = ("positions", "velocities", "accelerations")[:given]
    first, second = polynomial(0.4, order), polynomial(0.9, order)
    rest = (second[0], 0.0, 0.0)
    fields = {name: [[first[i]], [second[i]], [rest[i]]] for i, name in enumerate(names)}
    assert controller.accept(message([0.4, 0.9, 5.0], names=("a",), **fields), 10.0) is None
    controller.desired(10.0)
    state = [float(values[0]) for values in controller.desired(10.7)]
    assert state == pytest.approx(polynomial(0.7, order), abs=1e-9)


def test_names_may_come_in_any_order(controller: JointTrajectoryController) -> None:
    controller.accept(message([1.0], names=("b", "a"), positions=[[0.2, 0.1]]), 10.0)
    controller.desired(10.0)
    np.testing.assert_allclose(controller.desired(11.0)[0], (0.1, 0.2))


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        (message([1.0], stamp=8.0), "ended 1.000 s ago"),
        (message([1.0], names=("a", "c")), "are not the controller's"),
        (message([1.0], names=("a",), positions=[[0.1]]), "are not the controller's"),
        (message([]), "no points"),
        (message([1.0, 1.0]), "not strictly increasing"),
        (message([1.0], velocities=[[0.1, 0]]), "velocity of the last point"),
        (message([1.0], effort=[[0.1, 0]]), "effort"),
        (message([1.0], positions=[[0.1]]), "positions must have 2 values"),
        (message([1.0, 2.0], velocities=[[0.1, 0], []]), "velocities must have 2 values"),
        (message([1.0], positions=[[]]), "no positions"),
        (message([1.0], positions=[[np.nan, 0]]), "not finite"),
    ],
)
def test_it_rejects_what_the_real_one_rejects(
    controller: JointTrajectoryController, bad: SimpleNamespace, reason: str
) -> None:
    assert reason in str(controller.accept(bad, 10.0))


def test_a_rejected_trajectory_changes_nothing(controller: JointTrajectoryController) -> None:
    controller.accept(message([1.0]), 10.0)
    controller.desired(10.0)
    controller.accept(message([1.0, 1.0]), 10.5)
    assert positions(controller, 11.0) == pytest.approx([0.1])


def test_numbers_that_are_not_finite_are_a_violation(controller: JointTrajectoryController) -> None:
    controller.accept(message([1.0], positions=[[0.1, np.inf]]), 10.0)
    (violation,) = controller.violations
    assert (violation.kind, violation.joint) == ("not finite", "b")


def test_too_fast_is_a_violation(controller: JointTrajectoryController) -> None:
    controller.accept(message([0.01]), 10.0)
    positions(controller, 10.0, 10.005)
    assert any(
        violation.kind == "velocity" and violation.value == pytest.approx(10) for violation in controller.violations
    )


def test_accelerating_too_hard_is_a_violation(controller: JointTrajectoryController) -> None:
    controller.accept(message([0.2], velocities=[[0.0, 0.0]]), 10.0)
    positions(controller, 10.0)
    assert [violation.kind for violation in controller.violations] == ["acceleration"] * 2


def test_slow_motion_is_no_violation(controller: JointTrajectoryController) -> None:
    controller.accept(message([1.0], velocities=[[0.0, 0.0]]), 10.0)
    positions(controller, *np.arange(10.0, 12.0, 0.002))
    assert controller.violations == []

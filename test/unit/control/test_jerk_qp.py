import numpy as np

from sqap_vla_ros.control.jerk_qp import jerk_qp

TRACKED, STEPS, SPACING = 12, 33, 0.02
LAST = [STEPS - 1, 2 * STEPS - 1]


def asked_for(rest: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A gradient, and bounds that are far but where the joint must come to rest."""
    programme = jerk_qp(TRACKED, STEPS, SPACING)
    errors = np.random.default_rng(0).normal(0, 0.01, 3 * STEPS)
    above = np.full(3 * STEPS, 1e3)
    below = -above
    below[LAST] = above[LAST] = rest
    return programme.gradient @ errors, below, above


def test_where_no_limit_binds_the_optimum_is_that_of_the_solver() -> None:
    programme = jerk_qp(TRACKED, STEPS, SPACING)
    gradient, below, above = asked_for(0.1)
    solution = programme.bounded(gradient, below, above, 1e6)
    np.testing.assert_allclose(programme.optimum @ np.append(gradient, above[LAST]), solution, rtol=1e-6, atol=1e-6)


def test_a_limit_that_binds_is_kept() -> None:
    programme = jerk_qp(TRACKED, STEPS, SPACING)
    gradient, below, above = asked_for(0.1)
    free = programme.optimum @ np.append(gradient, above[LAST])
    solution = programme.bounded(gradient, below, above, 0.5 * np.abs(free).max())
    assert solution is not None and np.abs(solution).max() <= 0.5001 * np.abs(free).max()
    np.testing.assert_allclose((programme.effect @ solution)[LAST], 0.1, atol=1e-6)


def test_what_cannot_come_to_rest_in_time_has_no_solution() -> None:
    assert jerk_qp(TRACKED, STEPS, SPACING).bounded(*asked_for(100.0), 10.0) is None

"""The polynomials between two points of a trajectory, as joint_trajectory_controller's splines have them."""

import numpy as np

from sqap_vla_ros.core.types import Array

State = tuple[Array, Array, Array]
"""Positions, velocities and accelerations, float64 (joints,) each."""

_POWERS = np.arange(6)
# Factors of the powers in the value and in both derivatives.
_DERIVATIVES = np.array([np.ones(6), _POWERS, _POWERS * (_POWERS - 1)])
_TAYLOR = np.array([[1.0, 0, 0], [0, 1, 0], [0, 0, 0.5]])


def polynomial(start: State, end: State, duration: float, order: int) -> Array:
    """Coefficients (6, joints) of the polynomials on the unit interval that agree with both states.

    They agree in the first 1, 2 or 3 quantities.
    """
    known = (order + 1) // 2
    # The start's motion, continued, and powers from `known` on for what is left at the end.
    scaled = [np.stack([state[n] * duration**n for n in range(known)]) for state in (start, end)]
    coefficients = np.zeros((6, len(start[0])))
    coefficients[:known] = _TAYLOR[:known, :known] @ scaled[0]
    left = scaled[1] - _DERIVATIVES[:known] @ coefficients
    coefficients[known : 2 * known] = np.linalg.solve(_DERIVATIVES[:known, known : 2 * known], left)
    return coefficients


def evaluate(coefficients: Array, duration: float, elapsed: float) -> State:
    """The state at a share of the interval."""
    s = elapsed / duration
    factors = [s ** np.maximum(_POWERS - n, 0) * _DERIVATIVES[n] for n in range(3)]
    position, velocity, acceleration = (factors[n] @ coefficients / duration**n for n in range(3))
    return position, velocity, acceleration

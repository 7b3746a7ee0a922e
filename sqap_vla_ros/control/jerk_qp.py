"""The jerk-limited quadratic programme (QP) behind a joint's trajectory; its variables are the jerks of the steps.

Hessian and dynamics depend on the numbers of steps alone, so all joints and ticks share them. Where no limit binds, the
optimum is linear in what is asked for: one product for all joints. The solver is asked for the others.
"""

import importlib
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from sqap_vla_ros.core.types import Array

# Weight of a velocity error against a position error [s]: an offset from the waypoints decays with this time
# constant, where the limits allow it.
SETTLING_S = 0.1
# Weight of acceleration, relative to the same scale: smooths corners of the path.
SMOOTHING = 0.1
# What the solver, too, lets a limit be exceeded by.
ROUNDING = 1e-6


class SolverError(RuntimeError):
    """The solver is not installed; the message says what to install."""


def require_solver() -> None:
    """Look for the solver before anything moves: it is needed only where a limit binds.

    Raises:
        SolverError: It is not installed.
    """
    try:
        importlib.import_module("daqp")
    except ImportError as error:
        raise SolverError(f"commands need daqp, of the optional extra [ik] (pip install daqp): {error}") from None


@dataclass(frozen=True)
class JerkQp:
    """The part of the programme that all joints and ticks share.

    Attributes:
        effect: float64 (3 * steps, steps), of the jerks on accelerations, velocities and positions at the points.
        hessian: float64 (steps, steps), of the cost.
        gradient: float64 (steps, 3 * steps), of the cost, from errors of accelerations, velocities and positions.
        optimum: float64 (steps, steps + 2), the jerks where no limit binds, from the gradient and from what the jerks
            must add to the last acceleration and velocity.
    """

    effect: Array
    hessian: Array
    gradient: Array
    optimum: Array

    def bounded(self, gradient: Array, below: Array, above: Array, jerk: float) -> Array | None:
        """Jerks of one joint, float64 (steps,), within its limits; None when there are none.

        Args:
            gradient: float64 (steps,).
            below: float64 (3 * steps,), least effect; equal to `above` where the joint must come to rest.
            above: float64 (3 * steps,), largest effect.
            jerk: Largest jerk.
        """
        import daqp  # optional extra [ik], see `require_solver`

        steps = len(gradient)
        # A joint without position limits has no rows for them.
        rows = 3 * steps if np.isfinite([below[-1], above[-1]]).any() else 2 * steps
        largest = np.full(steps, jerk)
        kind = np.zeros(steps + rows, dtype=np.int32)
        kind[[2 * steps - 1, 3 * steps - 1]] = 5  # equality
        solution, _, status, _ = daqp.solve(
            self.hessian,
            np.ascontiguousarray(gradient),  # the solver knows no strides
            self.effect[:rows],
            np.concatenate([largest, above[:rows]]),
            np.concatenate([-largest, below[:rows]]),
            kind,
        )
        return solution if status == 1 else None


@lru_cache(maxsize=32)
def jerk_qp(tracked: int, steps: int, spacing: float) -> JerkQp:
    """The programme that follows positions in the first `tracked` steps, then brakes."""
    since = np.arange(1, steps + 1)[:, None] - np.arange(1, steps + 1)[None, :]  # whole steps since the jerk ended
    after = since >= 0
    acceleration = np.where(after, spacing, 0.0)
    velocity = np.where(after, (since + 1 / 2) * spacing**2, 0.0)
    position = np.where(after, (since**2 / 2 + since / 2 + 1 / 6) * spacing**3, 0.0)
    effect = np.vstack([acceleration, velocity, position])
    weights = np.repeat([(SMOOTHING * SETTLING_S**2) ** 2, SETTLING_S**2, 1.0], steps)
    weights[2 * steps + tracked :] = 0.0
    gradient = effect.T * weights
    scale = 1 / np.max(np.diag(gradient @ effect))
    hessian, gradient = scale * gradient @ effect, scale * gradient
    rest = effect[[steps - 1, 2 * steps - 1]]
    conditions = np.block([[hessian, rest.T], [rest, np.zeros((2, 2))]])  # Karush, Kuhn and Tucker's
    signs = np.append(-np.ones(steps), np.ones(2))
    return JerkQp(effect, hessian, gradient, np.linalg.inv(conditions)[:steps] * signs)

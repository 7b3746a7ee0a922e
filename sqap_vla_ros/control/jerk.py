"""How abruptly a motion changes."""

import numpy as np
from numpy.typing import NDArray


def mean_jerk(positions: NDArray[np.float64], period_s: float) -> float:
    """Mean norm of the third difference of positions over time; 0 with fewer than four of them.

    Args:
        positions: float64 (n, axes), evenly spaced in time: of joints [rad] or of the tool [m].
        period_s: From one to the next [s].

    Returns:
        In the positions' unit per s^3.
    """
    if len(positions) < 4:
        return 0.0
    return float(np.linalg.norm(np.diff(positions, 3, axis=0), axis=1).mean() / period_s**3)

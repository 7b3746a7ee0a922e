"""FastV's choice of visual tokens (Chen et al., ECCV 2024, arXiv 2403.06764)."""

import numpy as np
from numpy.typing import NDArray

from sqap_vla_ros.core.token_selection import Reason, TokenSelection, selection_of


def most_attended(scores: NDArray[np.floating], keep: int, rows: int = 16, columns: int = 16) -> TokenSelection:
    """Keep the tokens with the highest scores.

    Args:
        scores: float (rows * columns,), attention of the last position; equal scores go to the lower index.
        keep: Tokens that stay.
        rows: Of the patch grid.
        columns: Of the patch grid.
    """
    return selection_of({Reason.ATTENTION: np.argsort(-scores, kind="stable")[:keep]}, rows, columns)

"""FastV (Chen et al., ECCV 2024, arXiv 2403.06764): the most attended visual tokens stay."""

import numpy as np
from numpy.typing import NDArray

from sqap_vla_ros.core.token_selection import Reason, TokenSelection, selection_of


def most_attended(scores: NDArray[np.floating], keep: int, rows: int = 16, columns: int = 16) -> TokenSelection:
    """Keep the tokens with the highest scores.

    Args:
        scores: float (rows * columns,), attention of the last position; ties go to the lower index.
        keep: Number of tokens that stay.
        rows: Rows of the patch grid.
        columns: Columns of the patch grid.
    """
    return selection_of({Reason.ATTENTION: np.argsort(-scores, kind="stable")[:keep]}, rows, columns)

"""The result of token pruning: which visual tokens stay, and why."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntFlag

import numpy as np
from numpy.typing import NDArray


class Reason(IntFlag):
    """Why a visual token was kept; the values are those of the TokenMask message."""

    PRUNED = 0
    ATTENTION = 1
    RING = 2
    SPATIAL = 4
    UNPRUNED = 8
    OTHER = 16


@dataclass(frozen=True)
class TokenSelection:
    """The visual tokens that stay, with a reason for each.

    Attributes:
        indices: int64 (keep,), ascending, into the row-major patch grid.
        reasons: uint8 (rows * columns,), a `Reason` per token of the whole grid; 0 for a pruned one.
        rows: Patch rows of the model image.
        columns: Patch columns of the model image.
    """

    indices: NDArray[np.int64]
    reasons: NDArray[np.uint8]
    rows: int = 16
    columns: int = 16


def keep_all(rows: int = 16, columns: int = 16) -> TokenSelection:
    """The selection of a policy that prunes nothing."""
    count = rows * columns
    return TokenSelection(np.arange(count), np.full(count, Reason.UNPRUNED, np.uint8), rows, columns)


def selection_of(chosen: Mapping[Reason, NDArray[np.int64]], rows: int = 16, columns: int = 16) -> TokenSelection:
    """The selection of the tokens chosen for each reason."""
    reasons = np.zeros(rows * columns, np.uint8)
    for reason, indices in chosen.items():
        reasons[indices] |= np.uint8(reason)
    return TokenSelection(np.flatnonzero(reasons), reasons, rows, columns)

"""SQAP-VLA (arXiv 2509.09090): visual tokens chosen by attention, robot ring and farthest points.

In a quantised model only the few largest attention scores are reliable, so only those are used. The ring keeps what is
around the tool independently of the scores. Farthest-point sampling spreads the rest over the image.
"""

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from sqap_vla_ros.core.token_selection import Reason, TokenSelection

Indices = NDArray[np.int64]


def select_tokens(
    scores: NDArray[np.floating] | None,
    ring: Indices,
    keep: int,
    top_k: int,
    rows: int = 16,
    columns: int = 16,
) -> TokenSelection:
    """Choose exactly `keep` tokens.

    Args:
        scores: float (rows * columns,), attention of the last position to each token; None: no choice by attention.
        ring: int64 (n,), tokens protected around the tool; may be empty.
        keep: Number of tokens that stay.
        top_k: Number of tokens chosen by score; ties go to the lower index. Where these overlap with the ring or the
            ring is cut off, farthest-point sampling fills up.
        rows: Rows of the patch grid.
        columns: Columns of the patch grid.

    Raises:
        ValueError: The scores are not finite or not one per token, or attention and ring together exceed `keep`.
    """
    count = rows * columns
    if not 0 < keep <= count:
        raise ValueError(f"keep = {keep} tokens of {count}: must be from 1 to {count}")
    reasons = np.zeros(count, np.uint8)
    if scores is not None:
        if scores.shape != (count,) or not np.isfinite(scores).all():
            raise ValueError(f"scores must be {count} finite numbers, got {scores.shape}: {scores}")
        reasons[np.argsort(-scores, kind="stable")[:top_k]] |= np.uint8(Reason.ATTENTION)
    reasons[ring] |= np.uint8(Reason.RING)
    kept = np.flatnonzero(reasons)
    if len(kept) > keep:
        raise ValueError(f"attention ({top_k}) and ring ({len(ring)}) choose {len(kept)} tokens, more than {keep}")
    reasons[farthest_points(kept, keep - len(kept), rows, columns)] = Reason.SPATIAL
    return TokenSelection(np.flatnonzero(reasons), reasons, rows, columns)


def farthest_points(kept: Indices, count: int, rows: int = 16, columns: int = 16) -> Indices:
    """Farthest-point sampling on the patch grid, by Euclidean distance; ties go to the lower index.

    Args:
        kept: int64 (n,), tokens that are kept already; when empty, the first pick is the one nearest the centre.
        count: Number of tokens to pick; at most those that are left.
        rows: Rows of the patch grid.
        columns: Columns of the patch grid.

    Returns:
        int64 (count,), in the order of picking: each is farthest from all tokens kept or picked before it.
    """
    distances = _squared_distances(rows, columns)
    picked = np.empty(count, np.int64)
    start = 0
    if len(kept):
        nearest = distances[kept].min(axis=0)
    elif count:
        row, column = np.divmod(np.arange(rows * columns), columns)
        centre = np.argmin((2 * row - (rows - 1)) ** 2 + (2 * column - (columns - 1)) ** 2)
        picked[0], nearest, start = centre, distances[centre].copy(), 1
    for i in range(start, count):
        picked[i] = nearest.argmax()
        np.minimum(nearest, distances[picked[i]], out=nearest)
    return picked


@lru_cache(maxsize=4)
def _squared_distances(rows: int, columns: int) -> Indices:
    """Squared distance of each pair of patches, int64 (N, N): integers, so that ties are exact."""
    row, column = np.divmod(np.arange(rows * columns), columns)
    return (row[:, None] - row) ** 2 + (column[:, None] - column) ** 2

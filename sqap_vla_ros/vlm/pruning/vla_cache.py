"""VLA-Cache (Xu et al., NeurIPS 2025, arXiv 2502.02175): which tokens are reused from the previous frame.

A patch that did not change and is not relevant to the task keeps its keys and values. Layers with concentrated
attention reuse more of them.
"""

import numpy as np
from numpy.typing import NDArray

from sqap_vla_ros.core.token_selection import Reason, TokenSelection


def patch_similarity(one: NDArray[np.uint8], other: NDArray[np.uint8], grid: int = 16) -> NDArray[np.float64]:
    """Cosine similarity of the raw pixels of each patch in two images, uint8 (side, side, 3).

    Returns:
        float64 (grid * grid,), row-major; exactly 1 for equal patches. A black patch is similar to black ones only.
    """
    first, second = (_patches(image, grid) for image in (one, other))
    product = (first * second).sum(axis=1)
    squares = (first * first).sum(axis=1), (second * second).sum(axis=1)
    # Integers below 2^53 up to the root, so that equal patches give exactly 1.
    norm = np.sqrt(squares[0] * squares[1])
    both_black = (squares[0] == 0) & (squares[1] == 0)
    return np.where(norm > 0, product / np.where(norm > 0, norm, 1.0), both_black.astype(np.float64))


def reusable_tokens(
    similarity: NDArray[np.floating], relevance: NDArray[np.floating], threshold: float, most: int, relevant: int
) -> NDArray[np.int64]:
    """Tokens that did not change and are not relevant to the task.

    Args:
        similarity: float (visual,), see `patch_similarity`.
        relevance: float (visual,), the text's attention to each token in the previous frame.
        threshold: Least similarity of a token that did not change.
        most: Largest number of unchanged tokens that are considered, the most similar ones.
        relevant: Number of the most relevant tokens, which are never reused.

    Returns:
        int64 (n,), the most similar first; ties by index.
    """
    order = np.argsort(-similarity, kind="stable")
    unchanged = order[similarity[order] >= threshold][:most]
    return unchanged[~np.isin(unchanged, np.argsort(-relevance, kind="stable")[:relevant])]


def reuse_shares(entropies: NDArray[np.floating], damping: float) -> NDArray[np.float64]:
    """Share of the reusable tokens that each layer reuses: more where attention is concentrated.

    Args:
        entropies: float (layers,), mean entropy of the attention rows.
        damping: Share of an increase from layer to layer that is applied; a decrease is applied in full.

    Returns:
        float64 (layers,), from 0 to 1.
    """
    spread = entropies.max() - entropies.min()
    shares = 1.0 - (entropies - entropies.min()) / spread if spread > 0 else np.ones(len(entropies))
    for layer in range(1, len(shares)):
        rise = shares[layer] - shares[layer - 1]
        if rise > 0:
            shares[layer] = shares[layer - 1] + damping * rise
    return shares


def reuse_report(reused: NDArray[np.int64], rows: int = 16, columns: int = 16) -> TokenSelection:
    """The selection to report: all tokens stay, as `OTHER` if some layers reused them, else as `UNPRUNED`."""
    reasons = np.full(rows * columns, Reason.UNPRUNED, np.uint8)
    reasons[reused] = Reason.OTHER
    return TokenSelection(np.arange(rows * columns), reasons, rows, columns)


def _patches(image: NDArray[np.uint8], grid: int) -> NDArray[np.float64]:
    """The pixels of each patch, float64 (grid * grid, pixels)."""
    side = len(image) // grid
    patches = image.reshape(grid, side, grid, side, -1).swapaxes(1, 2)
    return patches.reshape(grid * grid, -1).astype(np.float64)

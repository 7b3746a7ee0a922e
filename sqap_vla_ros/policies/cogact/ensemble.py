"""Adaptive ensemble: what the last chunks say about this moment, weighted by agreement with the newest."""

from collections import deque

import numpy as np
from numpy.typing import NDArray


class AdaptiveEnsemble:
    """Mixes the predictions that successive chunks make for the same moment (one chunk per control step).

    Args:
        horizon: Largest number of chunks mixed.
        alpha: Weight of agreement: each candidate counts exp(alpha · cosine to the newest).
    """

    def __init__(self, horizon: int, alpha: float) -> None:
        if horizon < 1:
            raise ValueError(f"ensemble horizon = {horizon}, expected at least 1")
        self._alpha = alpha
        self._chunks: deque[NDArray[np.float64]] = deque(maxlen=horizon)

    def reset(self) -> None:
        """Forget all chunks: the next one stands alone."""
        self._chunks.clear()

    def mix(self, chunk: NDArray[np.float64]) -> NDArray[np.float64]:
        """Add this step's chunk and mix.

        Args:
            chunk: (horizon, dimensions) un-normalised actions, first for now; or (dimensions,), one action.

        Returns:
            (dimensions,), the action for now.

        Raises:
            ValueError: The chunk is shorter than the ensemble's horizon.
        """
        longest = self._chunks.maxlen or 0
        if chunk.ndim == 2 and len(chunk) < longest:
            raise ValueError(f"a chunk of {len(chunk)} actions is shorter than the ensemble horizon {longest}")
        self._chunks.append(chunk)
        if chunk.ndim == 1:
            candidates = np.stack(self._chunks)
        else:
            # A chunk that is k steps old foresaw this moment in its row k.
            ages = reversed(range(len(self._chunks)))
            candidates = np.stack([past[age] for past, age in zip(self._chunks, ages, strict=True)])
        newest = candidates[-1]
        norms = np.linalg.norm(candidates, axis=1) * np.linalg.norm(newest)
        weights = np.exp(self._alpha * (candidates @ newest) / (norms + 1e-7))
        return (weights / weights.sum()) @ candidates

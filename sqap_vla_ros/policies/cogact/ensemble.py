"""CogACT's adaptive ensemble, one action per control step, as SIMPLER runs it; `control.blending` mixes by time."""

from collections import deque

import numpy as np

from sqap_vla_ros.control.blending import mixed_by_agreement
from sqap_vla_ros.core.types import Array


class AdaptiveEnsemble:
    """Mixes the predictions that successive chunks make for the same moment (one chunk per control step).

    Args:
        horizon: Largest number of chunks that are mixed.
        alpha: Weight of agreement with the newest chunk; see `mixed_by_agreement`.
    """

    def __init__(self, horizon: int, alpha: float) -> None:
        if horizon < 1:
            raise ValueError(f"ensemble horizon = {horizon}, expected at least 1")
        self._alpha = alpha
        self._chunks: deque[Array] = deque(maxlen=horizon)

    def reset(self) -> None:
        """Forget all chunks."""
        self._chunks.clear()

    def mix(self, chunk: Array) -> Array:
        """Add this step's chunk and mix.

        Args:
            chunk: float64 (horizon, dimensions), un-normalised actions from this step on; or (dimensions,), one action.

        Returns:
            float64 (dimensions,), the action of this step.

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
        given = np.ones((len(candidates), 1, 1))
        return mixed_by_agreement(candidates[:, None], given, self._alpha)[0]

"""Drops visual tokens between two decoder layers: a hook of `layers.run_layers`."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sqap_vla_ros.vlm.attention import rotary_tables
from sqap_vla_ros.vlm.layers import LayerInput
from sqap_vla_ros.vlm.pruning.inputs import SelectionInputs

Select = Callable[[SelectionInputs], NDArray[np.int64]]
"""Chooses the visual tokens of one sample that stay: indices int64 (keep,), ascending."""


@dataclass
class PruningHook:
    """Drops the visual tokens that are not chosen, in front of one layer.

    Attributes:
        select: Chooses the visual tokens of a sample that stay.
        layer: Index of the layer before which the others are dropped.
        visual_tokens: Number of visual tokens behind the first position.
        head_width: Channels per head.
        positions: int64 (batch, positions), original positions of the tokens that are left.
        last: int64 (batch,), index of each sample's last position among them.
        scores: float32 (batch, visual), attention that the selection was made from, once it was made.
    """

    select: Select | None
    layer: int
    visual_tokens: int
    head_width: int
    positions: Tensor
    last: Tensor
    scores: NDArray[np.float32] | None = None

    def __call__(self, index: int, inputs: LayerInput) -> LayerInput:
        if self.select is None or index != self.layer:
            return inputs
        samples = self._samples(inputs)
        if inputs.queries is not None:
            self.scores = np.stack([sample.scores for sample in samples])
        batch, count = self.positions.shape
        self.positions = _kept_positions(self.select, samples, count).to(inputs.hidden.device)
        self.last = self.last - (count - self.positions.shape[1])
        return replace(
            inputs,
            hidden=inputs.hidden[torch.arange(batch, device=self.last.device)[:, None], self.positions],
            rotations=rotary_tables(self.positions, self.head_width, inputs.hidden.dtype),
            last=None if inputs.last is None else inputs.last - (count - self.positions.shape[1]),
        )

    def _samples(self, inputs: LayerInput) -> list[SelectionInputs]:
        """What each sample's selection is made from, without its padding."""
        return [
            SelectionInputs(
                inputs.hidden[sample, : end + 1],
                self.visual_tokens,
                None if inputs.queries is None else inputs.queries[sample, :, : end + 1],
                None if inputs.keys is None else inputs.keys[sample, :, : end + 1],
            )
            for sample, end in enumerate(self.last.tolist())
        ]


def _kept_positions(select: Select, samples: list[SelectionInputs], count: int) -> Tensor:
    """Original positions int64 (batch, kept) of all tokens that stay."""
    rows = []
    for sample in samples:
        indices, visual_tokens = np.asarray(select(sample)), sample.visual_tokens
        within = indices.ndim == 1 and indices.dtype.kind == "i" and len(indices) > 0
        if not within or indices[0] < 0 or indices[-1] >= visual_tokens or np.any(np.diff(indices) <= 0):
            raise ValueError(f"selection {indices!r}: expected ascending integer indices below {visual_tokens}")
        rows.append(np.concatenate(([0], 1 + indices, np.arange(1 + visual_tokens, count))))
    if len({len(row) for row in rows}) > 1:
        raise ValueError("selections keep different numbers of tokens; a batch needs the same number for every sample")
    return torch.from_numpy(np.stack(rows))

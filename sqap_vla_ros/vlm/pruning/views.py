"""Drops visual tokens of several camera images between two decoder layers: a hook of `layers.run_layers`."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray

from sqap_vla_ros.vlm.attention import rotary_tables
from sqap_vla_ros.vlm.layers import LayerInput
from sqap_vla_ros.vlm.pruning.inputs import SelectionInputs

SelectInView = Callable[[int, SelectionInputs], NDArray[np.int64]]
"""Chooses the visual tokens of one view that stay: number of the view -> indices int64 (keep,), ascending."""


@dataclass(frozen=True)
class ViewPruningHook:
    """Drops, in front of one layer, the tokens that are not chosen in each view; for one sample without padding.

    The sequence is: the first position, the views one after the other, and whatever follows.

    Attributes:
        select: Chooses the tokens of a view.
        layer: Index of the layer before which the others are dropped.
        views: Number of views.
        patches: Visual tokens of a view.
        head_width: Channels per head.
        task: The positions whose attention counts, from the end of the sequence: from, up to.
        causal: Whether a position sees those before it alone.
    """

    select: SelectInView
    layer: int
    views: int
    patches: int
    head_width: int
    task: tuple[int, int | None] = (-1, None)
    causal: bool = True

    def __call__(self, index: int, inputs: LayerInput) -> LayerInput:
        if index != self.layer:
            return inputs
        count, device = inputs.hidden.shape[1], inputs.hidden.device
        kept = [np.zeros(1, np.int64)]
        for view in range(self.views):
            first = 1 + view * self.patches
            chosen = self.select(view, self._view(inputs, first))
            if len(chosen) == 0 or chosen[0] < 0 or chosen[-1] >= self.patches or np.any(np.diff(chosen) <= 0):
                raise ValueError(f"selection {chosen!r}: expected ascending integer indices below {self.patches}")
            kept.append(first + chosen)
        kept.append(np.arange(1 + self.views * self.patches, count))
        positions = torch.from_numpy(np.concatenate(kept)).to(device)
        return replace(
            inputs,
            hidden=inputs.hidden[:, positions],
            rotations=rotary_tables(positions[None], self.head_width, inputs.hidden.dtype),
            last=None if inputs.last is None else inputs.last - (count - len(positions)),
        )

    def _view(self, inputs: LayerInput, first: int) -> SelectionInputs:
        return SelectionInputs(
            inputs.hidden[0],
            self.patches,
            None if inputs.queries is None else inputs.queries[0],
            None if inputs.keys is None else inputs.keys[0],
            first=first,
            task=self.task,
            causal=self.causal,
        )

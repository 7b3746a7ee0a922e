"""What a token selector can look at."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sqap_vla_ros.vlm.attention import attention_rows


@dataclass(frozen=True)
class SelectionInputs:
    """One sample in front of the layer before which visual tokens are dropped.

    Attributes:
        hidden: (positions, width), the residual stream: BOS, the visual tokens, the rest of the text.
        visual_tokens: Number of visual tokens, of one view.
        queries: (heads, positions, head width), rotated, of the layer before; None in front of the first layer.
        keys: (key-value heads, positions, head width), likewise.
        first: Position of the first visual token.
        task: The positions whose attention counts, from, up to: in CogACT the last one.
        causal: Whether a position sees those before it alone, or all.
    """

    hidden: Tensor
    visual_tokens: int
    queries: Tensor | None
    keys: Tensor | None
    first: int = 1
    task: tuple[int, int | None] = (-1, None)
    causal: bool = True

    @cached_property
    def scores(self) -> NDArray[np.float32]:
        """Attention of the task's positions to the visual tokens, their mean, float32 (visual,).

        Raises:
            ValueError: There is no attention in front of the first layer.
        """
        return self._attention(slice(*self.task)).mean(0)

    def text_attention(self) -> NDArray[np.float32]:
        """Attention of each text position behind the visual tokens to them, float32 (text, visual).

        Raises:
            ValueError: There is no attention in front of the first layer.
        """
        return self._attention(slice(self.first + self.visual_tokens, None))

    def states(self) -> NDArray[np.float32]:
        """The residual stream of the visual tokens, float32 (visual, width)."""
        return self.hidden[self.first : self.first + self.visual_tokens].float().cpu().numpy()

    def _attention(self, rows: slice) -> NDArray[np.float32]:
        if self.queries is None or self.keys is None:
            raise ValueError("there is no attention in front of the first layer; drop tokens before a later layer")
        positions = torch.arange(len(self.hidden), device=self.hidden.device)[rows]
        if not self.causal:
            positions = torch.full_like(positions, len(self.hidden) - 1)
        attention = attention_rows(self.queries[:, rows], self.keys, positions)
        return attention[:, self.first : self.first + self.visual_tokens].cpu().numpy()

"""Attention of the language model: rotary positions, one layer's run, and single rows of attention probabilities.

A `layer` here is `language.DecoderLayer` or one with other arithmetic and the same three methods.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from sqap_vla_ros.vlm.kernels import kernels_run_on

_ROPE_THETA = 10000.0

Rotations = tuple[Tensor, Tensor]
"""Rotary cosines and sines, (batch, positions, head width) each."""


def rotary_tables(positions: Tensor, head_width: int, dtype: torch.dtype) -> Rotations:
    """Rotary cosines and sines of positions, int64 (batch, positions).

    The angles are float32 whatever the weights are, and are not a buffer that `.to(bfloat16)` would round: in
    bfloat16 position 280 would be turned by up to a third of a radian.
    """
    exponents = torch.arange(0, head_width, 2, device=positions.device, dtype=torch.float32)
    angles = positions[..., None].float() * _ROPE_THETA ** -(exponents / head_width)
    angles = torch.cat((angles, angles), dim=-1)
    return angles.cos().to(dtype), angles.sin().to(dtype)


def run_layer(
    layer: Any, hidden: Tensor, rotations: Rotations, head_width: int, only: Tensor | None = None
) -> tuple[Tensor, Tensor, Tensor]:
    """One layer, causal.

    Args:
        layer: A decoder layer.
        hidden: (batch, positions, width), the residual stream.
        rotations: Of the positions.
        head_width: Channels per head.
        only: int64 (batch,), the one position of each sample whose answer is wanted; None: all. The output projection
            and the MLP, three quarters of a layer, are then computed for these alone.

    Returns:
        The residual stream (batch, positions or 1, width), and the rotated queries (batch, heads, positions, head
        width) and keys (batch, key-value heads, positions, head width).
    """
    queries, keys, values = project_heads(layer, hidden, rotations, head_width)
    if only is None:
        return finish_layer(layer, hidden, attend(queries, keys, values)), queries, keys
    samples = torch.arange(len(hidden), device=hidden.device)
    visible = torch.arange(hidden.shape[1], device=hidden.device) <= only[:, None]
    mixed = attend(queries[samples, :, only][:, :, None], keys, values, visible[:, None, None])
    return finish_layer(layer, hidden[samples, only][:, None], mixed), queries, keys


def project_heads(layer: Any, hidden: Tensor, rotations: Rotations, head_width: int) -> tuple[Tensor, Tensor, Tensor]:
    """Rotated queries and keys, and values: (batch, heads, positions, head width) each."""
    batch, count, _ = hidden.shape
    queries, keys, values = (
        projected.view(batch, count, -1, head_width).transpose(1, 2) for projected in layer.project(hidden)
    )
    return *rotate_heads(queries, keys, rotations), values


def rotate_heads(queries: Tensor, keys: Tensor, rotations: Rotations) -> tuple[Tensor, Tensor]:
    """Rotary positions, as Llama pairs its channels: the first half with the second."""
    if kernels_run_on(queries.device):
        from sqap_vla_ros.vlm.kernels import rotary

        return rotary.rotate_heads(queries, keys, *rotations)
    return _rotate(queries, rotations), _rotate(keys, rotations)


def attend(queries: Tensor, keys: Tensor, values: Tensor, visible: Tensor | None = None) -> Tensor:
    """Mixtures of values (batch, positions, heads * head width).

    Args:
        queries: (batch, heads, positions, head width).
        keys: (batch, key-value heads, keys, head width).
        values: As the keys.
        visible: bool, broadcast to (batch, heads, positions, keys), which keys a query sees; None: as many as it has
            positions before it, itself included.
    """
    mixed = functional.scaled_dot_product_attention(
        queries, keys, values, visible, is_causal=visible is None, enable_gqa=queries.shape[1] != keys.shape[1]
    )
    return mixed.transpose(1, 2).flatten(2)


def finish_layer(layer: Any, hidden: Tensor, mixed: Tensor) -> Tensor:
    """The layer's answer to a residual stream and the mixture of values for it."""
    return layer.add_feed_forward(layer.add_attention(hidden, mixed))


def attention_rows(queries: Tensor, keys: Tensor, positions: Tensor) -> Tensor:
    """Rows of one sample's attention probabilities, computed beside the fast attention.

    Args:
        queries: (heads, rows, head width), rotated.
        keys: (key-value heads, keys, head width), rotated; of positions 0, 1, ….
        positions: int64 (rows,), of the queries: each sees the keys up to its own.

    Returns:
        float32 (rows, keys), mean over heads.
    """
    kv_heads, count, head_width = keys.shape
    grouped = queries.float().view(kv_heads, -1, *queries.shape[1:])
    logits = torch.einsum("kgrd,knd->kgrn", grouped, keys.float()) * head_width**-0.5
    hidden = torch.arange(count, device=keys.device) > positions[:, None]
    return logits.masked_fill(hidden, -torch.inf).softmax(-1).mean((0, 1))


@dataclass(frozen=True)
class Evidence:
    """What the visual tokens of one sample can be chosen by, in front of a layer.

    Attributes:
        hidden: (positions, width), residual stream in front of the layer: one position, the visual tokens, text.
        visual_tokens: How many visual tokens follow the first position.
        queries: (heads, positions, head width), rotated, of the layer before; None in front of the first.
        keys: (key-value heads, positions, head width), likewise.
    """

    hidden: Tensor
    visual_tokens: int
    queries: Tensor | None
    keys: Tensor | None

    @cached_property
    def scores(self) -> NDArray[np.float32]:
        """Attention of the last position to the visual tokens, float32 (visual,).

        Raises:
            ValueError: In front of the first layer there is no attention.
        """
        return self._attention(slice(-1, None))[0]

    def text_attention(self) -> NDArray[np.float32]:
        """Attention of each text position behind the visual tokens to them, float32 (text, visual).

        Raises:
            ValueError: As `scores`.
        """
        return self._attention(slice(1 + self.visual_tokens, None))

    def states(self) -> NDArray[np.float32]:
        """The visual tokens' residual stream, float32 (visual, width)."""
        return self.hidden[1 : 1 + self.visual_tokens].float().cpu().numpy()

    def _attention(self, rows: slice) -> NDArray[np.float32]:
        if self.queries is None or self.keys is None:
            raise ValueError("there is no attention in front of the first layer; let tokens leave before a later one")
        positions = torch.arange(len(self.hidden), device=self.hidden.device)[rows]
        attention = attention_rows(self.queries[:, rows], self.keys, positions)
        return attention[:, 1 : 1 + self.visual_tokens].cpu().numpy()


def _rotate(vectors: Tensor, rotations: Rotations) -> Tensor:
    cos, sin = (part[:, None] for part in rotations)
    first, second = vectors.chunk(2, dim=-1)
    return vectors * cos + torch.cat((-second, first), dim=-1) * sin

"""What a decoder layer is, and the one loop over decoder layers.

A layer maps the residual stream x to

    x + W_o · attention(rotate(W_q · norm(x)), rotate(W_k · norm(x)), W_v · norm(x)), and then x + mlp(norm(x)).

The linear parts differ between networks (float, low-bit, fused for a GPU, observed during calibration) and are the
three methods of `DecoderLayer`. Attention between them is the same for all, so it is computed here.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Protocol

import torch
from torch import Tensor

from sqap_vla_ros.vlm.attention import Rotations, attend, rotary_tables, rotate_heads


class DecoderLayer(Protocol):
    """The linear parts of one decoder layer, in the order in which the loop calls them."""

    def project(self, hidden: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys and values, (batch, positions, rows) each, of the residual stream (batch, positions, width)."""

    def add_attention(self, hidden: Tensor, mixed: Tensor) -> Tensor:
        """The residual stream plus the projection of the mixed values (batch, positions, heads * head width)."""

    def add_feed_forward(self, hidden: Tensor) -> Tensor:
        """The residual stream plus the MLP's output for it."""


@dataclass(frozen=True)
class LayerInput:
    """What enters a decoder layer.

    Attributes:
        hidden: (batch, positions, width), the residual stream.
        rotations: Rotary tables of the positions.
        last: int64 (batch,) or (batch, rows), index of the position or positions of each sample that the last layer
            computes; None: all.
        queries: (batch, heads, positions, head width), rotated, of the layer before; None in front of the first layer.
        keys: (batch, key-value heads, positions, head width), likewise.
    """

    hidden: Tensor
    rotations: Rotations
    last: Tensor | None = None
    queries: Tensor | None = None
    keys: Tensor | None = None


BeforeLayer = Callable[[int, LayerInput], LayerInput]
"""A hook in front of each layer: (index of the layer, its input) -> the input that the layer gets instead."""

Attention = Callable[[Tensor, Tensor, Tensor, Tensor | None], Tensor]
"""Mixes the values of one layer; arguments and result as in `causal_attention`."""


def causal_attention(queries: Tensor, keys: Tensor, values: Tensor, only: Tensor | None) -> Tensor:
    """Attention in which each position sees itself and those before it.

    Args:
        queries: (batch, heads, positions, head width), rotated.
        keys: (batch, key-value heads, positions, head width), rotated.
        values: (batch, key-value heads, positions, head width).
        only: int64 (batch,), the one position of each sample that is computed; None: all.

    Returns:
        The mixed values (batch, positions or 1, heads * head width).
    """
    if only is None:
        return attend(queries, keys, values)
    samples = torch.arange(len(queries), device=queries.device)
    visible = torch.arange(keys.shape[2], device=keys.device) <= only[:, None]
    return attend(queries[samples, :, only][:, :, None], keys, values, visible[:, None, None])


def full_attention(
    queries: Tensor, keys: Tensor, values: Tensor, only: Tensor | None, *, visible: Tensor | None = None
) -> Tensor:
    """Attention in which each position sees all.

    Args:
        queries: (batch, heads, positions, head width), rotated.
        keys: (batch, key-value heads, positions, head width), rotated.
        values: (batch, key-value heads, positions, head width).
        only: int64 (batch,) or (batch, rows), the positions of each sample that are computed; None: all.
        visible: bool (batch, positions), which positions anybody sees; None: all.

    Returns:
        The mixed values (batch, positions or rows, heads * head width).
    """
    if only is not None:
        queries = rows_at(queries.transpose(1, 2), only).transpose(1, 2)
    return attend(queries, keys, values, None if visible is None else visible[:, None, None], causal=False)


def rows_at(values: Tensor, only: Tensor) -> Tensor:
    """The values (batch, rows, ...) at some positions of each sample.

    Args:
        values: (batch, positions, ...).
        only: int64 (batch,) or (batch, rows), the positions.
    """
    return values[torch.arange(len(values), device=values.device)[:, None], only.view(len(values), -1)]


def project_heads(
    layer: DecoderLayer, hidden: Tensor, rotations: Rotations, head_width: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Rotated queries, rotated keys, and values: (batch, heads, positions, head width) each."""
    batch, count, _ = hidden.shape
    queries, keys, values = (
        projected.view(batch, count, -1, head_width).transpose(1, 2) for projected in layer.project(hidden)
    )
    return *rotate_heads(queries, keys, rotations), values


def run_layer(
    layer: DecoderLayer,
    hidden: Tensor,
    rotations: Rotations,
    head_width: int,
    only: Tensor | None = None,
    attention: Attention = causal_attention,
) -> tuple[Tensor, Tensor, Tensor]:
    """Run one decoder layer.

    Args:
        layer: The decoder layer.
        hidden: (batch, positions, width), the residual stream.
        rotations: Rotary tables of the positions.
        head_width: Channels per head.
        only: int64 (batch,) or (batch, rows), the positions of each sample that are computed; None: all. The output
            projection and the MLP, three quarters of a layer's work, are then computed for these positions alone.
        attention: How values are mixed.

    Returns:
        The residual stream (batch, positions or rows, width), and the rotated queries and keys of all positions.
    """
    queries, keys, values = project_heads(layer, hidden, rotations, head_width)
    mixed = attention(queries, keys, values, only)
    if only is not None:
        hidden = rows_at(hidden, only)
    return layer.add_feed_forward(layer.add_attention(hidden, mixed)), queries, keys


def run_layers(
    layers: Iterable[DecoderLayer],
    hidden: Tensor,
    head_width: int,
    *,
    rotations: Rotations | None = None,
    last: Tensor | None = None,
    before_layer: BeforeLayer | None = None,
    attention: Attention = causal_attention,
) -> Tensor:
    """Run decoder layers one after the other.

    Args:
        layers: The decoder layers, first to last.
        hidden: (batch, positions, width), the residual stream in front of the first layer.
        head_width: Channels per head.
        rotations: Rotary tables of the positions; None: the positions are 0, 1, 2, ….
        last: int64 (batch,) or (batch, rows), the positions of each sample that the last layer computes; None: all.
        before_layer: Called in front of each layer; it may drop positions, or only look.
        attention: How each layer mixes values.

    Returns:
        The residual stream behind the last layer, (batch, positions, width), or (batch, rows, width) with `last`.
    """
    if rotations is None:
        positions = torch.arange(hidden.shape[1], device=hidden.device)[None]
        rotations = rotary_tables(positions, head_width, hidden.dtype)
    inputs = LayerInput(hidden, rotations, last)
    layers = list(layers)
    for index, layer in enumerate(layers):
        if before_layer is not None:
            inputs = before_layer(index, inputs)
        only = inputs.last if index == len(layers) - 1 else None
        hidden, queries, keys = run_layer(layer, inputs.hidden, inputs.rotations, head_width, only, attention)
        inputs = replace(inputs, hidden=hidden, queries=queries, keys=keys)
    return inputs.hidden

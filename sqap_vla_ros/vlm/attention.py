"""Attention of the language model: rotary positions, the mixing of values, and single rows of probabilities."""

import torch
from torch import Tensor
from torch.nn import functional

from sqap_vla_ros.vlm.kernels import kernels_run_on

_ROPE_THETA = 10000.0

Rotations = tuple[Tensor, Tensor]
"""Rotary cosines and sines, (batch, positions, head width) each."""


def rotary_tables(positions: Tensor, head_width: int, dtype: torch.dtype, theta: float = _ROPE_THETA) -> Rotations:
    """Rotary cosines and sines of positions, int64 (batch, positions); `theta` is the base of the angles.

    The angles are float32 in every network, and are not a buffer that `.to(bfloat16)` would round: in bfloat16 the
    angle of position 280 would be wrong by up to a third of a radian.
    """
    exponents = torch.arange(0, head_width, 2, device=positions.device, dtype=torch.float32)
    angles = positions[..., None].float() * theta ** -(exponents / head_width)
    angles = torch.cat((angles, angles), dim=-1)
    return angles.cos().to(dtype), angles.sin().to(dtype)


def rotate_heads(queries: Tensor, keys: Tensor, rotations: Rotations) -> tuple[Tensor, Tensor]:
    """Queries and keys turned by their positions; as in Llama, the first half of the channels pairs with the second."""
    if kernels_run_on(queries.device):
        from sqap_vla_ros.vlm.kernels import rotary

        return rotary.rotate_heads(queries, keys, *rotations)
    return _rotate(queries, rotations), _rotate(keys, rotations)


def attend(
    queries: Tensor, keys: Tensor, values: Tensor, visible: Tensor | None = None, *, causal: bool = True
) -> Tensor:
    """Scaled dot-product attention with grouped key-value heads.

    Args:
        queries: (batch, heads, positions, head width).
        keys: (batch, key-value heads, keys, head width).
        values: (batch, key-value heads, keys, head width).
        visible: bool, broadcast to (batch, heads, positions, keys), the keys that a query sees; None: as `causal` says.
        causal: Whether a query sees the keys up to its own position, or all.

    Returns:
        The mixed values (batch, positions, heads * head width).
    """
    mixed = functional.scaled_dot_product_attention(
        queries,
        keys,
        values,
        visible,
        is_causal=visible is None and causal,
        enable_gqa=queries.shape[1] != keys.shape[1],
    )
    return mixed.transpose(1, 2).flatten(2)


def attention_rows(queries: Tensor, keys: Tensor, positions: Tensor) -> Tensor:
    """Some rows of one sample's attention probabilities, which the fused attention does not return.

    Args:
        queries: (heads, rows, head width), rotated.
        keys: (key-value heads, keys, head width), rotated, of the positions 0, 1, 2, ….
        positions: int64 (rows,), positions of the queries: each sees the keys up to its own.

    Returns:
        float32 (rows, keys), mean over heads.
    """
    kv_heads, count, head_width = keys.shape
    grouped = queries.float().view(kv_heads, -1, *queries.shape[1:])
    logits = torch.einsum("kgrd,knd->kgrn", grouped, keys.float()) * head_width**-0.5
    hidden = torch.arange(count, device=keys.device) > positions[:, None]
    return logits.masked_fill(hidden, -torch.inf).softmax(-1).mean((0, 1))


def _rotate(vectors: Tensor, rotations: Rotations) -> Tensor:
    cos, sin = (part[:, None] for part in rotations)
    first, second = vectors.chunk(2, dim=-1)
    return vectors * cos + torch.cat((-second, first), dim=-1) * sin

"""Rotary positions of queries and keys in one launch, whatever their strides after the fused projection."""

import torch
import triton
import triton.language as tl
from torch import Tensor

from sqap_vla_ros.vlm.kernels.launch import contiguous, launch


def rotate_heads(queries: Tensor, keys: Tensor, cos: Tensor, sin: Tensor) -> tuple[Tensor, Tensor]:
    """See `attention.rotate_heads`; the arithmetic is float32.

    Args:
        queries: (batch, heads, positions, head width), any strides but for the channels.
        keys: (batch, key-value heads, positions, head width), likewise.
        cos: (batch or 1, positions, head width), contiguous.
        sin: Likewise.

    Returns:
        Rotated queries and keys, contiguous, of the same shapes and dtype.
    """
    batch, heads, positions, head_width = queries.shape
    if queries.stride(3) != 1 or keys.stride(3) != 1 or not contiguous(cos, sin):
        raise ValueError(
            f"queries with strides {queries.stride()}, keys {keys.stride()}, tables {cos.stride()}: expected channels "
            "next to each other, and contiguous tables"
        )
    turned = torch.empty(*queries.shape, dtype=queries.dtype, device=queries.device)
    turned_keys = torch.empty(*keys.shape, dtype=keys.dtype, device=keys.device)
    launch(
        rotary_kernel,
        (batch, positions),
        queries,
        keys,
        cos,
        sin,
        turned,
        turned_keys,
        *queries.stride()[:3],
        *keys.stride()[:3],
        0 if len(cos) == 1 else positions * head_width,
        positions,
        heads=heads,
        kv_heads=keys.shape[1],
        half=head_width // 2,
        block_heads=triton.next_power_of_2(heads),
        block_half=triton.next_power_of_2(head_width // 2),
        num_warps=4,
    )
    return turned, turned_keys


@triton.jit(do_not_specialize=["positions"])
def rotary_kernel(
    queries: tl.tensor,
    keys: tl.tensor,
    cos: tl.tensor,
    sin: tl.tensor,
    turned: tl.tensor,
    turned_keys: tl.tensor,
    query_sample: tl.tensor,
    query_head: tl.tensor,
    query_position: tl.tensor,
    key_sample: tl.tensor,
    key_head: tl.tensor,
    key_position: tl.tensor,
    table_sample: tl.tensor,
    positions: tl.tensor,
    heads: tl.constexpr,
    kv_heads: tl.constexpr,
    half: tl.constexpr,
    block_heads: tl.constexpr,
    block_half: tl.constexpr,
) -> None:
    sample, position = tl.program_id(0), tl.program_id(1)
    channel = tl.arange(0, block_half)
    table = sample * table_sample + position * 2 * half + channel
    # Both halves of a table are the same.
    cosine = tl.load(cos + table, mask=channel < half, other=0.0).to(tl.float32)[None, :]
    sine = tl.load(sin + table, mask=channel < half, other=0.0).to(tl.float32)[None, :]
    _turn(
        queries + sample * query_sample + position * query_position,
        turned + (sample * heads * positions + position) * 2 * half,
        query_head, positions * 2 * half, cosine, sine, heads, half, block_heads, block_half,
    )  # fmt: skip
    _turn(
        keys + sample * key_sample + position * key_position,
        turned_keys + (sample * kv_heads * positions + position) * 2 * half,
        key_head, positions * 2 * half, cosine, sine, kv_heads, half, block_heads, block_half,
    )  # fmt: skip


@triton.jit
def _turn(
    source: tl.tensor,
    target: tl.tensor,
    source_head: tl.tensor,
    target_head: tl.tensor,
    cosine: tl.tensor,
    sine: tl.tensor,
    heads: tl.constexpr,
    half: tl.constexpr,
    block_heads: tl.constexpr,
    block_half: tl.constexpr,
) -> None:
    head, channel = tl.arange(0, block_heads)[:, None], tl.arange(0, block_half)[None, :]
    here = (head < heads) & (channel < half)
    first = tl.load(source + head * source_head + channel, mask=here, other=0.0).to(tl.float32)
    second = tl.load(source + head * source_head + half + channel, mask=here, other=0.0).to(tl.float32)
    written = target + head * target_head + channel
    tl.store(written, (first * cosine - second * sine).to(target.dtype.element_ty), mask=here)
    tl.store(written + half, (second * cosine + first * sine).to(target.dtype.element_ty), mask=here)

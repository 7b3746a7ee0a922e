"""Product of float activations with 4-bit weights, which are unpacked in registers (W4A16).

The benchmark compares the integer products with it: it saves memory, but time only where weight bandwidth is the limit.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

from sqap_vla_ros.vlm.kernels.launch import launch, tiles

_TILE_TOKENS, _TILE_OUTPUTS, _TILE_BYTES = 64, 128, 32


def weight_only_gemm(values: Tensor, halves: Tensor, w_scales: Tensor) -> Tensor:
    """Product of bfloat16 or float16 activations and 4-bit weights.

    Args:
        values: (tokens, K), contiguous, K a multiple of 64.
        halves: uint8 (N, K / 2), from `gemm.pack_halves`.
        w_scales: float32 (N, 1).

    Returns:
        (tokens, N), in the dtype of the activations.

    Raises:
        ValueError: Shapes do not fit each other, or K is not a multiple of 64.
    """
    tokens, channels = values.shape
    outputs, width = halves.shape
    if channels != 2 * width or width % _TILE_BYTES or not values.is_contiguous():
        raise ValueError(
            f"activations {tuple(values.shape)} with weights {tuple(halves.shape)}: expected contiguous (tokens, K) "
            f"and (N, K / 2), K a multiple of {2 * _TILE_BYTES}"
        )
    out = torch.empty(tokens, outputs, dtype=values.dtype, device=values.device)
    launch(
        weight_only_kernel,
        tiles(tokens, outputs, _TILE_TOKENS, _TILE_OUTPUTS),
        values,
        halves.view(torch.int8),
        w_scales,
        out,
        tokens,
        outputs,
        width,
        tile_tokens=_TILE_TOKENS,
        tile_outputs=_TILE_OUTPUTS,
        tile_bytes=_TILE_BYTES,
        num_warps=4,
        num_stages=3,
    )
    return out


@triton.jit(do_not_specialize=["tokens"])
def weight_only_kernel(
    values: tl.tensor,
    weights: tl.tensor,
    w_scales: tl.tensor,
    out: tl.tensor,
    tokens: tl.tensor,
    outputs: tl.tensor,
    width: tl.tensor,
    tile_tokens: tl.constexpr,
    tile_outputs: tl.constexpr,
    tile_bytes: tl.constexpr,
) -> None:
    token_tiles = tl.cdiv(tokens, tile_tokens)
    token = tl.program_id(0) % token_tiles * tile_tokens + tl.arange(0, tile_tokens)
    output = tl.program_id(0) // token_tiles * tile_outputs + tl.arange(0, tile_outputs)
    # Rows beyond the edge repeat the first ones and are not stored: no masks in the loop.
    weight_rows = weights + (output % outputs)[:, None] * width
    value_rows = values + (token % tokens)[None, :] * (2 * width)
    total = tl.zeros((tile_outputs, tile_tokens), dtype=tl.float32)
    for start in range(0, width, tile_bytes):
        byte = start + tl.arange(0, tile_bytes)
        pair = tl.load(weight_rows + byte[None, :])
        first = tl.load(value_rows + byte[:, None])
        second = tl.load(value_rows + width + byte[:, None])
        total = tl.dot(((pair << 4) >> 4).to(first.dtype), first, total)
        total = tl.dot((pair >> 4).to(first.dtype), second, total)
    scale = tl.load(w_scales + output, mask=output < outputs, other=0.0)
    here = (token < tokens)[None, :] & (output < outputs)[:, None]
    target = out + token[None, :] * outputs + output[:, None]
    tl.store(target, (total * scale[:, None]).to(out.dtype.element_ty), mask=here)

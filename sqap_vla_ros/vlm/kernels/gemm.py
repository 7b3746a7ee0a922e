"""The integer product of codes, activations (tokens, K) times weights (N, K), with 32-bit sums and a scaled output.

4-bit weights stay packed two per byte in memory and are unpacked in registers, for 8-bit tensor cores: not every GPU
has a 4-bit type, and the integers are the same. A nibble is used in the upper half of its byte, as 16 times its value;
the sum is exactly divisible by 16 and is divided at the end. It cannot overflow: 112 · 127 · K stays below 2^31 up to
K = 150 000.
"""

from dataclasses import dataclass

import torch
import triton
import triton.language as tl
from torch import Tensor
from torch.nn.functional import pad

from sqap_vla_ros.vlm.kernels.launch import contiguous, launch, tiles
from sqap_vla_ros.vlm.lowbit.integers import unpack_nibbles


@dataclass(frozen=True)
class Tile:
    """What one program computes, and with which resources.

    Attributes:
        tokens: Rows of the output.
        outputs: Columns of the output.
        reduced: Bytes of a weight's row that one step takes.
        warps: Of 32 threads each.
        stages: Steps whose loads are in flight at the same time.
    """

    tokens: int
    outputs: int
    reduced: int
    warps: int
    stages: int


def tile_for(tokens: int, outputs: int) -> Tile:
    """The tile for a shape; each fits the 99 KiB of shared memory of the smallest supported GPUs.

    Tiles are small where large ones would leave multiprocessors idle: for the single token of the last layer, and for
    the widths of the vision towers.
    """
    if tokens <= 16:
        return Tile(tokens=16, outputs=64, reduced=128, warps=4, stages=4)
    if tokens <= 64 or outputs < 2048:
        return Tile(tokens=64, outputs=64, reduced=128, warps=4, stages=3)
    if tokens <= 192:
        return Tile(tokens=64, outputs=128, reduced=128, warps=4, stages=3)
    return Tile(tokens=128, outputs=128, reduced=64, warps=8, stages=3)


def pack_halves(packed: Tensor) -> Tensor:
    """Nibbles rearranged for `packed_gemm`: a byte holds channel k (low) and channel k + H (high).

    Both nibbles of neighbouring bytes then meet neighbouring activations; the kernel has nothing to interleave.

    Args:
        packed: uint8 (N, K / 2), neighbouring channels in a byte, as `pack_nibbles` makes them.

    Returns:
        uint8 (N, H), H = K / 2 rounded up to a multiple of 16; channels beyond K are zeros.
    """
    codes = unpack_nibbles(packed).view(torch.uint8)
    half = _half(codes.shape[1])
    low, high = pad(codes, (0, 2 * half - codes.shape[1])).split(half, dim=1)
    return (low & 0xF) | (high << 4)


def _half(channels: int) -> int:
    # Rows begin, and the second half of the activations begins, where a load of 16 bytes may.
    return triton.cdiv(channels, 32) * 16


def packed_gemm(
    codes: Tensor,
    x_scales: Tensor,
    halves: Tensor,
    w_scales: Tensor,
    bias: Tensor | None = None,
    out_dtype: torch.dtype = torch.float16,
    residual: Tensor | None = None,
) -> Tensor:
    """Product with 4-bit weights.

    Args:
        codes: int8 (tokens, K), of activations in 4 or 8 bits.
        x_scales: float32 (tokens, 1).
        halves: uint8 (N, H), from `pack_halves`.
        w_scales: float32 (N, 1).
        bias: (N,), or None.
        out_dtype: A float dtype, or int32 for the sums alone, without scales and bias.
        residual: float (tokens, N), contiguous, what the product is added to; None: nothing.

    Returns:
        `out_dtype` (tokens, N).

    Raises:
        ValueError: Shapes do not fit each other, or operands are not contiguous.
    """
    return _gemm(codes, x_scales, halves.view(torch.int8), w_scales, bias, out_dtype, residual, packed=True)


def int8_gemm(
    codes: Tensor,
    x_scales: Tensor,
    weights: Tensor,
    w_scales: Tensor,
    bias: Tensor | None = None,
    out_dtype: torch.dtype = torch.float16,
    residual: Tensor | None = None,
) -> Tensor:
    """Product with 8-bit weights, int8 (N, K); everything else as in `packed_gemm`."""
    return _gemm(codes, x_scales, weights, w_scales, bias, out_dtype, residual, packed=False)


def _gemm(
    codes: Tensor,
    x_scales: Tensor,
    weights: Tensor,
    w_scales: Tensor,
    bias: Tensor | None,
    out_dtype: torch.dtype,
    residual: Tensor | None,
    packed: bool,
) -> Tensor:
    tokens, channels = codes.shape
    outputs, width = weights.shape
    if width != (_half(channels) if packed else channels) or len(x_scales) != tokens or len(w_scales) != outputs:
        raise ValueError(
            f"codes {tuple(codes.shape)} with {len(x_scales)} scales and {4 if packed else 8}-bit weights "
            f"{tuple(weights.shape)} with {len(w_scales)} scales do not fit each other: expected (tokens, K) and "
            f"(N, {'K / 2 rounded up to 16' if packed else 'K'}), a scale per row"
        )
    if codes.dtype != torch.int8 or not contiguous(codes, x_scales, weights, w_scales):
        raise ValueError(
            f"codes {codes.dtype} with strides {codes.stride()}, scales {x_scales.stride()}; weights with strides "
            f"{weights.stride()}, scales {w_scales.stride()}: expected int8 codes, and all of them contiguous"
        )
    if residual is not None and (residual.shape != (tokens, outputs) or not residual.is_contiguous()):
        raise ValueError(
            f"residual of shape {tuple(residual.shape)} and strides {residual.stride()}: "
            f"expected contiguous ({tokens}, {outputs}), as the output"
        )
    out = torch.empty(tokens, outputs, dtype=out_dtype, device=codes.device)
    tile = tile_for(tokens, outputs)
    launch(
        gemm_kernel,
        tiles(tokens, outputs, tile.tokens, tile.outputs),
        codes,
        x_scales,
        weights,
        w_scales,
        bias,
        residual,
        out,
        tokens,
        outputs,
        channels,
        width,
        packed=packed,
        has_bias=bias is not None,
        has_residual=residual is not None,
        sums_only=out_dtype == torch.int32,
        ragged=width % tile.reduced != 0 or channels % width != 0,
        tile_tokens=tile.tokens,
        tile_outputs=tile.outputs,
        tile_reduced=tile.reduced,
        num_warps=tile.warps,
        num_stages=tile.stages,
    )
    return out


# Token counts vary with the prompt; a GPU must not compile anew for a multiple of 16.
@triton.jit(do_not_specialize=["tokens"])
def gemm_kernel(
    codes: tl.tensor,
    x_scales: tl.tensor,
    weights: tl.tensor,
    w_scales: tl.tensor,
    bias: tl.tensor,
    residual: tl.tensor,
    out: tl.tensor,
    tokens: tl.tensor,
    outputs: tl.tensor,
    channels: tl.tensor,
    width: tl.tensor,
    packed: tl.constexpr,
    has_bias: tl.constexpr,
    has_residual: tl.constexpr,
    sums_only: tl.constexpr,
    ragged: tl.constexpr,
    tile_tokens: tl.constexpr,
    tile_outputs: tl.constexpr,
    tile_reduced: tl.constexpr,
) -> None:
    # Programs of the same outputs are neighbours, so that weights, the larger operand, are read from memory once.
    token_tiles = tl.cdiv(tokens, tile_tokens)
    token = tl.program_id(0) % token_tiles * tile_tokens + tl.arange(0, tile_tokens)
    output = tl.program_id(0) // token_tiles * tile_outputs + tl.arange(0, tile_outputs)
    column = tl.arange(0, tile_reduced)
    # Rows beyond the edge repeat the first ones and are not stored: no masks in the loop.
    weight_rows = weights + (output % outputs)[:, None] * width
    code_rows = codes + (token % tokens)[None, :] * channels
    # Weights are the left operand, which tensor cores also take from registers, where the nibbles are unpacked.
    total = tl.zeros((tile_outputs, tile_tokens), dtype=tl.int32)
    for start in range(0, width, tile_reduced):
        byte = start + column
        if ragged:
            pair = tl.load(weight_rows + byte[None, :], mask=(byte < width)[None, :], other=0)
            first = tl.load(code_rows + byte[:, None], mask=(byte < channels)[:, None], other=0)
        else:
            pair = tl.load(weight_rows + byte[None, :])
            first = tl.load(code_rows + byte[:, None])
        if packed:
            if ragged:
                second = tl.load(code_rows + width + byte[:, None], mask=(width + byte < channels)[:, None], other=0)
            else:
                second = tl.load(code_rows + width + byte[:, None])
            total = tl.dot(pair << 4, first, total, out_dtype=tl.int32)
            total = tl.dot(pair & -16, second, total, out_dtype=tl.int32)
        else:
            total = tl.dot(pair, first, total, out_dtype=tl.int32)
    if packed:
        total = total >> 4

    here = (token < tokens)[None, :] & (output < outputs)[:, None]
    place = token[None, :] * outputs + output[:, None]
    target = out + place
    if sums_only:
        tl.store(target, total, mask=here)
    else:
        x_scale = tl.load(x_scales + token, mask=token < tokens, other=0.0)
        w_scale = tl.load(w_scales + output, mask=output < outputs, other=0.0)
        result = total.to(tl.float32) * x_scale[None, :] * w_scale[:, None]
        if has_bias:
            result += tl.load(bias + output, mask=output < outputs, other=0.0).to(tl.float32)[:, None]
        if has_residual:
            result += tl.load(residual + place, mask=here, other=0.0).to(tl.float32)
        tl.store(target, result.to(out.dtype.element_ty), mask=here)

"""Activations on the way into an integer product: norm or activation function, block Hadamard rotation, quantisation.

One program holds the row of one token in registers from the load to the store, so that memory is read once and written
once. All arithmetic in between is float32, for every dtype of the input.
"""

from typing import Literal

import torch
import triton
import triton.language as tl
from torch import Tensor

from sqap_vla_ros.vlm.kernels.launch import launch
from sqap_vla_ros.vlm.lowbit.integers import largest_code

# Channels that are rotated at a time: a longer row, or a larger block, would not fit the shared memory of every GPU.
_LARGEST_PART = 4096
# Operands of a tensor core product are at least 16 wide.
_SMALLEST_PART = 16 * 16
# What fits the registers; 11008, the widest input of a 7B language model, takes three parts of 4096.
_WIDEST_ROW = 4 * _LARGEST_PART

_TINY = tl.constexpr(torch.finfo(torch.float32).tiny)
# From here on float32 has no digits after the point: adding it rounds, halves to even, on every device.
_NO_FRACTIONS = tl.constexpr(1.5 * 2**23)


def rotate_quantise(
    values: Tensor,
    block: int,
    bits: int,
    clip: float = 1.0,
    *,
    epsilon: float | None = None,
    gain: Tensor | None = None,
    shift: Tensor | None = None,
    function: Literal["gelu", "swiglu"] | None = None,
) -> tuple[Tensor, Tensor]:
    """Codes of activations, after an optional norm or activation function and an optional rotation.

    Equals `quantise(rotated, absmax_scales(rotated, bits, clip), bits)` with `rotated = rotate(norm(values), block)`,
    all in float32. A row with a value that is not finite gets the scale NaN, so that it stays visible.

    Args:
        values: float16, bfloat16 or float32 (tokens, channels), contiguous, at most 16384 channels; for "swiglu"
            (tokens, 2 channels), the gate's channels first.
        block: Channels that are rotated together, a power of two that divides them, at most 4096; 1 for no rotation.
        bits: Width of the codes; they are stored one per byte, as the product needs them.
        clip: Share of a token's largest magnitude that is still represented.
        epsilon: Epsilon of a norm before the rotation; None: no norm.
        gain: (channels,), the norm's weight; None where it is folded into the layers after it.
        shift: (channels,), a LayerNorm's bias; None: the norm is an RMSNorm.
        function: Exact GELU, or SiLU of the gate times the other half; None: neither.

    Returns:
        int8 (tokens, channels) and the scales, float32 (tokens, 1).

    Raises:
        ValueError: The kernel cannot run a shape, a layout or the block.
    """
    tokens, channels = values.shape
    if function == "swiglu":
        channels //= 2
    if not values.is_contiguous() or channels > _WIDEST_ROW:
        raise ValueError(
            f"activations of shape {tuple(values.shape)} and strides {values.stride()}: "
            f"expected contiguous rows of at most {_WIDEST_ROW} channels"
        )
    if block < 1 or block & (block - 1) or channels % block or block > _LARGEST_PART:
        raise ValueError(
            f"Hadamard block of {block} for {channels} channels: "
            f"expected a power of two that divides them, at most {_LARGEST_PART}"
        )
    if gain is not None and (epsilon is None or gain.shape != (channels,)):
        raise ValueError(
            f"gain of shape {tuple(gain.shape)} with epsilon {epsilon} for {channels} channels: "
            "expected one per channel, and the epsilon of its norm"
        )
    if shift is not None and (gain is None or shift.shape != (channels,) or function is not None):
        raise ValueError(
            f"shift of shape {tuple(shift.shape)} for {channels} channels: expected that of a LayerNorm, one per "
            "channel, together with its gain, and no activation function"
        )
    codes = torch.empty(tokens, channels, dtype=torch.int8, device=values.device)
    scales = torch.empty(tokens, 1, dtype=torch.float32, device=values.device)
    limit = largest_code(bits)
    part = min(max(triton.next_power_of_2(channels), _SMALLEST_PART), _LARGEST_PART)
    launch(
        rotate_quantise_kernel,
        (tokens,),
        values,
        gain,
        shift,
        codes,
        scales,
        channels,
        clip / limit,
        0.0 if epsilon is None else epsilon,
        limit=limit,
        has_norm=epsilon is not None,
        has_gain=gain is not None,
        has_shift=shift is not None,
        function=function or "",
        block_log2=block.bit_length() - 1,
        part=part,
        parts=triton.cdiv(channels, part),
        num_warps=8,
    )
    return codes, scales


@triton.jit
def rotate_quantise_kernel(
    values: tl.tensor,
    gain: tl.tensor,
    shift: tl.tensor,
    codes: tl.tensor,
    scales: tl.tensor,
    channels: tl.tensor,
    share: tl.tensor,
    epsilon: tl.tensor,
    limit: tl.constexpr,
    has_norm: tl.constexpr,
    has_gain: tl.constexpr,
    has_shift: tl.constexpr,
    function: tl.constexpr,
    block_log2: tl.constexpr,
    part: tl.constexpr,
    parts: tl.constexpr,
) -> None:
    token = tl.program_id(0).to(tl.int64)
    values += token * channels * (2 if function == "swiglu" else 1)
    codes += token * channels
    channel = tl.arange(0, part)

    row: tl.tuple = ()
    for index in tl.static_range(parts):
        here = index * part + channel
        value = tl.load(values + here, mask=here < channels, other=0.0).to(tl.float32)
        if function == "swiglu":
            up = tl.load(values + channels + here, mask=here < channels, other=0.0).to(tl.float32)
            value = value / (1.0 + tl.exp(-value)) * up
        if function == "gelu":
            value = 0.5 * value * (1.0 + tl.erf(value * 0.7071067811865476))
        row += (value,)
    if has_shift:
        row = _centred(row, channels, part, parts)
    if has_norm:
        row = _normed(row, gain, shift, channels, epsilon, has_gain, has_shift, part, parts)
    if block_log2 > 0:
        rotated: tl.tuple = ()
        for index in tl.static_range(parts):
            rotated += (_rotated(row[index], block_log2, part),)
        row = rotated

    largest = 0.0
    not_finite = 0.0
    for index in tl.static_range(parts):
        largest = tl.maximum(largest, tl.max(tl.abs(row[index])))
        # A maximum ignores NaN; a sum does not.
        not_finite += tl.sum(row[index] * 0.0)
    scale = tl.maximum(largest * share, _TINY) + not_finite
    for index in tl.static_range(parts):
        here = index * part + channel
        code = tl.clamp(tl.div_rn(row[index], scale), -1.0 * limit, 1.0 * limit)
        code = (code + _NO_FRACTIONS) - _NO_FRACTIONS
        tl.store(codes + here, code.to(tl.int8), mask=here < channels)
    tl.store(scales + token, scale)


@triton.jit
def _centred(row: tl.tuple, channels: tl.tensor, part: tl.constexpr, parts: tl.constexpr) -> tl.tuple:
    total = 0.0
    for index in tl.static_range(parts):
        total += tl.sum(row[index])
    centred: tl.tuple = ()
    for index in tl.static_range(parts):
        # Beyond the edge zeros must stay what they are: they count in no sum.
        here = index * part + tl.arange(0, part)
        centred += (tl.where(here < channels, row[index] - total / channels, 0.0),)
    return centred


@triton.jit
def _normed(
    row: tl.tuple,
    gain: tl.tensor,
    shift: tl.tensor,
    channels: tl.tensor,
    epsilon: tl.tensor,
    has_gain: tl.constexpr,
    has_shift: tl.constexpr,
    part: tl.constexpr,
    parts: tl.constexpr,
) -> tl.tuple:
    squares = 0.0
    for index in tl.static_range(parts):
        squares += tl.sum(row[index] * row[index])
    factor = 1.0 / tl.sqrt_rn(squares / channels + epsilon)
    normed: tl.tuple = ()
    for index in tl.static_range(parts):
        scaled = row[index] * factor
        if has_gain:
            here = index * part + tl.arange(0, part)
            scaled *= tl.load(gain + here, mask=here < channels, other=0.0).to(tl.float32)
            if has_shift:
                scaled += tl.load(shift + here, mask=here < channels, other=0.0).to(tl.float32)
        normed += (scaled,)
    return normed


@triton.jit
def _rotated(row: tl.tensor, block_log2: tl.constexpr, part: tl.constexpr) -> tl.tensor:
    """The rotation of 16 · 16 · … channels is a product of rotations of 16, each along one axis of the block."""
    for done in tl.static_range(0, block_log2, 4):
        row = _rotated_along_last(row, 1 << block_log2, min(1 << (block_log2 - done), 16), part)
    return row * (2 ** (-0.5 * block_log2))


@triton.jit
def _rotated_along_last(row: tl.tensor, block: tl.constexpr, side: tl.constexpr, part: tl.constexpr) -> tl.tensor:
    """Rotate the last `side` channels of an index, unscaled, and bring the next ones to the last place."""
    # tf32x3 keeps float32's precision: one operand is ±1, the other is split into terms that sum to it.
    row = tl.dot(tl.reshape(row, (part // 16, 16)), _signs(side), input_precision="tf32x3")
    return tl.reshape(tl.permute(tl.reshape(row, (part // block, block // side, side)), (0, 2, 1)), (part,))


@triton.jit
def _signs(side: tl.constexpr) -> tl.tensor:
    """Walsh-Hadamard matrices of ±1 in Sylvester's order (side, side) along the diagonal of a float32 (16, 16)."""
    line = tl.arange(0, 16)[:, None]
    column = tl.arange(0, 16)[None, :]
    parity = line & column & (side - 1)
    parity ^= parity >> 2
    parity ^= parity >> 1
    return tl.where(line // side == column // side, 1.0 - 2.0 * (parity & 1), 0.0)

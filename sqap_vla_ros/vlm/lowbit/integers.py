"""Symmetric integers: scales, rounding, packing.

A number x is stored as a code q in ±(2^(bits-1) - 1) with x ≈ q · scale; there is no zero point, so that a product of
two codes needs no correction. Weights have a scale per output channel (row), activations one per token (row), because a
scale along the reduced axis could not leave the integer product.
"""

import torch
from torch import Tensor

# Shares of a row's absolute maximum that the search for a weight's clipping tries.
_CLIPS = (1.0, 0.95, 0.9, 0.85, 0.8, 0.75, 0.7, 0.65, 0.6)


def largest_code(bits: int) -> int:
    """Largest magnitude of a code: 7 for 4 bits, 127 for 8.

    Raises:
        ValueError: Not 2 to 8 bits.
    """
    if not 2 <= bits <= 8:
        raise ValueError(f"bits = {bits}: expected 2 to 8")
    return 2 ** (bits - 1) - 1


def absmax_scales(values: Tensor, bits: int, clip: float = 1.0) -> Tensor:
    """One scale per row, so that `clip` times the row's largest magnitude is the largest code.

    Args:
        values: float (rows, columns).
        bits: Of the codes.
        clip: Share of the largest magnitude that is still represented; larger values saturate.

    Returns:
        float32 (rows, 1), positive also for a row of zeros.
    """
    largest = values.abs().amax(-1, keepdim=True).float()
    return (largest * (clip / largest_code(bits))).clamp_min_(torch.finfo(torch.float32).tiny)


def searched_scales(weight: Tensor, bits: int, importance: Tensor | None = None) -> Tensor:
    """One scale per row with the least squared rounding error over a range of clips.

    Args:
        weight: float32 (rows, columns).
        bits: Of the codes.
        importance: float32 (columns,), how much a column's squared error counts, as the power of its input says it;
            None: all the same.

    Returns:
        float32 (rows, 1).
    """
    best = absmax_scales(weight, bits)
    least = _squared_error(weight, best, bits, importance)
    for clip in _CLIPS[1:]:
        scales = absmax_scales(weight, bits, clip)
        error = _squared_error(weight, scales, bits, importance)
        best = torch.where(error < least, scales, best)
        least = torch.minimum(error, least)
    return best


def quantise(values: Tensor, scales: Tensor, bits: int) -> Tensor:
    """Codes of values, int8, rounded to nearest (halves to even) and saturated.

    Args:
        values: float (rows, columns).
        scales: float32 (rows, 1), or (1, 1) for one of the whole tensor.
        bits: Of the codes.
    """
    limit = largest_code(bits)
    return (values / scales).round_().clamp_(-limit, limit).to(torch.int8)


def pack_nibbles(codes: Tensor) -> Tensor:
    """Two 4-bit codes per byte: the even column in the low nibble, the odd one in the high nibble, two's complement.

    Args:
        codes: int8 (rows, columns), within ±7, an even number of columns.

    Returns:
        uint8 (rows, columns / 2).

    Raises:
        ValueError: An odd number of columns.
    """
    if codes.shape[-1] % 2:
        raise ValueError(f"{codes.shape[-1]} columns cannot be packed two per byte; expected an even number")
    nibbles = codes.view(torch.uint8) & 0xF
    return nibbles[..., ::2] | (nibbles[..., 1::2] << 4)


def unpack_nibbles(packed: Tensor) -> Tensor:
    """Codes int8 (rows, columns) from bytes uint8 (rows, columns / 2), as `pack_nibbles` made them."""
    signed = packed.view(torch.int8)
    # A shift to the left and back spreads the nibble's sign.
    low, high = (signed << 4) >> 4, signed >> 4
    return torch.stack((low, high), dim=-1).flatten(-2)


def _squared_error(weight: Tensor, scales: Tensor, bits: int, importance: Tensor | None) -> Tensor:
    limit = largest_code(bits)
    rounded = (weight / scales).round_().clamp_(-limit, limit).mul_(scales)
    squares = rounded.sub_(weight).square_()
    return squares.sum(-1, keepdim=True) if importance is None else squares @ importance[:, None]

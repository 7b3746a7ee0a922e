"""Symmetric integers: scales, rounding, packing.

A number x is stored as a code q in ±(2^(bits-1) - 1) with x ≈ q · scale. There is no zero point, so that a product of
two codes needs no correction. Weights have one scale per output channel (row), activations one per token (row), because
a scale along the summed axis cannot be taken out of the integer product.
"""

import torch
from torch import Tensor

# Clips that the search tries, as shares of a row's absolute maximum.
_CLIPS = (1.0, 0.95, 0.9, 0.85, 0.8, 0.75, 0.7, 0.65, 0.6)


def largest_code(bits: int) -> int:
    """Largest magnitude of a code: 7 for 4 bits, 127 for 8.

    Raises:
        ValueError: The bits are not 2 to 8.
    """
    if not 2 <= bits <= 8:
        raise ValueError(f"bits = {bits}: expected 2 to 8")
    return 2 ** (bits - 1) - 1


def absmax_scales(values: Tensor, bits: int, clip: float = 1.0) -> Tensor:
    """One scale per row, so that `clip` times the row's largest magnitude is the largest code.

    Args:
        values: float (rows, columns).
        bits: Width of the codes.
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
        bits: Width of the codes.
        importance: float32 (columns,), weight of a column's squared error, the power of its input; None: all equal.

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
        scales: float32 (rows, 1), or (1, 1) for one scale of the whole tensor.
        bits: Width of the codes.
    """
    limit = largest_code(bits)
    return (values / scales).round_().clamp_(-limit, limit).to(torch.int8)


def pack_nibbles(codes: Tensor) -> Tensor:
    """Pack two 4-bit codes per byte, two's complement: even columns in the low nibble, odd ones in the high nibble.

    Args:
        codes: int8 (rows, columns), within ±7, an even number of columns.

    Returns:
        uint8 (rows, columns / 2).

    Raises:
        ValueError: The number of columns is odd.
    """
    if codes.shape[-1] % 2:
        raise ValueError(f"{codes.shape[-1]} columns cannot be packed two per byte; expected an even number")
    nibbles = codes.view(torch.uint8) & 0xF
    return nibbles[..., ::2] | (nibbles[..., 1::2] << 4)


def unpack_nibbles(packed: Tensor) -> Tensor:
    """The inverse of `pack_nibbles`: uint8 (rows, columns / 2) -> codes int8 (rows, columns)."""
    signed = packed.view(torch.int8)
    # Shifting left and back extends the nibble's sign.
    low, high = (signed << 4) >> 4, signed >> 4
    return torch.stack((low, high), dim=-1).flatten(-2)


def _squared_error(weight: Tensor, scales: Tensor, bits: int, importance: Tensor | None) -> Tensor:
    limit = largest_code(bits)
    rounded = (weight / scales).round_().clamp_(-limit, limit).mul_(scales)
    squares = rounded.sub_(weight).square_()
    return squares.sum(-1, keepdim=True) if importance is None else squares @ importance[:, None]

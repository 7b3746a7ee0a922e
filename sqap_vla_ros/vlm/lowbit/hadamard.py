"""Walsh-Hadamard rotations, which spread a channel's outlier evenly over a block of channels.

The matrix H of a block is symmetric and orthonormal, H = Hᵀ = H⁻¹, so that rotating both operands of a product leaves
it as it was: (WᵀHᵀ)(HX) = WᵀX. A width that is no power of two is rotated block by block (11008 = 43 · 256).
"""

import math
from functools import lru_cache

import torch
from torch import Tensor


def block_size(width: int, largest: int) -> int:
    """The largest power of two that divides `width` and is at most `largest` (itself a power of two).

    Raises:
        ValueError: `largest` is not a power of two.
    """
    if largest < 1 or largest & (largest - 1):
        raise ValueError(f"Hadamard block of {largest}: expected a power of two")
    return min(width & -width, largest)


def rotate(values: Tensor, block: int) -> Tensor:
    """Rotate the last axis, block by block; twice is the identity.

    A block of n = a · b channels is a matrix (a, b), multiplied from both sides: (a + b) instead of n operations per
    channel, and on every device two matrix products of a good size.

    Args:
        values: float (..., channels).
        block: Power of two that divides the channels.

    Returns:
        (..., channels), in the same number format.
    """
    rows = 2 ** (int(math.log2(block)) // 2)
    left, right = (_hadamard_like(size, values.dtype, values.device) for size in (rows, block // rows))
    blocks = values.reshape(-1, rows, block // rows)
    return torch.matmul(torch.matmul(left, blocks), right).reshape(values.shape)


# Kept on its device, because a CUDA graph can be captured only of what copies nothing from the host.
@lru_cache(maxsize=64)
@torch.inference_mode(False)
def _hadamard_like(size: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    return hadamard(size).to(dtype=dtype, device=device)


@lru_cache(maxsize=16)
@torch.inference_mode(False)  # autograd refuses a matrix that inference mode made
def hadamard(size: int) -> Tensor:
    """The orthonormal Walsh-Hadamard matrix in Sylvester's order, float32 (size, size); size a power of two."""
    if size < 1 or size & (size - 1):
        raise ValueError(f"Hadamard matrix of {size} rows: expected a power of two")
    matrix = torch.ones(1, 1)
    while len(matrix) < size:
        matrix = torch.cat((torch.cat((matrix, matrix), 1), torch.cat((matrix, -matrix), 1)))
    return matrix / math.sqrt(size)

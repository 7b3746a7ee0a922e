"""Walsh-Hadamard rotations, which spread a channel's outlier evenly over a block of channels.

The matrix H of a block is symmetric and orthonormal, H = Hᵀ = H⁻¹, so rotating both operands keeps a product:
(WᵀHᵀ)(HX) = WᵀX. A width that is not a power of two is rotated block by block (11008 = 43 · 256).
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

    A block of n = a · b channels is treated as a matrix (a, b) and multiplied from both sides: (a + b) operations per
    channel instead of n, in two matrix products of a size that every device runs well.

    Args:
        values: float (..., channels).
        block: Channels of a block, a power of two that divides the channels.

    Returns:
        (..., channels), in the same dtype.
    """
    rows = 2 ** (int(math.log2(block)) // 2)
    left, right = (_hadamard_like(size, values.dtype, values.device) for size in (rows, block // rows))
    blocks = values.reshape(-1, rows, block // rows)
    return torch.matmul(torch.matmul(left, blocks), right).reshape(values.shape)


# Cached on its device: a CUDA graph cannot be captured of a function that copies from the host.
@lru_cache(maxsize=64)
@torch.inference_mode(False)
def _hadamard_like(size: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    return hadamard(size).to(dtype=dtype, device=device)


@lru_cache(maxsize=16)
@torch.inference_mode(False)  # autograd rejects tensors made in inference mode
def hadamard(size: int) -> Tensor:
    """The orthonormal Walsh-Hadamard matrix in Sylvester's order, float32 (size, size); size a power of two."""
    if size < 1 or size & (size - 1):
        raise ValueError(f"Hadamard matrix of {size} rows: expected a power of two")
    matrix = torch.ones(1, 1)
    while len(matrix) < size:
        matrix = torch.cat((torch.cat((matrix, matrix), 1), torch.cat((matrix, -matrix), 1)))
    return matrix / math.sqrt(size)

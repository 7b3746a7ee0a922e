"""What all launches of the kernels share."""

from typing import Any

import torch
import triton
from torch import Tensor


def launch(kernel: Any, grid: tuple[int, ...], first: Tensor, *operands: object, **constants: object) -> None:
    """Launch a kernel on the device of its first operand, which need not be the current one.

    Args:
        kernel: A Triton kernel.
        grid: Number of programs along each axis.
        first: The first operand.
        operands: The other operands; None where the kernel has a constant that says that there is none.
        constants: Compile-time constants and launch options, by name.
    """
    with torch.cuda.device_of(first):
        kernel[grid](first, *operands, **constants)


def tiles(tokens: int, outputs: int, tile_tokens: int, tile_outputs: int) -> tuple[int]:
    """The grid of a matrix product (tokens, outputs): one program per tile, as the kernels number them."""
    return (triton.cdiv(tokens, tile_tokens) * triton.cdiv(outputs, tile_outputs),)


def contiguous(*tensors: Tensor | None) -> bool:
    """Whether all tensors that are there are contiguous."""
    return all(tensor is None or tensor.is_contiguous() for tensor in tensors)

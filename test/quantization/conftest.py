"""Triton's kernels without a GPU, and memory in which their mistakes show."""

import os
import sys
from collections.abc import Iterator

import pytest
import torch
from torch import Tensor

# They are interpreted then; Triton must be told before anything imports it.
if not torch.cuda.is_available():
    if "triton" in sys.modules:
        raise RuntimeError("Triton was imported before it could be told to interpret: set TRITON_INTERPRET=1")
    os.environ["TRITON_INTERPRET"] = "1"

_POISON = 0x7F  # 127 as int8, NaN as bfloat16 and float16, 3.4e38 as float32
_GUARD_BYTES = 4096


@pytest.fixture
def poisoned_memory(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Let `torch.empty` return poison, between guards that must be whole at the end."""
    allocated: list[tuple[Tensor, int]] = []

    def poisoned(*shape: int, dtype: torch.dtype, device: torch.device) -> Tensor:
        size = torch.Size(shape).numel() * dtype.itemsize
        memory = torch.full((size + 2 * _GUARD_BYTES,), _POISON, dtype=torch.uint8, device=device)
        allocated.append((memory, size))
        return memory[_GUARD_BYTES : _GUARD_BYTES + size].view(dtype).view(shape)

    monkeypatch.setattr(torch, "empty", poisoned)
    yield
    for memory, size in allocated:
        guards = torch.cat((memory[:_GUARD_BYTES], memory[_GUARD_BYTES + size :]))
        assert (guards == _POISON).all(), "written beside an output"

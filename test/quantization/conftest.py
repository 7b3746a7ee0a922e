"""Memory in which mistakes of kernels show, and a checkpoint to compress."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor

from sqap_vla_ros.cogact.random_checkpoint import write_random_checkpoint

_POISON = 0x7F  # 127 as int8, NaN as bfloat16 and float16, 3.4e38 as float32
_GUARD_BYTES = 4096


@pytest.fixture(scope="package", autouse=True)
def _one_thread() -> Iterator[None]:
    """What is multiplied here is so small that threads cost more than they do, many times so on a busy machine."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


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


@pytest.fixture(scope="session")
def random_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Run directory of a tiny random checkpoint; not to be changed."""
    return write_random_checkpoint(tmp_path_factory.mktemp("random"), "tiny")


@pytest.fixture(scope="module")
def one_thread() -> Iterator[None]:
    """For thousands of tiny products, whose threads would wait for each other more than they compute."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)

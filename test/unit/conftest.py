"""The golden data and models made from it, small random networks, and memory in which mistakes of kernels show.

A unit test starts no process, does not sleep, and makes no ROS context: a guard fails the one that does.
"""

import json
import multiprocessing.process
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from paths import DATA
from safetensors.torch import load_file
from torch import Tensor

from sqap_vla_ros.policies.cogact.action_head import ActionHead, load_action_head
from sqap_vla_ros.policies.cogact.checkpoint import load_cogact
from sqap_vla_ros.policies.cogact.model import CogACT
from sqap_vla_ros.testing.random_checkpoint import write_random_checkpoint
from sqap_vla_ros.vlm.checkpoint import Checkpoint, open_checkpoint
from sqap_vla_ros.vlm.weights import Part

GOLDEN = DATA / "cogact"
_POISON = 0x7F  # 127 as int8, NaN as bfloat16 and float16, 3.4e38 as float32
_GUARD_BYTES = 4096


# Audit events of the interpreter that mean a process or a pause.
_LIVE_EVENTS = {"subprocess.Popen", "os.fork", "os.forkpty", "os.posix_spawn", "os.system", "time.sleep"}
_in_a_unit_test = False


def _forbid(*_: object, **__: object) -> None:
    raise AssertionError("a unit test starts no process, does not sleep and makes no ROS context: see test/live")


def _watch(event: str, arguments: tuple[Any, ...]) -> None:
    if _in_a_unit_test and event in _LIVE_EVENTS:
        _forbid()


sys.addaudithook(_watch)


@pytest.fixture(autouse=True)
def _nothing_live(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """No process, no pause and no ROS context during a unit test."""
    global _in_a_unit_test
    monkeypatch.setattr(multiprocessing.process.BaseProcess, "start", _forbid)
    if "rclpy" in sys.modules:
        monkeypatch.setattr(sys.modules["rclpy"].Context, "init", _forbid)
    _in_a_unit_test = True
    yield
    _in_a_unit_test = False


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> Iterator[None]:
    """What is multiplied here is so small that threads cost more than they do, many times so on a busy machine."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def golden() -> Callable[[str], Any]:
    """Content of a golden file: arrays by name, or parsed JSON; a missing file is an error."""

    def read(name: str) -> Mapping[str, NDArray[Any]] | Any:
        path = GOLDEN / name
        return dict(np.load(path)) if path.suffix == ".npz" else json.loads(path.read_text())

    return read


@pytest.fixture(scope="session")
def heads() -> dict[str, int]:
    """Numbers of heads of the golden networks, whose widths are not the published ones."""
    return {"dino_heads": 4, "siglip_heads": 4, "llm_heads": 4, "llm_kv_heads": 4, "dit_heads": 4}


@pytest.fixture(scope="session")
def golden_run() -> Path:
    """Run directory of the golden checkpoint."""
    return GOLDEN / "vla" / "run"


@pytest.fixture(scope="session")
def golden_checkpoint(golden_run: Path) -> Checkpoint:
    return open_checkpoint(golden_run)


@pytest.fixture(scope="session")
def golden_model(golden_checkpoint: Checkpoint, heads: dict[str, int]) -> CogACT:
    return load_cogact(golden_checkpoint, architecture=heads)


@pytest.fixture(scope="session")
def random_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Run directory of a tiny random checkpoint; not to be changed."""
    return write_random_checkpoint(tmp_path_factory.mktemp("random"), "tiny")


@pytest.fixture(scope="session")
def head(heads: dict[str, int], golden_run: Path) -> ActionHead:
    """The golden action head."""
    weights = load_file(golden_run.parent.parent / "dit" / "dit_weights.safetensors")
    return load_action_head(Part("action_model", weights), heads)


@pytest.fixture(scope="session")
def io(golden: Callable[[str], Any]) -> dict[str, Tensor]:
    """What the golden action head was given, and what came out; not to be changed."""
    return {name: torch.from_numpy(array) for name, array in golden("dit/dit_io.npz").items()}


@pytest.fixture
def random_model(random_run: Path) -> CogACT:
    return load_cogact(open_checkpoint(random_run))


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

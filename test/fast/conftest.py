"""Memory in which mistakes of kernels show, and small networks to fuse."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from sqap_vla_ros.cogact.checkpoint import load_cogact, open_checkpoint
from sqap_vla_ros.cogact.model import CogACT
from sqap_vla_ros.cogact.random_checkpoint import write_random_checkpoint


@pytest.fixture(scope="package", autouse=True)
def _one_thread() -> Iterator[None]:
    """What is multiplied here is so small that threads cost more than they do."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def random_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Run directory of a tiny random checkpoint; not to be changed."""
    return write_random_checkpoint(tmp_path_factory.mktemp("random"), "tiny")


@pytest.fixture
def random_model(random_run: Path) -> CogACT:
    return load_cogact(open_checkpoint(random_run))

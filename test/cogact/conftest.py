"""The golden data, and models made from it."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file
from torch import Tensor

from sqap_vla_ros.cogact.action_head import ActionHead, load_action_head
from sqap_vla_ros.cogact.checkpoint import Checkpoint, load_cogact, open_checkpoint
from sqap_vla_ros.cogact.model import CogACT
from sqap_vla_ros.cogact.random_checkpoint import write_random_checkpoint
from sqap_vla_ros.cogact.weights import Part

GOLDEN = Path(__file__).parent.parent / "data" / "cogact"


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

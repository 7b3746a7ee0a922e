"""A fused network computes what it computed before."""

from pathlib import Path

import numpy as np
import pytest
import torch
from reference_codes import rotate_quantise_in_torch

from sqap_vla_ros.config.files import named_file, read_yaml
from sqap_vla_ros.config.recipe import Recipe
from sqap_vla_ros.config.settings import validate
from sqap_vla_ros.policies.cogact.checkpoint import load_cogact
from sqap_vla_ros.policies.cogact.compressed import load_compressed
from sqap_vla_ros.policies.cogact.diffusion import Ddim, sample
from sqap_vla_ros.policies.cogact.fast.fast_head import fuse_action_head, halved_action_head
from sqap_vla_ros.policies.cogact.model import CogACT
from sqap_vla_ros.policies.cogact.store import read_manifest
from sqap_vla_ros.tools.compression.compress import compress
from sqap_vla_ros.vlm.checkpoint import open_checkpoint
from sqap_vla_ros.vlm.kernels import activations
from sqap_vla_ros.vlm.lowbit.layer import QuantDecoderLayer
from sqap_vla_ros.vlm.runtime.fuse import fuse
from sqap_vla_ros.vlm.runtime.fused_blocks import FusedDecoderLayer, FusedTowerBlock

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(torch.cuda.is_available(), reason="a GPU's kernels do not run on a CPU"),
]

IMAGE = np.random.default_rng(0).integers(0, 256, (120, 160, 3), np.uint8)
IDS = torch.tensor([[1, 5, 9, 12, 7, 29871, 2]])
NOISE = torch.randn(1, 16, 7, generator=torch.Generator().manual_seed(0))


def quantised(run: Path, directory: Path, recipe: str, **changes: object) -> CogACT:
    settings = validate(Recipe, {**read_yaml(named_file("recipes", recipe)), **changes}, recipe)
    manifest = compress(open_checkpoint(run), settings, directory)
    return load_compressed(directory, manifest, backend="triton")


def difference(model: CogACT, wanted: np.ndarray) -> float:
    found = model.plan(IMAGE, IDS, NOISE).cognition
    return float(np.linalg.norm(found - wanted) / np.linalg.norm(wanted))


def fused_blocks(model: CogACT) -> tuple[int, int]:
    towers = [*model.vision.dino.blocks, *model.vision.siglip.blocks]
    return (
        sum(isinstance(layer, FusedDecoderLayer) for layer in model.language.layers),
        sum(isinstance(block, FusedTowerBlock) for block in towers),
    )


def test_a_float_network_is_the_same_to_the_last_digits(random_run: Path) -> None:
    model = load_cogact(open_checkpoint(random_run))
    wanted = model.plan(IMAGE, IDS, NOISE).cognition
    fuse(model.language, model.vision)
    assert fused_blocks(model) == (len(model.language.layers), 2 * len(model.vision.dino.blocks))
    assert difference(model, wanted) < 1e-5


@pytest.mark.parametrize("recipe", ["w4a4", "w4a4-residual", "w4a8"])
def test_a_network_of_8_bits_stays_as_it_was(
    random_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, recipe: str
) -> None:
    monkeypatch.setattr(activations, "rotate_quantise", rotate_quantise_in_torch)
    changes = {"weights": {"bits": 8, "rounding": "nearest"}, "activations": {"bits": 8, "clip": 1.0}}
    model = quantised(random_run, tmp_path / "compressed", recipe, smoothing=None, **changes)
    settings = read_manifest(tmp_path / "compressed")
    wanted = load_compressed(tmp_path / "compressed", settings).plan(IMAGE, IDS, NOISE).cognition
    fuse(model.language, model.vision)
    assert fused_blocks(model) == (len(model.language.layers), 2 * len(model.vision.dino.blocks))
    # Rounding once where it was twice flips codes.
    assert difference(model, wanted) < 2e-2


def test_layers_that_no_kernel_computes_stay_as_they_are(random_run: Path, tmp_path: Path) -> None:
    activations = {"bits": 8, "granularity": "tensor", "clip": 1.0}
    model = quantised(random_run, tmp_path / "compressed", "rtn-w4a4", activations=activations, towers="float")
    fuse(model.language, model.vision)
    assert all(isinstance(layer, QuantDecoderLayer) for layer in model.language.layers)
    assert fused_blocks(model) == (0, 2 * len(model.vision.dino.blocks))


def test_an_action_head_in_half_precision_plans_the_same(random_run: Path) -> None:
    head, found = halved_action_head(load_cogact(open_checkpoint(random_run)).action_head)
    assert found < 1e-2
    assert head.positional_embedding.dtype == torch.float16


def test_an_action_head_that_half_precision_would_change_stays(random_run: Path) -> None:
    model = load_cogact(open_checkpoint(random_run))
    with torch.inference_mode():
        model.action_head.z_embedder.linear.weight.mul_(1e7)
    head, found = halved_action_head(model.action_head)
    assert not found < 1e-2
    assert head is model.action_head


def test_a_fused_action_head_plans_the_same(random_run: Path) -> None:
    head, _ = halved_action_head(load_cogact(open_checkpoint(random_run)).action_head)
    condition = torch.randn(1, 1, head.shape.token_size, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        wanted = sample(Ddim(2), head, NOISE, condition)
        fuse_action_head(head)
        found = sample(Ddim(2), head, NOISE, condition)
    assert (found - wanted).norm() <= 1e-2 * wanted.norm()

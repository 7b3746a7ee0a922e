"""A compressed checkpoint as a network: close to the float one, the same by every backend, and on its own."""

import json
import os
import shutil
import socket
from collections.abc import Callable, Sequence
from pathlib import Path

import huggingface_hub
import numpy as np
import pytest
import torch
from compressions import INSTRUCTION, compressed, drawn_frames, named_recipe
from numpy.typing import NDArray
from reference_product import reference_products

from sqap_vla_ros.config.recipe import Recipe
from sqap_vla_ros.config.robot import load_configuration
from sqap_vla_ros.core.observation import Observation
from sqap_vla_ros.policies.cogact.checkpoint import load_cogact
from sqap_vla_ros.policies.cogact.compressed import load_compressed
from sqap_vla_ros.policies.cogact.model import CogACT, Prediction
from sqap_vla_ros.policies.cogact.store import read_manifest
from sqap_vla_ros.policies.registry import load_policy
from sqap_vla_ros.vlm.checkpoint import open_checkpoint
from sqap_vla_ros.vlm.lowbit.hadamard import rotate
from sqap_vla_ros.vlm.lowbit.linear import QuantLinear
from sqap_vla_ros.vlm.lowbit.products import Backend, exact_on_cpu
from sqap_vla_ros.vlm.tokenizer import load_tokenizer
from sqap_vla_ros.vlm.weights import CheckpointError

pytestmark = pytest.mark.slow

# Without VNNI a CPU has no exact sums but these; beside a GPU its kernels are not interpreted, and do not run on a CPU.
BACKENDS: list[Backend] = ["float_sums"]
if not torch.cuda.is_available():
    BACKENDS += ["triton"]
if exact_on_cpu(8) == "onednn":
    BACKENDS += ["onednn"]
EIGHT_BITS = {"weights": {"bits": 8}, "activations": {"bits": 8, "clip": 1.0}}
RECIPES = {
    "w8a8": named_recipe("smoothquant-w8a8"),
    "w8a8 rotated stream": named_recipe("w4a4-residual", **EIGHT_BITS),
    "w8a8 rotated inputs": named_recipe("w4a4", **EIGHT_BITS),
    "w8a8 static": named_recipe(
        "smoothquant-w8a8", smoothing=None, activations={"bits": 8, "granularity": "channel", "clip": 1.0}
    ),
    "w4a4": named_recipe("smoothquant-w4a4"),
    "w4a4 rotated stream": named_recipe("w4a4-residual"),
    "w4a4 rotated queries": named_recipe("qk-rotation"),
    "w4a4 rotated inputs": named_recipe("w4a4"),
    "w4a8": named_recipe("smoothquant-w8a8", weights={"bits": 4, "rounding": "gptq"}),
}
IMAGES = [frame.image for frame in drawn_frames(2, seed=5).frames]
NOISE = torch.randn(2, 16, 7, generator=torch.Generator().manual_seed(0))


def plan(model: CogACT, run: Path, samples: Sequence[int] = (0, 1)) -> Prediction:
    ids = load_tokenizer(run).encode(INSTRUCTION).repeat(len(samples), 1)
    return model.plan([IMAGES[sample] for sample in samples], ids, NOISE[list(samples)])


def distance(found: NDArray[np.float32], wanted: NDArray[np.float32]) -> float:
    return float(np.linalg.norm(found - wanted) / np.linalg.norm(wanted))


@pytest.fixture(scope="module")
def run(random_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run directory whose norms have gains, and whose linear layers biases, of their own; not to be changed."""
    run = tmp_path_factory.mktemp("drawn") / "run"
    shutil.copytree(random_run, run)
    (weights,) = (run / "checkpoints").iterdir()
    content = torch.load(weights, weights_only=True)
    generator = torch.Generator().manual_seed(3)
    for tensor in (tensor for part in content["model"].values() for tensor in part.values()):
        if tensor.ndim == 1:
            tensor += 0.3 * torch.randn(tensor.shape, generator=generator)
    torch.save(content, weights)
    return run


@pytest.fixture(scope="module")
def wanted(run: Path) -> Prediction:
    """What the float network plans."""
    return plan(load_cogact(open_checkpoint(run)), run)


@pytest.fixture(scope="module")
def directory_of(run: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Compressed checkpoints by recipe, calibrated; not to be changed."""
    made: dict[str, Path] = {}

    def directory(name: str) -> Path:
        if name not in made:
            made[name] = tmp_path_factory.mktemp("compressed") / "out"
            recipe: Recipe = RECIPES[name]
            compressed(run, recipe, made[name], frames=drawn_frames())
        return made[name]

    return directory


@pytest.fixture
def directory(directory_of: Callable[[str], Path], tmp_path: Path) -> Path:
    """A copy of a compressed checkpoint, to be damaged."""
    shutil.copytree(directory_of("w8a8"), tmp_path / "copy")
    return tmp_path / "copy"


def load(directory: Path, backend: Backend = "auto", dtype: torch.dtype = torch.float32) -> CogACT:
    return load_compressed(directory, read_manifest(directory), backend=backend, dtype=dtype)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("name", [name for name in RECIPES if name.startswith("w8a8")])
def test_with_eight_bits_the_cognition_feature_is_nearly_that_of_the_float_network(
    name: str, dtype: torch.dtype, directory_of: Callable[[str], Path], wanted: Prediction
) -> None:
    directory = directory_of(name)
    found = plan(load(directory, dtype=dtype), directory)
    assert distance(found.cognition, wanted.cognition) < 0.08
    assert np.abs(found.raw_samples - wanted.raw_samples).max() < 0.1


@pytest.mark.parametrize("name", [name for name in RECIPES if name.startswith("w4")])
def test_with_four_bits_the_cognition_feature_is_still_alike(
    name: str, directory_of: Callable[[str], Path], wanted: Prediction
) -> None:
    directory = directory_of(name)
    assert distance(plan(load(directory), directory).cognition, wanted.cognition) < 0.6


def test_a_rotated_streams_hidden_states_come_out_in_the_published_basis(
    directory_of: Callable[[str], Path], run: Path
) -> None:
    directory = directory_of("w8a8 rotated stream")
    ids = load_tokenizer(run).encode(INSTRUCTION)
    visual = torch.randn(1, 256, 64, generator=torch.Generator().manual_seed(2))
    models = load_cogact(open_checkpoint(run)), load(directory)
    with torch.no_grad():
        wanted = models[0].prefill(visual, ids, all_positions=True).last_hidden
        found = models[1].prefill(rotate(visual, 64), ids, all_positions=True).last_hidden
    assert found is not None and wanted is not None and distance(found.numpy(), wanted.numpy()) < 0.2


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("name", ["w8a8 rotated inputs", "w8a8 static"])
def test_every_backend_plans_as_the_reference(name: str, backend: Backend, directory_of: Callable[[str], Path]) -> None:
    directory = directory_of(name)
    found = plan(load(directory, backend), directory, [0])
    with reference_products():
        reference = plan(load(directory), directory, [0])
    # The last bit of a sum decides a rounding now and then.
    assert distance(found.cognition, reference.cognition) < 0.015
    assert np.abs(found.raw_samples - reference.raw_samples).max() < 0.03


@pytest.mark.parametrize("name", ["w8a8", "w4a4 rotated stream", "w4a4 rotated queries"])
def test_a_batch_of_two_is_two_single_plans(name: str, directory_of: Callable[[str], Path]) -> None:
    model = load(directory_of(name))
    together = plan(model, directory_of(name))
    for sample in (0, 1):
        alone = plan(model, directory_of(name), [sample])
        assert distance(alone.cognition[0], together.cognition[sample]) < 1e-4
        np.testing.assert_allclose(alone.raw_samples[0], together.raw_samples[sample], atol=1e-4)


@pytest.mark.parametrize("name", ["w8a8", "w4a4 rotated stream"])
def test_the_same_observation_gives_the_same_bits_also_when_loaded_again(
    name: str, directory_of: Callable[[str], Path]
) -> None:
    directory = directory_of(name)
    model = load(directory)
    plans = [plan(network, directory).raw_samples.tobytes() for network in (model, model, load(directory))]
    assert len(set(plans)) == 1


def test_quantised_layers_take_a_quarter_of_the_memory_on_a_cpu(directory_of: Callable[[str], Path], run: Path) -> None:
    layers = [model.language.layers[0] for model in (load_cogact(open_checkpoint(run)), load(directory_of("w4a4")))]
    float_bytes = sum(parameter.nbytes for parameter in layers[0].parameters())
    integer_bytes = sum(part.weight_bytes for part in layers[1].modules() if isinstance(part, QuantLinear))
    # Codes of a byte; one scale per row is much where rows are 64 weights.
    assert integer_bytes < 0.3 * float_bytes


def test_the_directory_alone_plans_offline_when_the_original_is_gone(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original, alone = tmp_path / "original", tmp_path / "elsewhere" / "alone"
    shutil.copytree(run, original)
    compressed(original, RECIPES["w4a4 rotated stream"], tmp_path / "out")
    shutil.rmtree(original)
    alone.parent.mkdir()
    (tmp_path / "out").rename(alone)

    def refuse(*_: object) -> None:
        raise AssertionError("looked for the network")

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(socket.socket, "connect", refuse)
    configuration = load_configuration("libero_panda", policy="sqap", checkpoint=str(alone), device="cpu")
    policy = load_policy(configuration, lambda text: None)
    chunk = policy.plan(Observation(7, IMAGES[0], INSTRUCTION, np.eye(4), np.array([32.0, 32.0])))
    assert np.isfinite(chunk.actions).all() and len(chunk.selection.indices) == 154
    assert policy.metadata.weights == policy.metadata.recipe == "w4a4-residual (uncalibrated)"


# --- damage


def test_a_file_that_differs_from_its_hash_is_not_loaded(directory: Path) -> None:
    path = directory / "weights" / "llm_layer_01.safetensors"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0x10
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match="llm_layer_01.safetensors: not the file that was written"):
        load(directory)


def test_a_hash_that_differs_from_its_file_is_found(directory: Path) -> None:
    path = directory / "compressed.json"
    content = json.loads(path.read_text())
    content["files"]["projector"]["sha256"] = "0" * 64
    path.write_text(json.dumps(content))
    with pytest.raises(CheckpointError, match="projector.safetensors: not the file that was written"):
        load(directory)


def test_the_file_of_another_compression_is_not_loaded(directory: Path, directory_of: Callable[[str], Path]) -> None:
    name = Path("weights") / "llm_layer_02.safetensors"
    shutil.copyfile(directory_of("w8a8 static") / name, directory / name)
    with pytest.raises(CheckpointError, match="llm_layer_02.safetensors: not the file that was written"):
        load(directory)


@pytest.mark.parametrize("name", ["config.json", "dataset_statistics.json", "tokenizer.json"])
def test_another_file_beside_the_weights_is_found(name: str, directory: Path) -> None:
    with (directory / name).open("a") as file:
        file.write("\n")
    with pytest.raises(CheckpointError, match=f"{name}: missing, or not the file that was written; copy it from"):
        load(directory)
    (directory / name).unlink()
    with pytest.raises(CheckpointError, match=f"{name}: missing"):
        load(directory)


@pytest.mark.parametrize("part", ["vision_backbone", "projector", "action_model", "llm_embedding", "llm_layer_00"])
def test_a_missing_file_is_named(part: str, directory: Path) -> None:
    (directory / "weights" / f"{part}.safetensors").unlink()
    with pytest.raises(CheckpointError, match=f"{part}.safetensors: cannot be read"):
        load(directory)


def test_a_truncated_file_is_not_loaded(directory: Path) -> None:
    os.truncate(directory / "weights" / "vision_backbone.safetensors", 1000)
    with pytest.raises(CheckpointError, match="vision_backbone.safetensors: not the file that was written"):
        load(directory)

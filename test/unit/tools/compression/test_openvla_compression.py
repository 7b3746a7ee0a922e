"""Compressed OpenVLA-OFT: every recipe and every kind of head, against the golden networks."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from compressions import named_recipe
from openvla_compressions import KEY, compressed_openvla, drawn_views, family_of, trained_as, write_run
from openvla_data import HEADS

from sqap_vla_ros.config.files import ConfigurationError
from sqap_vla_ros.config.robot import ActionConvention, Configuration
from sqap_vla_ros.core.observation import Observation, View
from sqap_vla_ros.policies.openvla.build import load_openvla
from sqap_vla_ros.policies.openvla.checkpoint import open_openvla
from sqap_vla_ros.policies.openvla.compressed import load_compressed_openvla
from sqap_vla_ros.policies.openvla.denoising import Denoising
from sqap_vla_ros.policies.openvla.model import Inputs, OpenVla
from sqap_vla_ros.policies.openvla.policy import token_ids
from sqap_vla_ros.policies.openvla.store import read_openvla_manifest
from sqap_vla_ros.policies.registry import load_policy
from sqap_vla_ros.tools.compression.calibration import CalibrationError
from sqap_vla_ros.tools.compression.inspect import layer_table
from sqap_vla_ros.tools.compression.openvla_family import OpenVlaFamily
from sqap_vla_ros.tools.compression.sources import open_source, read_any_manifest
from sqap_vla_ros.vlm.checkpoint import Checkpoint
from sqap_vla_ros.vlm.tokenizer import load_tokenizer

EXACT = {"weights": {"bits": 8, "rounding": "nearest"}, "activations": {"bits": 8, "clip": 1.0}, "smoothing": None}
"""Eight bits everywhere: what is left of the transforms are their own errors."""
SIZES = {"libero_l1": (2, 8, 8, 7), "aloha_film": (3, 14, 25, 14), "aloha_diffusion": (3, 14, 25, 14)}
SIZES |= {"discrete": (1, 0, 5, 7), "openvla": (1, 0, 1, 7)}


@pytest.fixture(scope="module")
def run_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    root = tmp_path_factory.mktemp("runs")

    def find(name: str) -> Path:
        return root / name if (root / name).exists() else write_run(root / name, name)

    return find


def exact(run: Path) -> OpenVla:
    return load_openvla(open_openvla(run), decoding=trained_as(run.name).decoding, architecture=HEADS)


def loaded(run: Path, directory: Path) -> OpenVla:
    return load_compressed_openvla(directory, read_openvla_manifest(directory), open_openvla(run).image_statistics)


@torch.inference_mode()
def planned(network: OpenVla, run: Path, count: int = 2) -> np.ndarray:
    """Normalised actions, or of tokens the hidden states that they are chosen by, of some frames."""
    views, state, chunk, size = SIZES[run.name]
    ids = token_ids(load_tokenizer(run), "open the drawer")
    found = []
    for frame in range(count):
        generator = np.random.default_rng(frame)
        images = generator.integers(0, 256, (views, 14, 14, 3), np.uint8).repeat(16, 1).repeat(16, 2)
        inputs = Inputs(images, ids, generator.normal(0, 0.5, state) if state else None)
        visual = network.visual(inputs)
        if network.decoding == "parallel":
            slots = network.empty_slots(chunk * size)
            found.append(network.read(network.sequence(ids, visual, [], slots), chunk * size).numpy())
        elif network.decoding == "autoregressive":
            found.append(network.generate(inputs, visual, 1).hidden.numpy())
        else:
            noise = torch.from_numpy(generator.standard_normal((1, chunk, size), np.float32))
            options = {"noise": noise, "denoising": Denoising(2)}
            found.append(network.predict(inputs, visual, chunk, size, **options))
    return np.stack(found)


def relative_error(found: np.ndarray, expected: np.ndarray) -> float:
    return float(np.linalg.norm(found - expected) / np.linalg.norm(expected - expected.mean()))


@pytest.mark.parametrize("name", list(SIZES))
@pytest.mark.parametrize("rotation", ["none", "residual"])
def test_transforms_change_nothing_but_rounding(
    run_of: Callable[[str], Path], tmp_path: Path, name: str, rotation: str
) -> None:
    """State, slots, diffusion step, modulation and heads are in the basis of the stream, whatever it is."""
    run = run_of(name)
    manifest = compressed_openvla(run, named_recipe("w4a4", rotation=rotation, **EXACT), tmp_path / "out")
    assert manifest.shapes.language.epsilon == 1e-6
    assert manifest.shapes.language.causal == (name == "openvla")
    assert relative_error(planned(loaded(run, tmp_path / "out"), run), planned(exact(run), run)) < 0.1


@pytest.mark.slow
@pytest.mark.parametrize(
    "recipe",
    [
        "rtn-w4a4",
        "smoothquant-w8a8",
        "smoothquant-w4a4",
        "w4a4",
        "w4a4-online",
        "qk-rotation",
        "w4a4-residual",
        "w4a8",
        "w8a8",
        "qvla",
        "qvla-rotated",
        "qvla-released",
    ],
)
def test_every_recipe_compresses_it_with_calibration(
    run_of: Callable[[str], Path], tmp_path: Path, recipe: str
) -> None:
    run = run_of("libero_l1")
    manifest = compressed_openvla(run, named_recipe(recipe), tmp_path / "out", frames=drawn_views(2))
    assert not manifest.notes
    actions = planned(loaded(run, tmp_path / "out"), run)
    assert np.isfinite(actions).all() and actions.std() > 0
    limit = 0.2 if recipe == "smoothquant-w8a8" else 3.0
    assert relative_error(actions, planned(exact(run), run)) < limit


def test_a_compressed_checkpoint_is_a_policy_like_any_other(run_of: Callable[[str], Path], tmp_path: Path) -> None:
    compressed_openvla(run_of("libero_l1"), named_recipe("w4a4"), tmp_path / "out")
    settings: dict[str, Any] = {
        "checkpoint": str(tmp_path / "out"),
        "statistics_key": KEY,
        "device": "cpu",
        "torch_threads": 1,
        "action": ActionConvention(rate_hz=20.0),
    }
    policy = load_policy(Configuration(policy="openvla-oft-libero-sqap", **settings), lambda words: None)
    about = policy.metadata
    assert (about.weights, about.weight_bits, about.activation_bits, about.needs.state_size) == ("w4a4", 4, 4, 8)
    image = np.random.default_rng(0).integers(0, 256, (256, 256, 3), np.uint8)
    seen = Observation(5, image, "open", np.eye(4), further={"wrist": View(5, image)}, state=np.zeros(8))
    assert policy.plan(seen).actions.shape == (8, 7)
    assert len(policy.plan(seen).selection.indices) == 154
    with pytest.raises(ConfigurationError, match="is a checkpoint that `sqap-vla compress` made|is an OpenVLA"):
        load_policy(Configuration(policy="sqap", **settings), lambda words: None)


def test_a_checkpoint_is_compressed_for_one_way_of_decoding(run_of: Callable[[str], Path], tmp_path: Path) -> None:
    compressed_openvla(run_of("discrete"), named_recipe("rtn-w4a4"), tmp_path / "out")
    configuration = Configuration(checkpoint=str(tmp_path / "out"), policy="openvla-bridge", device="cpu")
    with pytest.raises(ConfigurationError, match="autoregressive, but .* was compressed for parallel"):
        load_policy(configuration, lambda words: None)


@pytest.mark.parametrize(
    ("frames", "sentence"),
    [
        (drawn_views(1, views=1), "has 1 camera images, the network sees 2"),
        (drawn_views(1, state=0), "no state of 8 numbers"),
    ],
)
def test_frames_without_what_the_network_sees_are_refused(
    run_of: Callable[[str], Path], tmp_path: Path, frames: Any, sentence: str
) -> None:
    with pytest.raises(CalibrationError, match=sentence):
        compressed_openvla(run_of("libero_l1"), named_recipe("w4a4"), tmp_path / "out", frames=frames)


def test_mixed_precision_needs_an_l1_head(run_of: Callable[[str], Path], tmp_path: Path) -> None:
    frames = drawn_views(1, views=1, state=0)
    with pytest.raises(CalibrationError, match="needs actions that change smoothly, from an L1 head"):
        compressed_openvla(run_of("discrete"), named_recipe("qvla"), tmp_path / "out", frames=frames)


def test_the_command_needs_to_know_how_it_was_trained(run_of: Callable[[str], Path], random_run: Path) -> None:
    with pytest.raises(ConfigurationError, match="say with --policy how it was trained"):
        open_source(str(run_of("libero_l1")))
    with pytest.raises(ConfigurationError, match="say with --policy how it was trained"):
        open_source(str(run_of("libero_l1")), "sqap")
    assert isinstance(open_source(str(run_of("libero_l1")), "openvla-oft-libero", KEY), OpenVlaFamily)
    assert isinstance(open_source(str(random_run)), Checkpoint)


def test_a_compressed_openvla_is_inspected(run_of: Callable[[str], Path], tmp_path: Path) -> None:
    written = compressed_openvla(run_of("libero_l1"), named_recipe("rtn-w4a4"), tmp_path / "out")
    assert read_any_manifest(tmp_path / "out") == written
    assert layer_table(written).row_count == len(written.linears)


@pytest.mark.slow
def test_a_stopped_compression_goes_on(run_of: Callable[[str], Path], tmp_path: Path) -> None:
    from compressions import Stopped, hashes, stop_before

    run, recipe, frames = run_of("libero_l1"), named_recipe("w4a4"), drawn_views(1)
    with pytest.raises(Stopped):
        compressed_openvla(run, recipe, tmp_path / "a", frames=frames, on_step=stop_before(6))
    compressed_openvla(run, recipe, tmp_path / "a", frames=frames)
    compressed_openvla(run, recipe, tmp_path / "b", frames=frames)
    assert hashes(tmp_path / "a") == hashes(tmp_path / "b")


@pytest.mark.slow
def test_sensitivities_are_those_of_the_actions(run_of: Callable[[str], Path], tmp_path: Path) -> None:
    """First-order estimates through the L1 head rank channels as the measured changes of the actions do."""
    from sqap_vla_ros.tools.compression.observed_layer import ObservedLayer
    from sqap_vla_ros.tools.compression.sensitivity import channel_sensitivities
    from sqap_vla_ros.vlm.layers import full_attention, run_layers
    from sqap_vla_ros.vlm.lowbit.layer import LINEARS, NORMS
    from sqap_vla_ros.vlm.lowbit.transform import prepare
    from sqap_vla_ros.vlm.lowbit.weight import mixed_weight
    from sqap_vla_ros.vlm.weights import Source

    run, recipe, frames = run_of("libero_l1"), named_recipe("qvla"), drawn_views(4)
    family = family_of(run)
    manifest = compressed_openvla(run, recipe, tmp_path / "out", frames=frames)
    embeddings = family.embed(tmp_path / "out", manifest, frames, torch.device("cpu"))
    shape, plan = family.shapes.language, family.plan(frames, torch.device("cpu"))

    def read(index: int) -> Any:
        take = {
            n: family.language.take(Source(f"llm.model.layers.{index}.{n}.weight"), torch.float32, "cpu")
            for n in (*LINEARS, *NORMS)
        }
        return prepare({n: take[n] for n in LINEARS}, {n: take[n] for n in NORMS}, recipe, head_width=shape.head_width)

    layers = [read(index) for index in range(shape.depth)]

    @torch.no_grad()
    def actions(changed: dict[tuple[int, str], torch.Tensor]) -> torch.Tensor:
        observed = []
        for index, layer in enumerate(layers):
            weights = {name: changed.get((index, name), weight) for name, weight in layer.weights.items()}
            from dataclasses import replace

            observed.append(ObservedLayer(replace(layer, weights=weights), lambda *_: None, epsilon=shape.epsilon))
        return torch.stack(
            [
                plan(frame, run_layers(observed, hidden, shape.head_width, attention=full_attention))
                for frame, hidden in enumerate(embeddings)
            ]
        )

    costs = channel_sensitivities(layers.__getitem__, plan, embeddings, shape)
    before, estimated, measured = actions({}), [], []
    for index, name in ((0, "self_attn.v_proj"), (1, "mlp.down_proj"), (2, "self_attn.o_proj")):
        weight = layers[index].weights[name]
        for row in range(len(weight)):
            bits = torch.full((len(weight),), 16, dtype=torch.uint8)
            bits[row] = 4
            rounded = weight.clone()
            rounded[row] = mixed_weight(weight, bits).dequantised()[row]
            measured.append(float((actions({(index, name): rounded}) - before).square().sum((1, 2, 3)).mean()))
            estimated.append(float(costs[index, name].costs[row, 2]))
    ranks = [np.argsort(np.argsort(values)) for values in (estimated, measured)]
    assert np.corrcoef(*ranks)[0, 1] > 0.85

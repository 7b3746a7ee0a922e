"""What a compression refuses, before it has touched anything."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest
import torch
from compressions import Stopped, compressed, drawn_frames, hashes, named_recipe, stop_before
from small_compressions import FRAMES, FULL, NEAREST

from sqap_vla_ros.testing.random_checkpoint import write_random_checkpoint
from sqap_vla_ros.tools.compression.compress import CompressionError
from sqap_vla_ros.vlm.checkpoint import open_checkpoint
from sqap_vla_ros.vlm.tokenizer import TokenizerError
from sqap_vla_ros.vlm.weights import CheckpointError


def damaged_run(run: Path, directory: Path, part: str, name: str, value: float) -> Path:
    """A copy of a run directory with one number of one tensor replaced."""
    shutil.copytree(run, directory)
    weights = directory / "checkpoints" / "random-cogact.pt"
    content = torch.load(weights, weights_only=True)
    content["model"][part][name].view(-1)[-1] = value
    torch.save(content, weights)
    return directory


# --- what is refused


@pytest.mark.parametrize(
    ("options", "what"),
    [
        ({"recipe": named_recipe("smoothquant-w4a4", smoothing=None)}, "another recipe"),
        ({"frames": FRAMES}, "another calibration"),
        ({"seed": 1}, "another checkpoint"),
    ],
    ids=["recipe", "calibration", "checkpoint"],
)
def test_an_unfinished_run_of_something_else_is_left_as_it_is(
    options: dict[str, Any], what: str, begun: Path, random_run: Path, whole: Path, tmp_path: Path
) -> None:
    before = hashes(begun), (begun / "unfinished.json").read_bytes()
    run = write_random_checkpoint(tmp_path / "other", "tiny", options["seed"]) if "seed" in options else random_run
    with pytest.raises(CompressionError, match=f"unfinished compression with {what}.*; remove it or choose another"):
        compressed(run, options.get("recipe", NEAREST), begun, frames=options.get("frames"))
    assert (hashes(begun), (begun / "unfinished.json").read_bytes()) == before
    compressed(random_run, NEAREST, begun)
    assert hashes(begun) == hashes(whole)


@pytest.mark.parametrize("name", ["config.json", "dataset_statistics.json", "tokenizer.json"])
def test_an_unfinished_run_with_another_file_beside_the_weights_is_left_as_it_is(
    name: str, begun: Path, random_run: Path, tmp_path: Path
) -> None:
    shutil.copytree(random_run, tmp_path / "run")
    with (tmp_path / "run" / name).open("a") as file:
        file.write("\n")
    before = hashes(begun)
    with pytest.raises(CompressionError, match="with another configuration, statistics or tokenizer"):
        compressed(tmp_path / "run", NEAREST, begun)
    assert hashes(begun) == before


def test_frames_other_than_those_it_began_with_are_refused(random_run: Path, tmp_path: Path) -> None:
    with pytest.raises(Stopped):
        compressed(random_run, FULL, tmp_path / "out", frames=FRAMES, on_step=stop_before(1))
    with pytest.raises(CompressionError, match="unfinished compression with another calibration"):
        compressed(random_run, FULL, tmp_path / "out", frames=drawn_frames(1, seed=1))


def test_a_complete_compression_is_not_overwritten(random_run: Path, whole: Path) -> None:
    before = hashes(whole)
    with pytest.raises(CompressionError, match="holds a complete compressed checkpoint; choose another directory"):
        compressed(random_run, NEAREST, whole)
    assert hashes(whole) == before


@pytest.mark.parametrize("name", ["notes.txt", "config.json", "weights/model.safetensors"])
def test_a_foreign_directory_is_refused_and_not_touched(name: str, random_run: Path, tmp_path: Path) -> None:
    (tmp_path / "out" / name).parent.mkdir(parents=True)
    (tmp_path / "out" / name).write_text("mine")
    with pytest.raises(CompressionError, match="out: not empty, and not an unfinished compression; choose another"):
        compressed(random_run, NEAREST, tmp_path / "out")
    assert [path.name for path in (tmp_path / "out").rglob("*") if path.is_file()] == [Path(name).name]
    assert (tmp_path / "out" / name).read_text() == "mine"


def test_a_file_is_no_directory_to_compress_into(random_run: Path, tmp_path: Path) -> None:
    (tmp_path / "out").write_text("mine")
    with pytest.raises(CompressionError, match="out: not empty, and not an unfinished compression"):
        compressed(random_run, NEAREST, tmp_path / "out")


def test_an_empty_directory_will_do(random_run: Path, whole: Path, tmp_path: Path) -> None:
    compressed(random_run, NEAREST, tmp_path)
    assert hashes(tmp_path) == hashes(whole)


def test_a_compressed_checkpoint_is_not_compressed_again(whole: Path, tmp_path: Path) -> None:
    with pytest.raises(CompressionError, match="is compressed already; give the original checkpoint"):
        compressed(whole, NEAREST, tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("part", "name", "done"),
    [
        ("vision_backbone", "dino_featurizer.blocks.0.attn.qkv.weight", 0),
        ("vision_backbone", "siglip_featurizer.pos_embed", 0),
        ("projector", "projector.2.weight", 1),
        ("llm_backbone", "llm.model.embed_tokens.weight", 2),
        ("action_model", "net.final_layer.linear.weight", 3),
        ("llm_backbone", "llm.model.layers.1.mlp.up_proj.weight", 5),
        ("llm_backbone", "llm.model.layers.2.input_layernorm.weight", 6),
    ],
)
@pytest.mark.parametrize("value", [float("nan"), float("-inf")])
def test_a_weight_that_is_no_number_is_named_and_what_is_done_stays(
    part: str, name: str, done: int, value: float, random_run: Path, tmp_path: Path
) -> None:
    run, out = damaged_run(random_run, tmp_path / "run", part, name, value), tmp_path / "out"
    sentence = f"random-cogact.pt: {part}: '{name}' has NaN or infinite values"
    with pytest.raises(CheckpointError, match=sentence):
        compressed(run, NEAREST, out)
    assert len(list(out.glob("weights/*"))) == done
    with pytest.raises(CheckpointError, match="unfinished"):
        open_checkpoint(out)


def test_a_checkpoint_of_other_shapes_is_refused_before_anything_is_written(random_run: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(random_run, run)
    weights = run / "checkpoints" / "random-cogact.pt"
    content = torch.load(weights, weights_only=True)
    del content["model"]["llm_backbone"]["llm.model.layers.1.mlp.up_proj.weight"]
    torch.save(content, weights)
    with pytest.raises(
        CheckpointError, match="random-cogact.pt: llm_backbone: 'llm.model.layers.1.mlp.up_proj.weight'"
    ):
        compressed(run, NEAREST, tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.fixture
def run_without_tokenizer(random_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    shutil.copytree(random_run, tmp_path / "run")
    (tmp_path / "run" / "tokenizer.json").unlink()
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    return tmp_path / "run"


def test_without_a_tokenizer_nothing_is_begun(run_without_tokenizer: Path, tmp_path: Path) -> None:
    with pytest.raises(TokenizerError, match="no tokenizer.json in .*pass its directory with --tokenizer DIR"):
        compressed(run_without_tokenizer, NEAREST, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_tokenizer_from_elsewhere_is_copied(
    run_without_tokenizer: Path, random_run: Path, whole: Path, tmp_path: Path
) -> None:
    compressed(run_without_tokenizer, NEAREST, tmp_path / "out", tokenizer=random_run)
    assert hashes(tmp_path / "out") == hashes(whole)


@pytest.mark.parametrize(
    ("change", "what"),
    [
        (lambda: named_recipe("qvla"), "recipe qvla: mixed precision needs camera frames; give --calibration"),
        (
            lambda: named_recipe("smoothquant-w8a8", activations={"bits": 8, "granularity": "channel"}),
            "a static scale per channel needs camera frames",
        ),
    ],
    ids=["mixed precision", "static scales"],
)
def test_a_recipe_that_needs_frames_is_refused_without(
    change: Callable[[], Any], what: str, random_run: Path, tmp_path: Path
) -> None:
    with pytest.raises(CompressionError, match=what):
        compressed(random_run, change(), tmp_path / "out")
    assert not (tmp_path / "out").exists()

"""Compressing: a run that stops goes on to the same bytes, and what cannot be done loses nothing."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest
import torch
from compressions import Stopped, compressed, drawn_frames, hashes, named_recipe, stop_before
from file_size_limit import largest_file

from sqap_vla_ros.policies.cogact.store import read_manifest
from sqap_vla_ros.testing.random_checkpoint import write_random_checkpoint
from sqap_vla_ros.tools.compression.compress import CompressionError
from sqap_vla_ros.tools.compression.run import Step
from sqap_vla_ros.vlm.checkpoint import open_checkpoint
from sqap_vla_ros.vlm.tokenizer import TokenizerError
from sqap_vla_ros.vlm.weights import CheckpointError

NEAREST = named_recipe("smoothquant-w8a8", smoothing=None)
FULL = named_recipe("w4a4")
STEPS = 4 + 3  # towers, projector, embedding and head; then the layers
FRAMES = drawn_frames(1)


@pytest.fixture(scope="module")
def whole(random_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A compression to nearest that was never stopped; not to be changed."""
    directory = tmp_path_factory.mktemp("whole") / "out"
    compressed(random_run, NEAREST, directory)
    return directory


@pytest.fixture
def begun(random_run: Path, tmp_path: Path) -> Path:
    """A compression to nearest that was stopped before its second layer."""
    directory = tmp_path / "begun"
    with pytest.raises(Stopped):
        compressed(random_run, NEAREST, directory, on_step=stop_before(5))
    return directory


def damaged_run(run: Path, directory: Path, part: str, name: str, value: float) -> Path:
    """A copy of a run directory with one number of one tensor replaced."""
    shutil.copytree(run, directory)
    weights = directory / "checkpoints" / "random-cogact.pt"
    content = torch.load(weights, weights_only=True)
    content["model"][part][name].view(-1)[-1] = value
    torch.save(content, weights)
    return directory


# --- what comes out


def test_it_is_complete_in_itself(whole: Path, random_run: Path) -> None:
    parts = ["vision_backbone", "projector", "llm_embedding", "action_model", *(f"llm_layer_0{i}" for i in range(3))]
    weights = {f"weights/{name}.safetensors" for name in parts}
    beside = {"config.json", "dataset_statistics.json", "tokenizer.json"}
    assert hashes(whole).keys() == weights | beside
    assert {path.name for path in whole.iterdir()} == beside | {"weights", "compressed.json"}
    assert all(hashes(whole)[name] == hashes(random_run)[name] for name in beside)


def test_the_json_says_what_was_made_of_what(whole: Path, random_run: Path) -> None:
    manifest = read_manifest(whole)
    assert manifest.identity.recipe == NEAREST and manifest.identity.calibration is None
    assert manifest.identity.source.sha256 == open_checkpoint(random_run).sha256()
    files = hashes(whole)
    assert all(files[f"weights/{name}.safetensors"] == entry.sha256 for name, entry in manifest.files.items())
    assert manifest.nbytes == sum(path.stat().st_size for path in whole.glob("weights/*"))


def test_every_linear_layer_of_the_language_model_and_the_towers_blocks_is_quantised(whole: Path) -> None:
    names = read_manifest(whole).linears.keys()
    assert sum(name.startswith("llm.model.layers.") for name in names) == 3 * 7
    # Of each tower's two blocks the last is not needed.
    assert sum("featurizer.blocks.0." in name for name in names) == 2 * 4 and len(names) == 3 * 7 + 2 * 4


def test_with_float_towers_only_the_language_model_is_quantised(random_run: Path, tmp_path: Path) -> None:
    manifest = compressed(random_run, NEAREST.model_copy(update={"towers": "float"}), tmp_path / "out")
    assert len(manifest.linears) == 3 * 7


def test_a_layer_of_four_bits_takes_half_a_byte_per_weight_and_its_scales(random_run: Path, tmp_path: Path) -> None:
    manifest = compressed(random_run, FULL, tmp_path / "out")
    linears = [entry for name, entry in manifest.linears.items() if name.startswith("llm.model.layers.1.")]
    codes = sum(entry.rows * entry.columns // 2 + 4 * entry.rows for entry in linears)
    # Besides there is the file's header.
    assert codes < manifest.files["llm_layer_01"].nbytes < codes + 2500


def test_two_compressions_are_the_same_bytes(random_run: Path, whole: Path, tmp_path: Path) -> None:
    compressed(random_run, NEAREST, tmp_path / "again")
    assert hashes(tmp_path / "again") == hashes(whole)


def test_frames_are_named_in_the_json_and_every_layer_has_an_output_error(random_run: Path, tmp_path: Path) -> None:
    manifest = compressed(random_run, FULL, tmp_path / "out", frames=FRAMES)
    calibration = manifest.identity.calibration
    assert calibration is not None and (calibration.sources, calibration.frames) == (("noise 0",), 1)
    assert calibration.sha256 == FRAMES.sha256
    layers = [entry for name, entry in manifest.linears.items() if name.startswith("llm.")]
    assert all(entry.output_error is not None and 0 < entry.output_error < 0.3 for entry in layers)
    assert manifest.notes == ()


@pytest.mark.parametrize(
    ("recipe", "note"),
    [
        (FULL, ("no calibration frames: weights are rounded to nearest in place of GPTQ and nothing is smoothed",)),
        (named_recipe("smoothquant-w8a8"), ("no calibration frames: nothing is smoothed",)),
        (NEAREST, ()),
    ],
    ids=lambda value: getattr(value, "name", ""),
)
def test_what_is_left_out_without_frames_is_noted(
    recipe: Any, note: tuple[str, ...], random_run: Path, tmp_path: Path
) -> None:
    told: list[str] = []
    manifest = compressed(random_run, recipe, tmp_path / "out", on_note=told.append)
    assert manifest.notes == note and told == ["hashing random-cogact.pt", *note]


def test_steps_are_counted_to_the_end(random_run: Path, tmp_path: Path) -> None:
    steps: list[Step] = []
    compressed(random_run, NEAREST, tmp_path / "out", on_step=steps.append)
    assert [(step.done, step.total) for step in steps] == [(done, STEPS) for done in range(STEPS + 1)]
    assert steps[0].name == "vision_backbone" and steps[-1].name == ""
    assert not any(step.resumed for step in steps)


# --- stopping and going on


@pytest.mark.parametrize("index", range(STEPS))
def test_a_run_that_was_stopped_goes_on_to_the_same_bytes(
    index: int, random_run: Path, whole: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    with pytest.raises(Stopped):
        compressed(random_run, NEAREST, out, on_step=stop_before(index))
    with pytest.raises(CheckpointError, match="unfinished; run the same `sqap-vla compress` again"):
        open_checkpoint(out)
    done = hashes(out)
    steps: list[Step] = []
    manifest = compressed(random_run, NEAREST, out, on_step=steps.append)
    assert [step.resumed for step in steps] == [True] * index + [False] * (STEPS + 1 - index)
    assert hashes(out) == hashes(whole) and done.items() <= hashes(out).items()
    assert manifest == read_manifest(whole) == read_manifest(out)


def test_a_run_with_frames_that_was_stopped_before_every_step_comes_to_the_same_bytes(
    random_run: Path, tmp_path: Path
) -> None:
    straight, stopped = tmp_path / "straight", tmp_path / "stopped"
    wanted = compressed(random_run, FULL, straight, frames=FRAMES)
    for index in range(STEPS + 1):  # embedding the frames is a step too
        with pytest.raises(Stopped):
            compressed(random_run, FULL, stopped, frames=FRAMES, on_step=stop_before(index))
    manifest = compressed(random_run, FULL, stopped, frames=FRAMES)
    assert hashes(stopped) == hashes(straight)
    assert manifest == wanted


def test_what_a_killed_run_left_half_written_is_written_again(begun: Path, random_run: Path, whole: Path) -> None:
    for name in ("unfinished.json.part", "compressed.json.part", "weights/llm_layer_01.safetensors.part"):
        (begun / name).write_bytes(b"half of it")
    (begun / "tokenizer.json").write_bytes(b"half of it")
    compressed(random_run, NEAREST, begun)
    assert hashes(begun) == hashes(whole)


@pytest.mark.parametrize("size", [100, 100_000, 2_000_000], ids=["nothing fits", "some fit", "most fit"])
def test_a_full_disk_leaves_what_is_done_and_the_run_goes_on_to_the_same_bytes(
    size: int, random_run: Path, whole: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    with largest_file(size), pytest.raises(CompressionError, match="GiB free in .* What is done stays: make room"):
        compressed(random_run, NEAREST, out)
    assert not list(out.rglob("*.part")) and not (out / "compressed.json").exists()
    with pytest.raises(CheckpointError):
        open_checkpoint(out)
    done = hashes(out)
    compressed(random_run, NEAREST, out)
    assert hashes(out) == hashes(whole)
    assert all(hashes(out)[name] == found for name, found in done.items() if name.startswith("weights/"))


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

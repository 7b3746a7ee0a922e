"""Compressing: a run that stops goes on to the same bytes, and what cannot be done loses nothing."""

import re
from pathlib import Path
from typing import Any

import pytest
from compressions import Stopped, compressed, hashes, named_recipe, stop_before
from file_size_limit import largest_file
from small_compressions import FRAMES, FULL, NEAREST

from sqap_vla_ros.policies.cogact.store import read_manifest
from sqap_vla_ros.tools.compression.compress import CompressionError
from sqap_vla_ros.tools.compression.run import Step
from sqap_vla_ros.vlm.checkpoint import open_checkpoint
from sqap_vla_ros.vlm.weights import CheckpointError

STEPS = 4 + 3  # towers, projector, embedding and head; then the layers


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
        (FULL, "weights are rounded to nearest in place of GPTQ and nothing is smoothed; .* 171 in place of 55, .*"),
        (
            named_recipe("w4a8"),
            "weights are rounded to nearest .*; on a trained language model .* give --calibration .*",
        ),
        (named_recipe("smoothquant-w8a8"), "nothing is smoothed"),
        (NEAREST, None),
    ],
    ids=lambda value: getattr(value, "name", ""),
)
def test_what_is_left_out_without_frames_is_a_warning_that_says_what_it_costs(
    recipe: Any, note: str | None, random_run: Path, tmp_path: Path
) -> None:
    told: list[str] = []
    manifest = compressed(random_run, recipe, tmp_path / "out", on_note=told.append)
    assert told == ["hashing random-cogact.pt", *(f"warning: {line}" for line in manifest.notes)]
    assert len(manifest.notes) == (note is not None)
    assert all(re.fullmatch(f"no calibration frames: {note}", line) for line in manifest.notes)


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

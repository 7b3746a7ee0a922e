"""Reports on the smallest random checkpoint, and measures whose value is known by construction."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from sqap_vla_ros.config.pruning import SqapConfig
from sqap_vla_ros.config.recipe import Recipe
from sqap_vla_ros.config.robot import Configuration
from sqap_vla_ros.policies.cogact.checkpoint import load_cogact
from sqap_vla_ros.policies.cogact.store import read_manifest
from sqap_vla_ros.policies.registry import load_policy
from sqap_vla_ros.testing.random_checkpoint import write_random_checkpoint
from sqap_vla_ros.tools.compression.agreement import TOP_K, compare, kept_overlap, relative_error, topk_overlaps
from sqap_vla_ros.tools.compression.calibration import CalibrationFrame, CalibrationFrames
from sqap_vla_ros.tools.compression.compress import compress
from sqap_vla_ros.tools.compression.fidelity import FidelityError, FidelityReport, ask, report, same_frames
from sqap_vla_ros.tools.compression.fidelity_report import fidelity_table, write_json, write_plot
from sqap_vla_ros.vlm.checkpoint import Checkpoint, open_checkpoint
from sqap_vla_ros.vlm.tokenizer import load_tokenizer

NO_RING = np.zeros(0, np.int64)
EIGHT = Recipe(name="eight", weights={"bits": 8, "rounding": "nearest"}, activations={"bits": 8})
FOUR = Recipe(name="four", weights={"bits": 4, "rounding": "nearest"}, activations={"bits": 4})


def make_frames(seed: int, count: int = 2) -> CalibrationFrames:
    images = np.random.default_rng(seed).integers(0, 256, (count, 224, 224, 3), np.uint8)
    return CalibrationFrames(
        (f"noise {seed}",), tuple(CalibrationFrame(image, "turn on the stove") for image in images)
    )


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Checkpoint:
    return open_checkpoint(write_random_checkpoint(tmp_path_factory.mktemp("original"), "tiny"))


@pytest.fixture(scope="module")
def compressed(original: Checkpoint, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """In eight and in four bits, calibrated on the frames of seed 0."""
    directories = []
    for recipe in (EIGHT, FOUR):
        directories.append(tmp_path_factory.mktemp(recipe.name) / "out")
        compress(original, recipe, directories[-1], frames=make_frames(0))
    return directories


@pytest.fixture(scope="module")
def found(original: Checkpoint, compressed: list[Path]) -> FidelityReport:
    return report(original, compressed, make_frames(1))


def test_the_relative_error_is_the_differences_norm_over_the_exact_one():
    assert relative_error(np.array([3.0, 4.0]), np.array([3.0, 5.0])) == pytest.approx(0.2)


def test_nothing_is_an_exact_answer_to_nothing():
    assert relative_error(np.zeros(3), np.zeros(3)) == 0


def test_opposite_rankings_share_none_of_their_highest():
    scores = np.arange(256.0)
    assert topk_overlaps([scores], [-scores]) == dict.fromkeys(TOP_K, 0.0)


def test_one_exchanged_token_costs_one_kth():
    scores = np.arange(256.0)[::-1].copy()
    other = scores.copy()
    other[[7, 200]] = other[[200, 7]]  # the eighth leaves every one of the top lists
    assert topk_overlaps([scores], [other]) == {k: 1 - 1 / k for k in TOP_K}


def test_overlaps_are_means_over_frames():
    scores = np.arange(256.0)
    assert topk_overlaps([scores, scores], [scores, -scores])[8] == 0.5


def test_equal_scores_are_ranked_alike_by_both():
    assert topk_overlaps([np.zeros(256)], [np.ones(256)])[8] == 1


@given(st.integers(0, 2**32 - 1))
def test_overlap_does_not_say_who_is_right(seed):
    one, other = np.random.default_rng(seed).standard_normal((2, 256))
    assert topk_overlaps([one], [other]) == topk_overlaps([other], [one])


def test_the_same_scores_keep_the_same_tokens():
    scores = np.random.default_rng(0).random(256)
    assert kept_overlap([scores], [2 * scores], [NO_RING], SqapConfig()) == 1


def test_without_attention_the_scores_do_not_matter():
    scores = np.random.default_rng(0).random(256)
    assert kept_overlap([scores], [-scores], [NO_RING], SqapConfig(attention_fraction=0)) == 1


def test_almost_by_attention_alone_opposite_rankings_keep_opposite_halves():
    scores = np.arange(256.0)
    by_attention = SqapConfig(ratio=0.5, attention_fraction=127 / 128, ring_radius=0)
    assert kept_overlap([scores], [-scores], [NO_RING], by_attention) <= 2 / 128


def test_a_model_is_exact_beside_itself(original):
    model, prompts = load_cogact(original), load_tokenizer(original.directory)
    frames = make_frames(1).frames
    first, again = (ask(model, prompts, frames, SqapConfig()) for _ in range(2))
    same = compare("same", first, again, frames, SqapConfig(), {})
    assert (same.cognition_error, same.action_error, same.kept_overlap) == (0, 0, 1)
    assert same.topk_overlap == dict.fromkeys(TOP_K, 1.0)


def test_eight_bits_are_nearer_to_float_than_four(found):
    eight, four = found.models
    assert 0 < eight.cognition_error < four.cognition_error
    assert 0 < eight.action_error < four.action_error
    assert max(eight.layer_errors.values()) < min(four.layer_errors.values())


def test_each_linear_layer_of_the_language_model_has_its_error(found):
    assert len(found.models[0].layer_errors) == 3 * 7
    assert "2.mlp.down_proj" in found.models[0].layer_errors


def test_shuffled_scores_agree_on_the_ring_and_little_else(found):
    assert 0 < found.shuffled_topk_overlap[64] < 0.5
    assert found.shuffled_kept_overlap < 1


def test_models_are_named_by_recipe(found):
    assert [model.name for model in found.models] == ["eight", "four"]


def test_models_of_one_recipe_are_named_by_directory(original, compressed, tmp_path):
    (tmp_path / "again").symlink_to(compressed[0])
    both = [compressed[0], tmp_path / "again"]
    assert [model.name for model in report(original, both, make_frames(1, 1)).models] == [str(path) for path in both]


def test_asking_the_calibration_frames_is_noted(original, compressed, found):
    assert not any("these very frames" in note for note in found.notes)
    notes = report(original, compressed[:1], make_frames(0)).notes
    assert any("these very frames" in note for note in notes)


def test_a_compression_of_other_weights_is_refused(original, compressed, tmp_path):
    other = open_checkpoint(write_random_checkpoint(tmp_path / "other", "tiny", seed=1))
    with pytest.raises(FidelityError, match=r"was compressed from random-cogact.pt with SHA-256 .*but .*other"):
        report(other, compressed, make_frames(1))


def test_a_compressed_checkpoint_is_no_reference(compressed):
    with pytest.raises(FidelityError, match="is compressed; give the float checkpoint first"):
        report(open_checkpoint(compressed[0]), compressed, make_frames(1))


def test_nothing_to_compare_is_refused(original):
    with pytest.raises(FidelityError, match="at least one directory"):
        report(original, [], make_frames(1))


def test_the_table_has_a_row_per_model_and_one_for_chance(found):
    console = Console(record=True, width=200)
    console.print(fidelity_table(found))
    text = console.export_text()
    assert all(name in text for name in ("eight", "four", "shuffled scores"))


def test_the_json_holds_every_figure(found, tmp_path):
    write_json(found, tmp_path / "report.json")
    models = json.loads((tmp_path / "report.json").read_text())["models"]
    assert models[1]["layer_errors"] == found.models[1].layer_errors
    assert models[1]["topk_overlap"]["32"] == found.models[1].topk_overlap[32]


def test_the_plot_is_a_picture_also_without_layer_errors(found, tmp_path):
    bare = replace(found, models=(*found.models, replace(found.models[0], name="bare", layer_errors={})))
    write_plot(bare, tmp_path / "report.png")
    assert (tmp_path / "report.png").read_bytes().startswith(b"\x89PNG")


def test_frames_of_the_calibration_are_named_before_they_judge(compressed: list[Path]) -> None:
    manifests = {path: read_manifest(path) for path in compressed}
    (note, _) = same_frames(make_frames(0), manifests)
    assert "was calibrated on frames of noise 0: it fits them better" in note
    assert "the same content" in same_frames(replace(make_frames(0), sources=("copy",)), manifests)[0]
    assert same_frames(make_frames(1), manifests) == []


def test_a_compression_without_frames_is_called_uncalibrated(original: Checkpoint, tmp_path: Path) -> None:
    recipe = Recipe(name="mine", weights={"bits": 8, "rounding": "gptq"}, activations={"bits": 8})
    without, with_frames = tmp_path / "without", tmp_path / "with"
    for directory, frames in ((without, None), (with_frames, make_frames(0))):
        compress(original, recipe, directory, frames=frames)
    compress(original, EIGHT, tmp_path / "nothing to calibrate")
    found = report(original, [without, with_frames, tmp_path / "nothing to calibrate"], make_frames(1))
    assert [model.name for model in found.models] == ["mine (uncalibrated)", "mine", "eight"]
    configuration = Configuration(checkpoint=str(without), policy="dense", device="cpu", torch_threads=1)
    assert load_policy(configuration, lambda words: None).metadata.weights == "mine (uncalibrated)"

"""Mixed precision from a checkpoint to a plan."""

from pathlib import Path

import numpy as np
import pytest
import torch
from compressions import INSTRUCTION, Stopped, compressed, drawn_frames, hashes, named_recipe, stop_before
from hypothesis import given
from hypothesis import strategies as st
from reference_product import reference_products

from sqap_vla_ros.policies.cogact.checkpoint import load_cogact
from sqap_vla_ros.policies.cogact.compressed import load_compressed
from sqap_vla_ros.policies.cogact.model import CogACT, Prediction
from sqap_vla_ros.policies.cogact.store import read_manifest
from sqap_vla_ros.tools.compression.run import Step
from sqap_vla_ros.vlm.checkpoint import open_checkpoint
from sqap_vla_ros.vlm.lowbit.integers import absmax_scales
from sqap_vla_ros.vlm.lowbit.products import Backend, exact_on_cpu
from sqap_vla_ros.vlm.lowbit.store import read_weights
from sqap_vla_ros.vlm.lowbit.weight import CHANNEL_BITS, mixed_weight
from sqap_vla_ros.vlm.tokenizer import load_tokenizer
from sqap_vla_ros.vlm.weights import CheckpointError

FRAMES = drawn_frames(2)
BACKENDS: tuple[Backend, ...] = ("onednn", "float_sums") if exact_on_cpu(8) == "onednn" else ("float_sums",)
STEPS = 4 + 3 * 3  # towers, projector, embedding and head; three times through the layers
BITS_CHOSEN = 4 + 2 + 2 * 3  # calls before the first layer is rounded: frames and bits have one each more


def plan(model: CogACT, run: Path) -> Prediction:
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(1, 16, 7, generator=generator)
    return model.plan(drawn_frames(1, seed=5).frames[0].image, load_tokenizer(run).encode(INSTRUCTION), noise)


def apart(one: Prediction, other: Prediction) -> float:
    """Relative distance of the cognition features."""
    return float(np.linalg.norm(one.cognition - other.cognition) / np.linalg.norm(other.cognition))


@pytest.fixture(scope="module", params=["qvla", "qvla-rotated"])
def mixed(request: pytest.FixtureRequest, random_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A compression; not to be changed."""
    directory = tmp_path_factory.mktemp(request.param) / "out"
    compressed(random_run, named_recipe(request.param), directory, frames=FRAMES)
    return directory


def channel_bits(directory: Path) -> dict[str, torch.Tensor]:
    return read_weights(directory, "channel_bits", read_manifest(directory).files["channel_bits"])


# --- one weight


@given(st.integers(0, 2**32 - 1), st.lists(st.sampled_from(CHANNEL_BITS), min_size=1, max_size=12))
def test_each_row_errs_by_half_a_step_of_its_own_width(seed: int, bits: list[int]) -> None:
    weight = torch.randn(len(bits), 8, generator=torch.Generator().manual_seed(seed))
    rounded = mixed_weight(weight, torch.tensor(bits, dtype=torch.uint8)).dequantised()
    for row, found, width in zip(weight, rounded, bits, strict=True):
        if width == 0:
            assert (found == 0).all()
        elif width == 16:
            assert torch.equal(found, row.bfloat16().float())
        else:
            assert ((found - row).abs() <= absmax_scales(row[None], width) * 0.5001).all()


# --- a checkpoint


def test_the_mean_of_all_weights_comes_just_below_the_target(mixed: Path) -> None:
    linears = read_manifest(mixed).linears
    found = channel_bits(mixed)
    weights = sum(len(bits) * linears[name].columns for name, bits in found.items())
    total = sum(int(bits.sum()) * linears[name].columns for name, bits in found.items())
    assert 0.99 * 4 < total / weights <= 4


def test_rows_are_stored_in_the_widths_that_were_chosen(mixed: Path) -> None:
    linears, found = read_manifest(mixed).linears, channel_bits(mixed)
    assert {name for name in linears if name.startswith("llm.")} == set(found)
    for name, bits in found.items():
        # Two bits are kept in four.
        assert linears[name].bits == pytest.approx(float(torch.where(bits == 2, 4, bits).float().mean()))


def test_more_than_one_width_is_used(mixed: Path) -> None:
    assert len(torch.cat(list(channel_bits(mixed).values())).unique()) > 2


def test_backends_agree_on_the_plan(mixed: Path, random_run: Path) -> None:
    manifest = read_manifest(mixed)
    with reference_products():
        plans = [plan(load_compressed(mixed, manifest), random_run)]
    plans += [plan(load_compressed(mixed, manifest, backend=backend), random_run) for backend in BACKENDS]
    # An input halfway between two codes may fall to either side.
    assert all(apart(other, plans[0]) < 0.02 for other in plans[1:])


def test_the_plan_is_near_that_of_the_original(mixed: Path, random_run: Path) -> None:
    exact = plan(load_cogact(open_checkpoint(random_run)), random_run)
    found = plan(load_compressed(mixed, read_manifest(mixed)), random_run)
    assert np.linalg.norm(found.raw_samples - exact.raw_samples) < 0.1 * np.linalg.norm(exact.raw_samples)


def test_sixteen_bits_keep_the_original(random_run: Path, tmp_path: Path) -> None:
    recipe = named_recipe("qvla", mixed={"target_bits": 16.0}, towers="float")
    manifest = compressed(random_run, recipe, tmp_path / "out", frames=FRAMES)
    assert {entry.bits for entry in manifest.linears.values()} == {16.0}
    exact = plan(load_cogact(open_checkpoint(random_run)), random_run)
    assert apart(plan(load_compressed(tmp_path / "out", manifest), random_run), exact) < 0.02


# --- a run that stops


def test_a_run_that_was_stopped_after_its_bits_were_chosen_keeps_them(
    random_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = named_recipe("qvla")
    compressed(random_run, recipe, tmp_path / "whole", frames=FRAMES)
    with pytest.raises(Stopped):
        compressed(random_run, recipe, tmp_path / "out", frames=FRAMES, on_step=stop_before(BITS_CHOSEN))
    assert "channel_bits" in read_manifest(tmp_path / "out", "unfinished.json").files
    monkeypatch.delattr("sqap_vla_ros.tools.compression.run.channel_sensitivities")
    compressed(random_run, recipe, tmp_path / "out", frames=FRAMES)
    assert hashes(tmp_path / "out") == hashes(tmp_path / "whole")


def test_bits_that_were_changed_on_disk_are_refused(random_run: Path, tmp_path: Path) -> None:
    recipe, out = named_recipe("qvla"), tmp_path / "out"
    with pytest.raises(Stopped):
        compressed(random_run, recipe, out, frames=FRAMES, on_step=stop_before(BITS_CHOSEN))
    path = out / "weights" / "channel_bits.safetensors"
    path.write_bytes(path.read_bytes()[:-1] + b"\x08")
    with pytest.raises(CheckpointError, match="channel_bits.safetensors: not the file that was written"):
        compressed(random_run, recipe, out, frames=FRAMES)


def test_each_layer_of_both_passes_is_a_step(random_run: Path, tmp_path: Path) -> None:
    steps: list[Step] = []
    compressed(random_run, named_recipe("qvla"), tmp_path / "out", frames=FRAMES, on_step=steps.append)
    assert {step.total for step in steps} == {STEPS}
    assert [step.done for step in steps] == sorted(step.done for step in steps) and steps[-1].done == STEPS
    assert {step.done for step in steps} == set(range(STEPS + 1))
    assert len({step.done for step in steps if step.name == "channel_bits"}) == 6

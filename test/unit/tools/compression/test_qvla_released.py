"""The recipe that follows the code which QVLA's authors published."""

import heapq
from pathlib import Path

import numpy as np
import pytest
import torch
from compressions import compressed, drawn_frames, named_recipe

from sqap_vla_ros.policies.cogact.compressed import load_compressed
from sqap_vla_ros.policies.cogact.store import read_manifest
from sqap_vla_ros.tools.compression.allocation import WIDTHS, AllocationError, allocate_as_released
from sqap_vla_ros.vlm.lowbit.linear import InputFormat, QuantLinear
from sqap_vla_ros.vlm.lowbit.weight import mixed_weight


def greedy(costs: np.ndarray, target: float) -> list[int]:
    """The published procedure, step by step: the cheapest possible step to the next lower width, until the mean."""
    at = [0] * len(costs)
    steps = [(costs[channel, 1] / 8, 0, channel) for channel in range(len(costs))]
    heapq.heapify(steps)
    while steps and np.mean([WIDTHS[k] for k in at]) > target:
        _, _, channel = heapq.heappop(steps)
        at[channel] += 1
        if (k := at[channel]) < 4:
            heapq.heappush(steps, (costs[channel, k + 1] / (WIDTHS[k] - WIDTHS[k + 1]), k, channel))
    return [WIDTHS[k] for k in at]


@pytest.mark.parametrize("target", [0.0, 2.0, 4.0, 7.5, 16.0])
def test_bits_are_those_of_the_published_procedure(target: float) -> None:
    generator = np.random.default_rng(3)
    costs = np.concatenate([np.zeros((40, 1)), np.sort(generator.lognormal(0, 2, (40, 4)), axis=1)], axis=1)
    assert allocate_as_released(costs, target).tolist() == greedy(costs, target)


def test_channels_count_alike_and_costs_must_be_finite() -> None:
    costs = np.array([[0, 1.0, 2.0, 3.0, 4.0]] * 4)
    assert allocate_as_released(costs, 4.0).mean() <= 4.0
    with pytest.raises(AllocationError, match="1 channels is NaN"):
        allocate_as_released(np.array([[0, np.nan, 1, 1, 1.0]]), 4.0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_only_weights_are_rounded(dtype: torch.dtype) -> None:
    weight = torch.randn(6, 32, generator=torch.Generator().manual_seed(0))
    stored = mixed_weight(weight, torch.tensor([16, 8, 4, 2, 0, 4], dtype=torch.uint8))
    layer = QuantLinear(stored, InputFormat(bits=16))
    inputs = torch.randn(5, 32, generator=torch.Generator().manual_seed(1)).to(dtype)
    expected = inputs.float() @ stored.dequantised().T
    tolerance = 1e-5 if dtype is torch.float32 else 0.1
    torch.testing.assert_close(layer(inputs).float(), expected, atol=tolerance, rtol=tolerance)
    assert (layer(inputs)[:, 4] == 0).all()


@pytest.mark.slow
def test_a_cogact_is_compressed_by_it_too(random_run: Path, tmp_path: Path) -> None:
    manifest = compressed(random_run, named_recipe("qvla-released"), tmp_path / "out", frames=drawn_frames(2))
    bits = [entry.bits for name, entry in manifest.linears.items() if name.startswith("llm")]
    assert len(bits) and {entry.activation_bits for entry in manifest.linears.values()} == {16}
    model = load_compressed(tmp_path / "out", read_manifest(tmp_path / "out"))
    assert torch.isfinite(model.language.layers[0].project(torch.randn(1, 3, 64))[0]).all()


def test_the_default_is_not_written() -> None:
    """A manifest is known by its hash: that of a recipe of before stays what it was."""
    assert "sensitivity" not in named_recipe("qvla").model_dump(mode="json")["mixed"]
    assert named_recipe("qvla-released").model_dump(mode="json")["mixed"]["sensitivity"] == "layer"

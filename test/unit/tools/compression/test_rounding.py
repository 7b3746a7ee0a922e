"""One linear layer from its prepared weight to what is stored, and what is said about it."""

from typing import Any

import pytest
import torch
from torch import Tensor

from sqap_vla_ros.config.recipe import ActivationRecipe, Recipe, Rotation, WeightRecipe
from sqap_vla_ros.tools.compression.gptq import InputStatistics
from sqap_vla_ros.tools.compression.rounding import SeenInputs, round_linear
from sqap_vla_ros.vlm.lowbit.layer import LINEARS, NORMS
from sqap_vla_ros.vlm.lowbit.linear import InputFormat, StoredLinear, quantise_tokens
from sqap_vla_ros.vlm.lowbit.transform import PreparedLayer, prepare

COLUMNS = 128
QUERY, VALUE = "self_attn.q_proj", "self_attn.v_proj"
ROUNDINGS = ("nearest", "gptq")


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def prepared(rotation: Rotation = "none") -> PreparedLayer:
    weights = {name: drawn(128, COLUMNS, seed=seed) for seed, name in enumerate(LINEARS)}
    return prepare(weights, dict.fromkeys(NORMS, torch.ones(COLUMNS)), Recipe(name="test", rotation=rotation))


def inputs(seed: int = 9) -> Tensor:
    """Few common causes behind all channels, so that errors of one can be made up for by others."""
    return drawn(400, 16, seed=seed) @ drawn(16, COLUMNS, seed=8) + 0.3 * drawn(400, COLUMNS, seed=seed + 1)


def seen(values: Tensor) -> SeenInputs:
    statistics = InputStatistics(values.shape[1])
    statistics.add(values)
    return SeenInputs(statistics, values[:64])


def recipe(bits: int = 4, rounding: str = "nearest", search: bool = True, **activations: Any) -> Recipe:
    weights = WeightRecipe(bits=bits, rounding=rounding, clip_search=search)
    return Recipe(name="test", weights=weights, activations=ActivationRecipe(**activations))


def output_error(linear: StoredLinear, exact: Tensor, values: Tensor) -> float:
    rounded = linear.weight.dequantised()
    if linear.divisor is not None:
        rounded = rounded / linear.divisor
    return float(((rounded - exact) @ values.T).norm() / (exact @ values.T).norm())


@pytest.mark.parametrize("bits", [4, 8])
def test_the_entry_tells_size_and_error_of_the_weight(bits: int) -> None:
    layer = prepared()
    linear, entry = round_linear(VALUE, 3, layer, recipe(bits))
    exact = layer.weights[VALUE]
    assert (entry.rows, entry.columns, entry.bits) == (128, COLUMNS, bits)
    assert entry.nbytes == 128 * COLUMNS * bits // 8 + 128 * 4
    assert entry.weight_error == pytest.approx(float((linear.weight.dequantised() - exact).norm() / exact.norm()))
    assert (entry.weight_error > 0.05) == (bits == 4)
    assert entry.output_error is None


@pytest.mark.parametrize("granularity", ["token", "channel"])
def test_the_output_error_is_that_on_the_inputs_seen(granularity: str) -> None:
    layer, values = prepared(), inputs()
    values[:, 3] *= 30
    linear, entry = round_linear(VALUE, 3, layer, recipe(granularity=granularity), seen(values))
    assert entry.output_error == pytest.approx(output_error(linear, layer.weights[VALUE], values), rel=1e-3)


def test_gptq_errs_less_on_the_outputs_than_rounding_to_nearest() -> None:
    layer, values = prepared(), inputs()
    nearest, by_gptq = (round_linear(VALUE, 3, layer, recipe(rounding=how), seen(values))[0] for how in ROUNDINGS)
    unseen, exact = inputs(20), layer.weights[VALUE]
    assert output_error(by_gptq, exact, unseen) < 0.7 * output_error(nearest, exact, unseen)


def test_without_frames_gptq_rounds_to_nearest() -> None:
    (one, _), (other, _) = (round_linear(VALUE, 3, prepared(), recipe(rounding=how)) for how in ROUNDINGS)
    assert torch.equal(one.weight.packed, other.weight.packed)


def test_a_search_for_clips_lowers_the_error_of_the_weight() -> None:
    (_, searched), (_, whole) = (round_linear(VALUE, 3, prepared(), recipe(search=how)) for how in (True, False))
    assert searched.weight_error < whole.weight_error


@pytest.mark.parametrize(
    ("name", "layer", "bits"),
    [(QUERY, 0, 8), ("self_attn.k_proj", 1, 8), (QUERY, 2, 4), (VALUE, 0, 4), ("mlp.up_proj", 1, 4)],
)
def test_queries_and_keys_of_the_layers_that_decide_have_bits_of_their_own(name: str, layer: int, bits: int) -> None:
    linear, entry = round_linear(name, layer, prepared(), recipe(scoring_bits=8))
    assert linear.input_format.bits == entry.activation_bits == bits


def test_inputs_with_bits_of_their_own_are_not_clipped_as_the_others() -> None:
    how, layer = recipe(scoring_bits=8, clip=0.7), prepared("inputs")
    formats = [round_linear(QUERY, index, layer, how)[0].input_format for index in (0, 2)]
    assert [(one.bits, one.clip) for one in formats] == [(8, 1.0), (4, 0.7)]


def test_without_bits_of_their_own_they_have_those_of_the_others() -> None:
    assert round_linear(QUERY, 0, prepared(), recipe())[0].input_format.bits == 4


def test_without_frames_only_rotated_inputs_are_clipped_as_the_recipe_says() -> None:
    layer = prepared("query_key")
    clips = [round_linear(name, 3, layer, recipe(clip=0.7))[0].input_format.clip for name in (QUERY, VALUE)]
    assert clips == [0.7, 1.0]
    assert round_linear(QUERY, 3, layer, recipe(clip=0.7))[0].input_format.block == COLUMNS


def test_with_frames_inputs_are_clipped_where_they_err_least() -> None:
    values = drawn(200, COLUMNS, seed=5)
    found = round_linear(VALUE, 3, prepared(), recipe(), seen(values))[0].input_format

    def error(clip: float) -> float:
        codes, scales = quantise_tokens(values[:64], InputFormat(4, clip=clip))
        return float((codes * scales - values[:64]).norm())

    assert found.clip < 1 and error(found.clip) < error(1.0)


def test_without_a_search_inputs_are_clipped_as_the_recipe_says_also_with_frames() -> None:
    how = recipe(clip=0.93, clip_search=False)
    assert round_linear(QUERY, 3, prepared("inputs"), how, seen(inputs()))[0].input_format.clip == 0.93


@pytest.mark.parametrize("rotation", ["query_key", "inputs", "residual"])
@pytest.mark.parametrize("values", [None, inputs()], ids=["without frames", "with frames"])
def test_inputs_of_eight_bits_are_never_clipped(rotation: Rotation, values: Tensor | None) -> None:
    how = Recipe(name="test", activations=ActivationRecipe(bits=8))
    assert how.activations.clip == 0.7
    found = None if values is None else seen(values)
    assert round_linear(QUERY, 3, prepared(rotation), how, found)[0].input_format.clip == 1.0


def test_a_static_scale_of_each_channel_lies_in_the_weight() -> None:
    layer, values = prepared(), inputs()
    linear, _ = round_linear(VALUE, 3, layer, recipe(8, granularity="channel"), seen(values))
    assert linear.divisor is not None
    assert torch.allclose(linear.divisor * 7, values.abs().amax(0))
    exact = layer.weights[VALUE]
    assert (linear.weight.dequantised() / linear.divisor - exact).norm() < 0.02 * exact.norm()


def test_channels_have_the_bits_that_they_are_given() -> None:
    bits = torch.tensor([0, 2, 4, 8, 16] * 25 + [4, 4, 4], dtype=torch.uint8)
    linear, entry = round_linear(VALUE, 3, prepared(), recipe(), channel_bits=bits)
    stored = linear.weight
    assert (len(stored.packed), len(stored.wide), len(stored.full)) == (53, 25, 25)
    assert not stored.dequantised()[bits == 0].any()
    assert entry.bits == pytest.approx((53 * 4 + 25 * 8 + 25 * 16) / 128)

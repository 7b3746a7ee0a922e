"""Folding gains, smoothing and rotations into a layer leaves it as it was, in exact arithmetic."""

from collections.abc import Mapping

import pytest
import torch
from torch import Tensor

from sqap_vla_ros.config.recipe import Recipe, Rotation, SmoothingBy
from sqap_vla_ros.tools.compression.layer_calibration import LayerCalibration
from sqap_vla_ros.tools.compression.observed_layer import ObservedLayer
from sqap_vla_ros.vlm.attention import rotary_tables
from sqap_vla_ros.vlm.language import FloatDecoderLayer, LanguageShape
from sqap_vla_ros.vlm.layers import DecoderLayer, run_layer
from sqap_vla_ros.vlm.lowbit.layer import ATTENTION_INPUT, ATTENTION_OUTPUT, LINEARS, MLP_INPUT, MLP_OUTPUT, NORMS
from sqap_vla_ros.vlm.lowbit.transform import PreparedLayer, prepare, rotate_residual

ROTATIONS: list[Rotation] = ["none", "query_key", "inputs", "residual"]
# One query head per key and value head, and two; the MLP's width has blocks of 8 alone.
SHAPES = [LanguageShape(64, 1, 4, kv_heads, 16, 72, 8) for kv_heads in (4, 2)]
POSITIONS = 20


def drawn_layer(shape: LanguageShape) -> FloatDecoderLayer:
    """A layer in float64 whose norms have gains of their own, and two of whose inputs have outlier channels."""
    generator = torch.Generator().manual_seed(0)
    layer = FloatDecoderLayer(shape).double()
    for name, parameter in layer.named_parameters():
        drawn = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
        parameter.data = drawn.exp() if "norm" in name else drawn * parameter.shape[1] ** -0.5
    layer.input_layernorm.weight.data[5] *= 50
    layer.mlp.up_proj.weight.data[3] *= 50
    return layer.requires_grad_(False)


def tensors(layer: FloatDecoderLayer) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    return (
        {name: layer.get_parameter(f"{name}.weight").data for name in LINEARS},
        {name: layer.get_parameter(f"{name}.weight").data for name in NORMS},
    )


def stream(shape: LanguageShape) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(1, POSITIONS, shape.width, generator=generator, dtype=torch.float64)


def run(layer: DecoderLayer, hidden: Tensor, shape: LanguageShape) -> tuple[Tensor, Tensor, Tensor]:
    rotations = rotary_tables(torch.arange(POSITIONS)[None], shape.head_width, hidden.dtype)
    return run_layer(layer, hidden, rotations, shape.head_width)


def recipe(
    rotation: Rotation, smoothing: float | None = None, block: int = 4096, by: SmoothingBy = "largest"
) -> Recipe:
    return Recipe(name="test", rotation=rotation, smoothing=smoothing, hadamard_block=block, smoothing_by=by)


def prepared_layer(layer: FloatDecoderLayer, shape: LanguageShape, recipe: Recipe) -> PreparedLayer:
    """As compressing prepares it: smoothing looks at the inputs of the layer as it is without."""
    weights, gains = tensors(layer)
    hidden = stream(shape)
    if recipe.rotation == "residual":
        hidden = rotate_residual(hidden, recipe)
    largest: Mapping[str, Tensor] | None = None
    if recipe.smoothing is not None:
        unsmoothed = prepare(weights, gains, recipe, head_width=shape.head_width)
        largest = LayerCalibration([hidden], shape).input_magnitudes(unsmoothed, recipe.smoothing_by)
    return prepare(weights, gains, recipe, largest, shape.head_width)


@pytest.mark.parametrize("block", [4096, 8])
@pytest.mark.parametrize("shape", SHAPES, ids=["heads of their own", "grouped heads"])
@pytest.mark.parametrize("smoothing", [None, 0.0, 0.5, 1.0])
@pytest.mark.parametrize("rotation", ROTATIONS)
@pytest.mark.parametrize("by", ["largest", "power"])
def test_a_prepared_layer_answers_as_the_layer(
    by: SmoothingBy, rotation: Rotation, smoothing: float | None, shape: LanguageShape, block: int
) -> None:
    layer, how = drawn_layer(shape), recipe(rotation, smoothing, block, by)
    hidden = stream(shape)
    wanted, wanted_queries, wanted_keys = run(layer, hidden, shape)
    prepared = prepared_layer(layer, shape, how)
    if rotation == "residual":
        hidden = rotate_residual(hidden, how)
    answer, queries, keys = run(ObservedLayer(prepared, lambda *_: None, torch.float64), hidden, shape)
    if rotation == "residual":
        answer = rotate_residual(answer, how)
    for found, expected in ((answer, wanted), (queries, wanted_queries), (keys, wanted_keys)):
        # Matrices of rotations are float32.
        assert (found - expected).norm() < 1e-6 * expected.norm()


@pytest.mark.parametrize("rotation", ROTATIONS)
def test_the_weights_given_are_not_changed(rotation: Rotation) -> None:
    layer = drawn_layer(SHAPES[0])
    before = {name: parameter.clone() for name, parameter in layer.named_parameters()}
    prepared_layer(layer, SHAPES[0], recipe(rotation, 0.5))
    assert all(torch.equal(parameter, before[name]) for name, parameter in layer.named_parameters())


@pytest.mark.parametrize(
    ("rotation", "rotated_online"),
    [
        ("none", set()),
        ("query_key", {"self_attn.q_proj", "self_attn.k_proj"}),
        ("inputs", set(LINEARS)),
        ("residual", {"self_attn.o_proj", "mlp.down_proj"}),
    ],
)
def test_inputs_are_rotated_online_where_the_recipe_says(rotation: Rotation, rotated_online: set[str]) -> None:
    prepared = prepared_layer(drawn_layer(SHAPES[0]), SHAPES[0], recipe(rotation))
    assert {name for name, block in prepared.blocks.items() if block > 1} == rotated_online
    in_a_basis_without_outliers = set(LINEARS) if rotation == "residual" else rotated_online
    assert {name for name, rotated in prepared.rotated.items() if rotated} == in_a_basis_without_outliers


def test_blocks_are_the_largest_that_fit_the_inputs() -> None:
    blocks = prepared_layer(drawn_layer(SHAPES[0]), SHAPES[0], recipe("inputs")).blocks
    assert (blocks["self_attn.q_proj"], blocks["self_attn.o_proj"], blocks["mlp.down_proj"]) == (64, 64, 8)


@pytest.mark.parametrize("rotation", ROTATIONS)
def test_gains_are_in_the_weights_where_the_stream_is_rotated(rotation: Rotation) -> None:
    layer = drawn_layer(SHAPES[0])
    gains = prepared_layer(layer, SHAPES[0], recipe(rotation)).gains
    if rotation == "residual":
        assert gains == dict.fromkeys(NORMS)
    else:
        published = tensors(layer)[1]
        assert all(gain is not None and torch.equal(gain, published[name]) for name, gain in gains.items())


def test_smoothing_takes_outliers_out_of_every_input() -> None:
    layer, shape = drawn_layer(SHAPES[1]), SHAPES[1]
    calibration = LayerCalibration([stream(shape)], shape)

    def peaks(smoothing: float | None) -> dict[str, float]:
        """How far the largest channel of each input is above the median one."""
        largest = calibration.input_magnitudes(prepared_layer(layer, shape, recipe("none", smoothing)), "largest")
        return {name: float(channels.max() / channels.median()) for name, channels in largest.items()}

    before, after = peaks(None), peaks(0.8)
    assert before["self_attn.q_proj"] > 10 and before["mlp.down_proj"] > 10
    assert all(after[name] < 0.6 * before[name] for name in (*ATTENTION_INPUT, *MLP_INPUT, "mlp.down_proj"))
    assert after["self_attn.o_proj"] < before["self_attn.o_proj"]


@pytest.mark.parametrize("name", ["self_attn.q_proj", "mlp.gate_proj", MLP_OUTPUT])
def test_smoothing_by_power_leaves_the_least_error_behind_a_rotation(name: str) -> None:
    """The error behind a rotation is the power of the input times that of the weights that read it."""
    layer, shape = drawn_layer(SHAPES[1]), SHAPES[1]
    layer.self_attn.v_proj.weight.data[:, 7] *= 30  # one row of the weights alone reads this channel strongly
    shared = next((names for names in (ATTENTION_INPUT, MLP_INPUT) if name in names), (name,))

    def error(alpha: float | None, by: SmoothingBy = "power") -> float:
        prepared = prepared_layer(layer, shape, recipe("none", alpha, by=by))
        power = LayerCalibration([stream(shape)], shape).input_magnitudes(prepared, "power")[name].square().sum()
        return float(power * sum(prepared.weights[each].square().sum() for each in shared))

    least = error(0.5)
    assert all(least < error(alpha) for alpha in (None, 0.3, 0.7))
    assert least < error(0.5, "largest")


@pytest.mark.parametrize("shape", SHAPES, ids=["heads of their own", "grouped heads"])
def test_an_exponent_of_one_half_makes_inputs_and_weights_equally_large(shape: LanguageShape) -> None:
    layer = drawn_layer(shape)
    layer.self_attn.v_proj.weight.data[3] *= 20
    layer.self_attn.o_proj.weight.data[:, 9] *= 20
    prepared = prepared_layer(layer, shape, recipe("none", 0.5))
    largest = LayerCalibration([stream(shape)], shape).input_magnitudes(prepared, "largest")
    for name, groups in (
        (ATTENTION_OUTPUT, (shape.kv_heads, -1, shape.head_width)),
        (MLP_OUTPUT, (1, 1, shape.hidden)),
    ):
        inputs, weights = largest[name], prepared.weights[name].abs().amax(0)
        # Channels of heads that share their values share a factor. Calibration may compute in bfloat16.
        assert torch.allclose(inputs.view(groups).amax(1), weights.view(groups).amax(1), rtol=0.15)


def test_a_channel_that_calibration_never_saw_is_not_scaled() -> None:
    layer = drawn_layer(SHAPES[0])
    layer.input_layernorm.weight.data[7] = 0.0
    prepared = prepared_layer(layer, SHAPES[0], recipe("none", 0.5))
    for name in ATTENTION_INPUT[:2]:
        assert torch.equal(prepared.weights[name][:, 7], tensors(layer)[0][name][:, 7])


def test_rotating_the_stream_twice_is_the_identity() -> None:
    hidden, how = stream(SHAPES[0]), recipe("residual", block=16)
    assert (rotate_residual(rotate_residual(hidden, how), how) - hidden).norm() < 1e-6 * hidden.norm()

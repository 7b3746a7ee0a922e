"""A linear layer on integers: what it computes, whatever executes it."""

from collections.abc import Callable

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from sqap_vla_ros.config.recipe import Granularity
from sqap_vla_ros.vlm.lowbit.hadamard import rotate
from sqap_vla_ros.vlm.lowbit.linear import InputFormat, QuantLinear, quantise_tokens
from sqap_vla_ros.vlm.lowbit.products import Backend, exact_on_cpu
from sqap_vla_ros.vlm.lowbit.weight import QuantisedWeight, concatenate, mixed_weight, round_to_nearest

# Without VNNI a CPU has no exact sums but these; beside a GPU its kernels are not interpreted, and do not run on a CPU.
BACKENDS: list[Backend] = ["float_sums"]
if not torch.cuda.is_available():
    BACKENDS += ["triton"]
if exact_on_cpu(8) == "onednn":
    BACKENDS += ["onednn"]
COLUMNS = 96


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def four() -> QuantisedWeight:
    return round_to_nearest(drawn(40, COLUMNS), 4)


def eight() -> QuantisedWeight:
    return round_to_nearest(drawn(23, COLUMNS), 8)


def four_and_eight() -> QuantisedWeight:
    return concatenate([four(), eight()])


def every_width() -> QuantisedWeight:
    bits = torch.tensor([8, 0, 2, 16, 4, 4, 0, 16, 8, 2, 4, 16], dtype=torch.uint8)
    return mixed_weight(drawn(12, COLUMNS), bits)


def no_codes() -> QuantisedWeight:
    return mixed_weight(drawn(3, COLUMNS), torch.tensor([16, 0, 16], dtype=torch.uint8))


def dropped() -> QuantisedWeight:
    return mixed_weight(drawn(3, COLUMNS), torch.zeros(3, dtype=torch.uint8))


WEIGHTS = [four, eight, four_and_eight, every_width, no_codes, dropped]


def written_out(
    weight: QuantisedWeight, input_format: InputFormat, values: Tensor, bias: Tensor | None, divisor: Tensor | None
) -> Tensor:
    """The layer in float64, on the codes that its inputs have."""
    inputs = rotate(values, input_format.block) if input_format.block > 1 else values
    inputs = inputs if divisor is None else inputs / divisor
    codes, scales = quantise_tokens(inputs, input_format)
    rounded = codes.double() * scales.double()
    matrix = weight.dequantised().double()
    output = rounded @ matrix.T
    if len(weight.full):
        assert weight.order is not None
        exact = weight.order[-len(weight.full) :]
        output[:, exact] = inputs.double() @ matrix[exact].T
    return output if bias is None else output + bias.double()


@pytest.mark.parametrize("make_weight", WEIGHTS, ids=lambda make: make.__name__)
@pytest.mark.parametrize(("tokens", "bits", "block"), [(1, 4, 1), (17, 8, 32), (154, 4, 32)])
@pytest.mark.parametrize("backend", BACKENDS)
def test_outputs_are_those_written_out(
    backend: Backend, tokens: int, bits: int, block: int, make_weight: Callable[[], QuantisedWeight]
) -> None:
    weight, values = make_weight(), drawn(tokens, COLUMNS, seed=1)
    input_format, bias = InputFormat(bits, block, clip=0.8), drawn(weight.rows, seed=2)
    layer = QuantLinear(weight, input_format, bias, backend=backend)
    wanted = written_out(weight, input_format, values, bias, None)
    assert (layer(values) - wanted).abs().max() < 1e-4


@pytest.mark.parametrize("granularity", ["token", "tensor", "channel"])
@pytest.mark.parametrize("backend", BACKENDS)
def test_outputs_of_each_granularity_are_those_written_out(backend: Backend, granularity: Granularity) -> None:
    weight, values = four_and_eight(), drawn(17, COLUMNS, seed=1)
    divisor = values.abs().amax(0) / 7 if granularity == "channel" else None
    input_format = InputFormat(4, granularity=granularity)
    layer = QuantLinear(weight, input_format, divisor=divisor, backend=backend)
    assert (layer(values) - written_out(weight, input_format, values, None, divisor)).abs().max() < 2e-4


@pytest.mark.parametrize("backend", BACKENDS)
def test_dropped_rows_answer_their_bias(backend: Backend) -> None:
    bits = torch.tensor([4, 0, 8, 0], dtype=torch.uint8)
    bias = torch.arange(4.0)
    layer = QuantLinear(mixed_weight(drawn(4, COLUMNS), bits), InputFormat(), bias, backend=backend)
    assert torch.equal(layer(drawn(5, COLUMNS))[:, [1, 3]], bias[[1, 3]].expand(5, 2))


@pytest.mark.parametrize("backend", BACKENDS)
def test_batches_keep_their_shape_and_number_format(backend: Backend) -> None:
    layer = QuantLinear(four(), InputFormat(block=32), torch.zeros(40), backend=backend)
    values = drawn(2, 5, COLUMNS).bfloat16()
    output = layer(values)
    assert output.shape == (2, 5, 40) and output.dtype == torch.bfloat16
    wanted = written_out(four(), InputFormat(block=32), values.flatten(0, 1), None, None)
    assert (output.flatten(0, 1) - wanted).norm() < 1e-2 * wanted.norm()


@pytest.mark.parametrize("backend", BACKENDS)
def test_inputs_are_left_as_they_were(backend: Backend) -> None:
    values = drawn(5, COLUMNS)
    before = values.clone()
    QuantLinear(four_and_eight(), InputFormat(8), torch.ones(63), backend=backend)(values)
    assert torch.equal(values, before)


def test_eight_bits_come_close_to_float() -> None:
    weight, values = drawn(64, COLUMNS), drawn(9, COLUMNS, seed=1)
    wanted = values @ weight.T
    layer = QuantLinear(round_to_nearest(rotate(weight, 32), 8), InputFormat(8, 32))
    assert (layer(values) - wanted).norm() < 0.01 * wanted.norm()


def test_a_rotation_saves_four_bits_from_an_outlier_channel() -> None:
    weight, values = drawn(64, 256), drawn(50, 256, seed=1)
    values[:, 5] *= 100
    wanted = values @ weight.T
    plain = QuantLinear(round_to_nearest(weight, 4), InputFormat(4))(values) - wanted
    rotated = QuantLinear(round_to_nearest(rotate(weight, 256), 4), InputFormat(4, 256))(values) - wanted
    assert rotated.norm() < 0.8 * plain.norm()


@given(st.integers(1, 6), st.integers(0, 5), st.floats(1e-3, 1e3), st.sampled_from([4, 8]))
def test_codes_of_a_token_do_not_depend_on_the_others(tokens: int, which: int, size: float, bits: int) -> None:
    values = drawn(tokens, 16)
    index = which % tokens
    others = values * size
    others[index] = values[index]
    (codes, scales), (again, scales_again) = (quantise_tokens(some, InputFormat(bits)) for some in (values, others))
    assert torch.equal(codes[index], again[index]) and scales[index] == scales_again[index]


@given(st.sampled_from([4, 8]), st.floats(0.3, 1.0))
def test_codes_of_tokens_stay_within_their_bits_and_err_by_half_a_scale_inside_the_clip(bits: int, clip: float) -> None:
    values, limit = drawn(9, 64), 2 ** (bits - 1) - 1
    codes, scales = quantise_tokens(values, InputFormat(bits, clip=clip))
    assert torch.allclose(scales, values.abs().amax(1, keepdim=True) * clip / limit)
    assert int(codes.abs().max()) == limit
    inside = values.abs() <= limit * scales
    assert bool(((codes * scales - values).abs() <= 0.5001 * scales)[inside].all())


def test_one_scale_of_the_tensor_serves_all_tokens() -> None:
    values = drawn(9, 64)
    _, scales = quantise_tokens(values, InputFormat(4, granularity="tensor"))
    assert torch.allclose(scales, (values.abs().max() / 7).expand(9, 1))


def test_unsigned_codes_are_the_signed_ones_moved_by_the_offset() -> None:
    values = drawn(9, 64)
    signed, scales = quantise_tokens(values, InputFormat(8))
    unsigned, same_scales = quantise_tokens(values, InputFormat(8), offset=128)
    assert unsigned.dtype == torch.uint8 and torch.equal(scales, same_scales)
    assert torch.equal(unsigned.short() - 128, signed.short())


@pytest.mark.parametrize("granularity", ["token", "tensor", "channel"])
@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("backend", BACKENDS)
def test_a_token_that_is_not_finite_gives_nothing_finite(
    backend: Backend, value: float, granularity: Granularity
) -> None:
    values = drawn(3, COLUMNS)
    values[1, 7] = value
    divisor = torch.ones(COLUMNS) if granularity == "channel" else None
    output = QuantLinear(four(), InputFormat(4, granularity=granularity), None, divisor, backend=backend)(values)
    assert not output[1].isfinite().any()
    assert granularity == "tensor" or bool(output[[0, 2]].isfinite().all())


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_token_of_zeros_gives_zeros(backend: Backend) -> None:
    values = torch.cat((torch.zeros(1, COLUMNS), drawn(1, COLUMNS)))
    assert not QuantLinear(four(), InputFormat(), backend=backend)(values)[0].any()


@pytest.mark.parametrize("value", [torch.nan, torch.inf, -torch.inf])
@pytest.mark.parametrize("granularity", ["token", "tensor", "channel"])
@pytest.mark.parametrize("backend", BACKENDS)
def test_an_input_that_is_not_finite_gives_no_finite_output(
    backend: Backend, granularity: Granularity, value: float
) -> None:
    weight = round_to_nearest(torch.randn(8, 32), 4)
    divisor = torch.ones(32) if granularity == "channel" else None
    linear = QuantLinear(weight, InputFormat(4, granularity=granularity), divisor=divisor, backend=backend)
    values = torch.randn(3, 32)
    values[1, 5] = value
    assert not linear(values)[1].isfinite().any()

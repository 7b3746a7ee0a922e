"""Codes, scales and packing: what rounding may lose, and what must come back whole."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from sqap_vla_ros.vlm.lowbit.integers import (
    absmax_scales,
    largest_code,
    pack_nibbles,
    quantise,
    searched_scales,
    unpack_nibbles,
)

BITS = st.sampled_from([2, 4, 8])


@st.composite
def matrices(draw: st.DrawFn) -> Tensor:
    """Normal numbers of any size, with outliers, and rows of zeros."""
    rows, columns = draw(st.integers(1, 6)), draw(st.integers(1, 24))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**32 - 1)))
    values = torch.randn(rows, columns, generator=generator) * 10.0 ** draw(st.integers(-30, 30))
    values[:, 0] *= draw(st.sampled_from([0.0, 1.0, 1000.0]))
    values[-1] *= draw(st.sampled_from([0.0, 1.0]))
    return values


@pytest.mark.parametrize(("bits", "largest"), [(2, 1), (4, 7), (8, 127)])
def test_codes_are_symmetric(bits: int, largest: int) -> None:
    assert largest_code(bits) == largest
    codes = quantise(torch.tensor([[-1e30, 1e30]]), torch.ones(1, 1), bits)
    assert codes.tolist() == [[-largest, largest]]


@pytest.mark.parametrize("bits", [-1, 0, 1, 9, 16])
def test_other_widths_are_refused(bits: int) -> None:
    with pytest.raises(ValueError, match=f"bits = {bits}: expected 2 to 8"):
        largest_code(bits)


@given(matrices(), BITS, st.floats(0.1, 1.0))
def test_codes_stay_within_their_bits(values: Tensor, bits: int, clip: float) -> None:
    codes = quantise(values, absmax_scales(values, bits, clip), bits)
    assert codes.dtype == torch.int8 and int(codes.abs().max()) <= largest_code(bits)


@given(matrices(), BITS)
def test_rounding_errs_by_half_a_scale_at_most(values: Tensor, bits: int) -> None:
    scales = absmax_scales(values, bits)
    errors = (quantise(values, scales, bits) * scales.double() - values).abs()
    assert bool((errors <= scales.double() * (0.5 + 1e-5)).all())


@given(matrices(), BITS, st.floats(0.1, 0.9))
def test_beyond_the_clip_codes_saturate_and_inside_it_errors_are_half_a_scale(
    values: Tensor, bits: int, clip: float
) -> None:
    scales = absmax_scales(values, bits, clip)
    codes, limit = quantise(values, scales, bits), largest_code(bits)
    inside = values.abs().double() <= limit * scales.double()
    errors = (codes * scales.double() - values).abs()
    assert bool((errors <= scales.double() * (0.5 + 1e-5))[inside].all())
    assert bool((codes == limit * values.sign())[~inside].all())


@given(matrices(), BITS)
def test_the_largest_magnitude_has_the_largest_code(values: Tensor, bits: int) -> None:
    codes = quantise(values, absmax_scales(values, bits), bits)
    largest = codes.gather(1, values.abs().argmax(1, keepdim=True)).abs().flatten()
    assert bool((largest == largest_code(bits))[values.abs().amax(1) > 0].all())


def test_halves_round_to_even() -> None:
    codes = quantise(torch.tensor([[0.5, 1.5, 2.5, -0.5, -1.5, 6.5]]), torch.ones(1, 1), 4)
    assert codes.tolist() == [[0, 2, 2, 0, -2, 6]]


def test_a_row_of_zeros_has_codes_of_zero_and_a_positive_scale() -> None:
    values = torch.tensor([[0.0, 0.0], [1.0, -2.0]])
    for scales in (absmax_scales(values, 4), searched_scales(values, 4)):
        assert bool((scales > 0).all())
        assert quantise(values, scales, 4)[0].tolist() == [0, 0]


def test_a_row_has_a_scale_of_its_own() -> None:
    scales = absmax_scales(torch.tensor([[7.0, 1.0], [-14.0, 1.0]]), 4)
    assert scales.tolist() == [[1.0], [2.0]]


@given(matrices(), BITS)
def test_searched_scales_are_never_worse_than_those_of_the_largest_magnitude(values: Tensor, bits: int) -> None:
    values = values / values.abs().max().clamp_min(1e-30)  # squares of very large or small numbers are no float32

    def errors(scales: Tensor) -> Tensor:
        return (quantise(values, scales, bits) * scales - values).square().sum(1)

    assert bool((errors(searched_scales(values, bits)) <= errors(absmax_scales(values, bits)) * (1 + 1e-5)).all())


@given(matrices(), BITS, st.integers(0, 1000))
def test_searched_scales_count_a_column_by_its_importance(values: Tensor, bits: int, seed: int) -> None:
    values = values / values.abs().max().clamp_min(1e-30)
    importance = torch.rand(values.shape[1], generator=torch.Generator().manual_seed(seed)) ** 4

    def errors(scales: Tensor) -> Tensor:
        return (quantise(values, scales, bits) * scales - values).square() @ importance

    searched = errors(searched_scales(values, bits, importance))
    for other in (absmax_scales(values, bits), searched_scales(values, bits)):
        assert bool((searched <= errors(other) * (1 + 1e-4) + 1e-9).all())


def test_the_search_clips_an_outlier_that_matters_little() -> None:
    weight = torch.randn(8, 256, generator=torch.Generator().manual_seed(0))
    weight[:, 0] = 6.0
    searched, largest = searched_scales(weight, 4), absmax_scales(weight, 4)
    assert bool((searched < 0.9 * largest).all())


@given(st.data(), st.integers(0, 5), st.integers(0, 12))
def test_what_was_packed_is_unpacked_whole(data: st.DataObject, rows: int, pairs: int) -> None:
    columns = 2 * pairs
    numbers = data.draw(st.lists(st.integers(-7, 7), min_size=rows * columns, max_size=rows * columns))
    codes = torch.tensor(numbers, dtype=torch.int8).view(rows, columns)
    packed = pack_nibbles(codes)
    assert packed.dtype == torch.uint8 and packed.shape == (rows, pairs)
    assert torch.equal(unpack_nibbles(packed), codes)


def test_the_even_column_is_in_the_low_nibble_in_twos_complement() -> None:
    codes = torch.tensor([[1, -2, 7, 0, -7, -1]], dtype=torch.int8)
    assert pack_nibbles(codes).tolist() == [[0xE1, 0x07, 0xF9]]
    assert unpack_nibbles(torch.tensor([[0xE1, 0x07, 0xF9]], dtype=torch.uint8)).tolist() == codes.tolist()


def test_an_odd_number_of_columns_cannot_be_packed() -> None:
    with pytest.raises(ValueError, match="3 columns cannot be packed two per byte; expected an even number"):
        pack_nibbles(torch.zeros(2, 3, dtype=torch.int8))

"""A weight as it is stored: bytes, groups of widths, and what comes back."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from sqap_vla_ros.vlm.lowbit.integers import absmax_scales
from sqap_vla_ros.vlm.lowbit.weight import (
    QuantisedWeight,
    concatenate,
    mixed_weight,
    round_to_nearest,
    weight_from_tensors,
)

CHANNEL_BITS = st.lists(st.sampled_from([0, 2, 4, 8, 16]), min_size=1, max_size=12)


def drawn(rows: int, columns: int = 16, seed: int = 0) -> Tensor:
    return torch.randn(rows, columns, generator=torch.Generator().manual_seed(seed))


def mixed(bits: list[int], seed: int = 0) -> QuantisedWeight:
    return mixed_weight(drawn(len(bits), seed=seed), torch.tensor(bits, dtype=torch.uint8))


@pytest.mark.parametrize("bits", [4, 8])
def test_rounding_to_nearest_errs_by_half_a_scale_at_most(bits: int) -> None:
    weight = drawn(12)
    errors = (round_to_nearest(weight, bits, search=False).dequantised() - weight).abs()
    assert bool((errors <= absmax_scales(weight, bits) * 0.50001).all())


def test_searching_clips_lowers_the_error_of_four_bits() -> None:
    weight = drawn(64, 256)
    searched, plain = (round_to_nearest(weight, 4, search=search).dequantised() for search in (True, False))
    assert (searched - weight).norm() < 0.97 * (plain - weight).norm()


@pytest.mark.parametrize(("bits", "codes_bytes"), [(4, 48 * 160 // 2), (8, 48 * 160)])
def test_bytes_are_those_of_the_codes_and_one_scale_per_row(bits: int, codes_bytes: int) -> None:
    weight = round_to_nearest(drawn(48, 160), bits)
    assert weight.nbytes == codes_bytes + 48 * 4
    assert weight.mean_bits == bits


def test_mean_bits_of_mixed_rows_are_those_stored() -> None:
    assert mixed([0, 2, 4, 8, 16]).mean_bits == (0 + 4 + 4 + 8 + 16) / 5


@given(CHANNEL_BITS)
def test_a_weight_comes_back_from_its_tensors(bits: list[int]) -> None:
    weight = mixed(bits)
    again = weight_from_tensors(weight.tensors(), weight.rows, weight.columns)
    assert torch.equal(again.dequantised(), weight.dequantised())
    assert again.columns == 16 and again.nbytes == weight.nbytes


@given(st.lists(CHANNEL_BITS, min_size=1, max_size=4))
def test_joined_weights_stand_for_their_rows_one_after_another(parts: list[list[int]]) -> None:
    weights = [mixed(bits, seed) for seed, bits in enumerate(parts)]
    joined = concatenate(weights)
    assert joined.rows == sum(weight.rows for weight in weights)
    assert torch.equal(joined.dequantised(), torch.cat([weight.dequantised() for weight in weights]))


@pytest.mark.parametrize("widths", [(4, 4), (8, 8), (4, 8), (8, 4)])
def test_joined_weights_of_one_width_each_stand_for_their_rows(widths: tuple[int, ...]) -> None:
    weights = [round_to_nearest(drawn(5, seed=seed), bits) for seed, bits in enumerate(widths)]
    joined = concatenate(weights)
    assert torch.equal(joined.dequantised(), torch.cat([weight.dequantised() for weight in weights]))
    assert (joined.order is None) == (widths[0] == widths[1])


@pytest.mark.parametrize("bits", [4, 8])
def test_slices_are_the_rows_and_join_again(bits: int) -> None:
    weight = round_to_nearest(drawn(12), bits)
    thirds = [weight.slice(start, start + 4) for start in (0, 4, 8)]
    assert torch.equal(thirds[1].dequantised(), weight.dequantised()[4:8])
    assert torch.equal(concatenate(thirds).dequantised(), weight.dequantised())


def test_rows_of_mixed_widths_cannot_be_sliced() -> None:
    with pytest.raises(ValueError, match="rows of mixed widths cannot be sliced"):
        mixed([4, 8]).slice(0, 1)

"""The greedy allocation of bits: against one written out, and what it promises."""

from itertools import product

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from sqap_vla_ros.tools.compression.allocation import WIDTHS, AllocationError, ChannelCosts, allocate, allocate_layers

SEEDS = st.integers(0, 2**32 - 1)
TARGETS = st.floats(0.5, 16)


def drawn_costs(seed: int, channels: int) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Costs that rise towards lower widths, convex or not, over several powers of ten; and weights per channel."""
    generator = np.random.default_rng(seed)
    rises = 10.0 ** generator.uniform(-3, 3, (channels, len(WIDTHS)))
    rises[:, 0] = 0
    return np.cumsum(rises, axis=1), generator.choice([64, 96, 172], channels)


def total_cost(costs: NDArray[np.float64], bits: NDArray[np.uint8]) -> float:
    return float(sum(row[WIDTHS.index(width)] for row, width in zip(costs, bits, strict=True)))


def total_bits(weights: NDArray[np.int64], bits: NDArray[np.uint8]) -> int:
    return int((weights * bits).sum())


def written_out(costs: NDArray[np.float64], weights: NDArray[np.int64], target_bits: float) -> NDArray[np.uint8]:
    """Lower one channel at a time, to the width that costs least per bit saved."""
    bits = np.full(len(costs), 16)
    while (bits * weights).sum() > target_bits * weights.sum():
        steps = []
        for channel, width in enumerate(bits):
            at = WIDTHS.index(width)
            for to in range(at + 1, len(WIDTHS)):
                saved = (width - WIDTHS[to]) * weights[channel]
                steps.append(((costs[channel, to] - costs[channel, at]) / saved, channel, WIDTHS[to]))
        _, channel, width = min(steps)
        bits[channel] = width
    return bits.astype(np.uint8)


@given(SEEDS, st.integers(1, 8), TARGETS)
def test_bits_are_those_of_lowering_the_cheapest_channel_again_and_again(
    seed: int, channels: int, target: float
) -> None:
    costs, weights = drawn_costs(seed, channels)
    assert allocate(costs, weights, target).tolist() == written_out(costs, weights, target).tolist()


@settings(max_examples=25, deadline=None)
@given(SEEDS, st.integers(1, 4), TARGETS)
def test_nothing_of_as_few_bits_costs_less(seed: int, channels: int, target: float) -> None:
    costs, weights = drawn_costs(seed, channels)
    bits = allocate(costs, weights, target)
    others = (np.array(other, dtype=np.uint8) for other in product(WIDTHS, repeat=channels))
    budget = total_bits(weights, bits)
    least = min(total_cost(costs, other) for other in others if total_bits(weights, other) <= budget)
    assert total_cost(costs, bits) <= least * (1 + 1e-12)


@given(SEEDS, st.integers(1, 200), TARGETS)
def test_the_mean_is_at_most_the_target_and_one_channel_below_it_at_most(
    seed: int, channels: int, target: float
) -> None:
    costs, weights = drawn_costs(seed, channels)
    below = target * weights.sum() - total_bits(weights, allocate(costs, weights, target))
    assert 0 <= below < 16 * weights.max()


@given(SEEDS, st.integers(1, 50), TARGETS, SEEDS)
def test_the_order_of_channels_does_not_matter(seed: int, channels: int, target: float, shuffle: int) -> None:
    costs, weights = drawn_costs(seed, channels)
    order = np.random.default_rng(shuffle).permutation(channels)
    assert np.array_equal(allocate(costs[order], weights[order], target), allocate(costs, weights, target)[order])


@given(SEEDS, st.integers(1, 50), TARGETS, TARGETS)
def test_a_lower_target_raises_no_channel(seed: int, channels: int, one: float, other: float) -> None:
    costs, weights = drawn_costs(seed, channels)
    assert (allocate(costs, weights, min(one, other)) <= allocate(costs, weights, max(one, other))).all()


@given(SEEDS, st.sampled_from([2, 4, 8]))
def test_many_channels_cost_less_than_with_the_same_bits_for_all(seed: int, width: int) -> None:
    costs, weights = drawn_costs(seed, 1000)
    uniform = np.full(1000, width, dtype=np.uint8)
    assert total_cost(costs, allocate(costs, weights, width)) < total_cost(costs, uniform)


def test_a_lower_width_that_seems_to_cost_less_counts_as_much_as_the_wider() -> None:
    noisy = np.array([[0, 5.0, 1.0, 9.0, 9.5], [0, 2.0, 2.5, 2.2, 30.0]])
    risen = np.array([[0, 5.0, 5.0, 9.0, 9.5], [0, 2.0, 2.5, 2.5, 30.0]])
    weights = np.array([64, 64])
    for target in (1, 2, 4, 6, 8, 12):
        assert np.array_equal(allocate(noisy, weights, target), allocate(risen, weights, target))


def test_channels_that_cost_nothing_go_first_and_altogether() -> None:
    costs = np.array([[0, 1.0, 2, 3, 4], [0, 0, 0, 0, 0]])
    assert allocate(costs, np.array([64, 64]), 15).tolist() == [16, 0]


def test_a_wide_row_must_save_as_much_per_bit_as_a_short_one() -> None:
    costs = np.array([[0, 1.0, 2, 3, 4], [0, 1.5, 3, 4.5, 6]])
    # The second row costs half more and saves twice as much.
    assert allocate(costs, np.array([64, 128]), 12).tolist() == [16, 8]


def test_sixteen_bits_keep_every_channel() -> None:
    costs, weights = drawn_costs(0, 20)
    assert (allocate(costs, weights, 16) == 16).all()


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_sensitivity_that_is_no_number_is_refused(value: float) -> None:
    costs, weights = drawn_costs(0, 20)
    costs[7, 2] = value
    with pytest.raises(AllocationError, match="sensitivity of 1 channels is NaN or infinite"):
        allocate(costs, weights, 4)


def test_linear_layers_share_one_budget_and_get_their_own_rows_back() -> None:
    costs, _ = drawn_costs(1, 7)
    rows = torch.from_numpy(costs).float()
    layers = {"one": ChannelCosts(rows[:3], 64), "other": ChannelCosts(rows[3:], 172)}
    bits = allocate_layers(layers, 4)
    assert {name: (len(found), found.dtype) for name, found in bits.items()} == {
        "one": (3, torch.uint8),
        "other": (4, torch.uint8),
    }
    together = allocate(rows.double().numpy(), np.array([64] * 3 + [172] * 4), 4)
    assert torch.cat([*bits.values()]).tolist() == together.tolist()

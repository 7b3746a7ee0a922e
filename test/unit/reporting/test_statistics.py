"""Intervals of success rates and of their differences."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sqap_vla_ros.reporting.statistics import paired_difference, success_rate

Pairs = st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=60)


def outcomes(both: int, only_ours: int, only_theirs: int, neither: int) -> tuple[list[bool], list[bool]]:
    """Ours and theirs with a table of these counts."""
    ours = [True] * (both + only_ours) + [False] * (only_theirs + neither)
    theirs = [True] * both + [False] * only_ours + [True] * only_theirs + [False] * neither
    return ours, theirs


def test_wilsons_interval_of_81_in_263_is_the_published_one() -> None:
    # Newcombe 1998, "Two-sided confidence intervals for the single proportion", table I, method 3.
    rate = success_rate([True] * 81 + [False] * 182)
    assert (round(rate.low, 4), round(rate.high, 4)) == (0.2553, 0.3662)


def test_no_failure_in_ten_leaves_room_for_some() -> None:
    rate = success_rate([True] * 10)
    assert rate.high == 1.0 and 0.69 < rate.low < 0.75


def test_a_rate_needs_an_outcome() -> None:
    with pytest.raises(ValueError, match="no outcome"):
        success_rate([])


def test_newcombes_interval_is_put_together_from_both_wilson_intervals() -> None:
    # Uncorrelated outcomes: the formula without its middle term.
    ours, theirs = outcomes(9, 9, 3, 3)
    a, b = success_rate(ours), success_rate(theirs)
    difference = paired_difference(ours, theirs)
    assert difference.low == pytest.approx(0.25 - np.hypot(a.value - a.low, b.high - b.value))
    assert difference.high == pytest.approx(0.25 + np.hypot(a.high - a.value, b.value - b.low))


def test_outcomes_that_go_together_narrow_the_interval() -> None:
    together = paired_difference(*outcomes(40, 10, 0, 40))
    apart = paired_difference(*outcomes(20, 30, 20, 20))
    assert together.value == pytest.approx(apart.value)
    assert together.high - together.low < apart.high - apart.low


@given(Pairs)
def test_a_difference_lies_in_its_interval_and_both_are_possible(pairs: list[tuple[bool, bool]]) -> None:
    found = paired_difference(*map(list, zip(*pairs, strict=True)))
    assert -1 <= found.low <= found.value <= found.high <= 1


@given(Pairs)
def test_exchanging_the_policies_turns_the_difference_round(pairs: list[tuple[bool, bool]]) -> None:
    ours, theirs = map(list, zip(*pairs, strict=True))
    one, other = paired_difference(ours, theirs), paired_difference(theirs, ours)
    assert (one.value, one.low, one.high) == pytest.approx((-other.value, -other.high, -other.low))


def test_nine_in_ten_intervals_and_more_cover_the_true_difference() -> None:
    generator = np.random.default_rng(0)
    covered = 0
    for _ in range(400):
        easy = generator.random(60) < 0.5  # episodes differ: the outcomes go together
        ours, theirs = (generator.random((2, 60)) < np.where(easy, [[0.95], [0.9]], [[0.7], [0.55]])).tolist()
        found = paired_difference(ours, theirs)
        covered += found.low <= 0.1 <= found.high
    assert 0.92 < covered / 400 <= 1.0


def test_different_numbers_of_outcomes_are_no_pairs() -> None:
    with pytest.raises(ValueError, match="shorter|longer"):
        paired_difference([True, False], [True])

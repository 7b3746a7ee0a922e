"""Which tokens are kept: the three criteria against brute force."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sqap_vla_ros.core.token_selection import Reason
from sqap_vla_ros.perception.patches import ring_tokens
from sqap_vla_ros.vlm.pruning.sqap import farthest_points, select_tokens

KEEP, TOP_K = 154, 31
NO_RING = np.zeros(0, np.int64)
AFFINE = np.array([[224 / 640, 0, 0], [0, 224 / 480, 0]])

scores_of = st.integers(0, 2**32 - 1).map(lambda seed: np.random.default_rng(seed).random(256, np.float32))
rings = st.tuples(st.floats(0, 639), st.floats(0, 479)).map(lambda px: ring_tokens(np.array(px), AFFINE, 2))


def with_reason(selection, reason):
    return set(np.flatnonzero(selection.reasons & int(reason)).tolist())


def squared_distance(one, other, columns=16):
    return (one // columns - other // columns) ** 2 + (one % columns - other % columns) ** 2


@given(scores_of, rings | st.just(NO_RING), st.integers(60, 256), st.integers(0, 35))
def test_exactly_keep_tokens_stay_in_ascending_order(scores, ring, keep, top_k):
    selection = select_tokens(scores, ring, keep, top_k)
    assert len(selection.indices) == keep
    assert (np.diff(selection.indices) > 0).all()
    assert selection.indices.dtype == np.int64


@given(scores_of, rings)
def test_the_kept_tokens_are_those_with_a_reason(scores, ring):
    selection = select_tokens(scores, ring, KEEP, TOP_K)
    np.testing.assert_array_equal(selection.indices, np.flatnonzero(selection.reasons))


@given(scores_of, rings)
def test_the_highest_scores_are_kept_for_attention(scores, ring):
    selection = select_tokens(scores, ring, KEEP, TOP_K)
    assert with_reason(selection, Reason.ATTENTION) == set(np.argsort(scores)[-TOP_K:].tolist())


@given(scores_of, rings)
def test_the_whole_ring_is_kept_for_the_ring(scores, ring):
    assert with_reason(select_tokens(scores, ring, KEEP, TOP_K), Reason.RING) == set(ring.tolist())


def test_a_token_chosen_twice_carries_both_reasons_and_its_place_goes_to_sampling():
    scores = np.zeros(256)
    scores[:10] = 1
    selection = select_tokens(scores, np.arange(5, 15), keep=40, top_k=10)
    assert with_reason(selection, Reason.ATTENTION) & with_reason(selection, Reason.RING) == set(range(5, 10))
    assert len(with_reason(selection, Reason.SPATIAL)) == 40 - 15


@given(scores_of, rings)
def test_sampled_tokens_have_no_other_reason(scores, ring):
    selection = select_tokens(scores, ring, KEEP, TOP_K)
    spatial = with_reason(selection, Reason.SPATIAL)
    assert not spatial & (with_reason(selection, Reason.ATTENTION) | with_reason(selection, Reason.RING))


@given(st.lists(st.integers(0, 3), min_size=256, max_size=256))
def test_equal_scores_go_to_the_lower_index(scores):
    selection = select_tokens(np.array(scores, np.float32), NO_RING, KEEP, TOP_K)
    ranked = sorted(range(256), key=lambda token: (-scores[token], token))
    assert with_reason(selection, Reason.ATTENTION) == set(ranked[:TOP_K])


def test_without_scores_sampling_takes_the_share_of_attention():
    selection = select_tokens(None, NO_RING, KEEP, TOP_K)
    assert len(with_reason(selection, Reason.SPATIAL)) == KEEP


@given(scores_of, rings)
def test_the_same_input_gives_the_same_tokens(scores, ring):
    first, second = (select_tokens(scores.copy(), ring, KEEP, TOP_K) for _ in range(2))
    np.testing.assert_array_equal(first.reasons, second.reasons)


def test_keeping_everything_keeps_everything():
    np.testing.assert_array_equal(select_tokens(np.ones(256), NO_RING, 256, TOP_K).indices, np.arange(256))


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_scores_that_are_not_finite_are_refused(value):
    scores = np.ones(256)
    scores[7] = value
    with pytest.raises(ValueError, match="256 finite numbers"):
        select_tokens(scores, NO_RING, KEEP, TOP_K)


def test_a_wrong_number_of_scores_is_refused():
    with pytest.raises(ValueError, match="256 finite numbers, got \\(255,\\)"):
        select_tokens(np.ones(255), NO_RING, KEEP, TOP_K)


def test_attention_and_ring_beyond_the_quota_are_refused():
    with pytest.raises(ValueError, match="attention \\(31\\) and ring \\(25\\) choose 56 tokens, more than 55"):
        select_tokens(np.ones(256), np.arange(100, 125), keep=55, top_k=31)


@pytest.mark.parametrize("keep", [0, 257])
def test_a_quota_outside_the_grid_is_refused(keep):
    with pytest.raises(ValueError, match="from 1 to 256"):
        select_tokens(None, NO_RING, keep, 0)


@given(st.sets(st.integers(0, 47)), st.integers(0, 48))
def test_each_pick_is_farthest_from_all_before_it_and_the_first_of_equals(seeds, count):
    count = min(count, 48 - len(seeds))
    kept = sorted(seeds)
    for pick in farthest_points(np.array(kept, np.int64), count, rows=6, columns=8).tolist():
        if kept:
            gaps = [min(squared_distance(token, other, 8) for other in kept) for token in range(48)]
            assert pick == gaps.index(max(gaps))
        kept.append(pick)
    assert len(set(kept)) == len(seeds) + count


def test_sampling_from_nothing_starts_nearest_the_centre():
    assert farthest_points(NO_RING, 2).tolist() == [7 * 16 + 7, 255]


def test_sampling_from_nothing_starts_at_the_centre_of_an_odd_grid():
    assert farthest_points(NO_RING, 1, rows=3, columns=5).tolist() == [7]


def test_sampling_nothing_gives_nothing():
    assert farthest_points(NO_RING, 0).size == 0

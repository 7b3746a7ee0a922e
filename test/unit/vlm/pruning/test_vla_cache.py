"""VLA-Cache's choices: what did not change, what the task looks at, and how much each layer reuses."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from sqap_vla_ros.core.token_selection import Reason
from sqap_vla_ros.vlm.pruning.vla_cache import patch_similarity, reusable_tokens, reuse_report, reuse_shares

IMAGE = np.random.default_rng(0).integers(0, 256, (224, 224, 3), np.uint8)


def test_similarity_is_the_cosine_of_a_patch_s_pixels():
    other = np.random.default_rng(1).integers(0, 256, (224, 224, 3), np.uint8)
    similarity = patch_similarity(IMAGE, other)
    for token in (0, 17, 255):
        row, column = divmod(token, 16)
        block = np.s_[14 * row : 14 * row + 14, 14 * column : 14 * column + 14]
        one, two = (image[block].astype(float).ravel() for image in (IMAGE, other))
        assert similarity[token] == pytest.approx(one @ two / np.linalg.norm(one) / np.linalg.norm(two), abs=1e-12)


def test_a_changed_patch_is_the_only_one_below_one():
    changed = IMAGE.copy()
    changed[14:28, 42:56] = 255 - changed[14:28, 42:56]
    assert np.flatnonzero(patch_similarity(IMAGE, changed) < 1).tolist() == [16 + 3]


@given(arrays(np.uint8, (4, 4, 3)))
def test_equal_patches_are_exactly_alike_black_ones_too(image):
    assert (patch_similarity(image, image, grid=2) == 1).all()


def test_black_is_not_like_anything_else():
    assert (patch_similarity(IMAGE * 0, IMAGE) == 0).all()


def test_reusable_is_what_did_not_change_without_what_the_task_looks_at():
    similarity = np.array([0.999, 0.99, 1.0, 0.998, 1.0, 0.997])
    relevance = np.array([0.1, 0.9, 0.8, 0.2, 0.0, 0.3])
    assert reusable_tokens(similarity, relevance, 0.996, most=6, relevant=2).tolist() == [4, 0, 3, 5]


def test_the_most_similar_tokens_are_considered_before_the_relevant_ones_leave():
    similarity, relevance = np.array([0.999, 0.998, 1.0, 0.997]), np.array([0.0, 0.1, 0.9, 0.2])
    assert reusable_tokens(similarity, relevance, 0.996, most=2, relevant=1).tolist() == [0]


def test_a_layer_with_concentrated_attention_reuses_all_and_one_with_even_attention_nothing():
    shares = reuse_shares(np.array([1.0, 3.0, 2.0]), damping=1.0)
    np.testing.assert_allclose(shares, [1.0, 0.0, 0.5])


def test_a_rise_is_followed_by_its_damped_part_and_a_fall_at_once():
    shares = reuse_shares(np.array([3.0, 1.0, 2.0, 1.0]), damping=0.55)
    np.testing.assert_allclose(shares, [0.0, 0.55, 0.5, 0.5 + 0.55 * 0.5])


def test_layers_of_equal_entropy_reuse_all():
    np.testing.assert_array_equal(reuse_shares(np.full(3, 1.5), damping=0.55), np.ones(3))


@given(arrays(np.float64, 8, elements=st.floats(0, 6)), st.floats(0.1, 1))
def test_shares_lie_between_none_and_all(entropies, damping):
    shares = reuse_shares(entropies, damping)
    assert (shares >= 0).all() and (shares <= 1).all()


def test_all_tokens_are_reported_as_available_and_the_reused_ones_marked():
    report = reuse_report(np.array([3, 5]))
    assert len(report.indices) == 256
    assert np.flatnonzero(report.reasons == Reason.OTHER).tolist() == [3, 5]
    assert np.count_nonzero(report.reasons == Reason.UNPRUNED) == 254

"""EfficientVLA's choices against loops written out."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sqap_vla_ros.core.token_selection import Reason
from sqap_vla_ros.vlm.pruning.efficientvla import least_important, relevant_and_diverse

COUNT = 48


def cosine(one, other):
    return float(one @ other / (np.linalg.norm(one) * np.linalg.norm(other)))


@given(st.integers(0, 2**32 - 1), st.integers(4, COUNT), st.sampled_from([0.0, 0.3, 0.5, 1.0]))
def test_key_tokens_then_relevant_ones_then_those_least_like_the_key_tokens(seed, keep, share):
    generator = np.random.default_rng(seed)
    attention = generator.random((7, COUNT), np.float32)
    states = generator.standard_normal((COUNT, 12), np.float32)
    selection = relevant_and_diverse(attention, states, keep, 4, share, rows=6, columns=8)
    relevance = [sum(float(row[token]) for row in attention) for token in range(COUNT)]
    ranked = sorted(range(COUNT), key=lambda token: -relevance[token])
    relevant = ranked[: 4 + int(share * (keep - 4))]
    unlike = {
        token: 1 - max(cosine(states[token].astype(float), states[key].astype(float)) for key in ranked[:4])
        for token in range(COUNT)
        if token not in relevant
    }
    diverse = sorted(unlike, key=lambda token: -unlike[token])[: keep - len(relevant)]
    assert np.flatnonzero(selection.reasons == Reason.ATTENTION).tolist() == sorted(relevant)
    assert np.flatnonzero(selection.reasons == Reason.OTHER).tolist() == sorted(diverse)
    assert len(selection.indices) == keep


def test_scaling_a_state_does_not_change_the_choice():
    generator = np.random.default_rng(0)
    attention, states = generator.random((3, COUNT)), generator.standard_normal((COUNT, 8))
    scaled = states * generator.uniform(0.1, 10, (COUNT, 1))
    one, other = (relevant_and_diverse(attention, values, 20, 4, 0.5, 6, 8) for values in (states, scaled))
    np.testing.assert_array_equal(one.reasons, other.reasons)


def test_a_rotation_of_the_residual_stream_does_not_change_the_choice():
    generator = np.random.default_rng(1)
    attention, states = generator.random((3, COUNT)), generator.standard_normal((COUNT, 8))
    rotation, _ = np.linalg.qr(generator.standard_normal((8, 8)))
    one, other = (relevant_and_diverse(attention, values, 20, 4, 0.5, 6, 8) for values in (states, states @ rotation))
    np.testing.assert_array_equal(one.reasons, other.reasons)


@pytest.mark.parametrize("ratio, dropped", [(0.0, ()), (0.25, (2,)), (0.5, (0, 2)), (0.75, (0, 2, 3))])
def test_the_least_important_layers_go_and_are_named_in_order(ratio, dropped):
    assert least_important(np.array([0.3, 0.9, 0.1, 0.5]), ratio) == dropped


def test_four_of_the_32_published_layers_go():
    assert least_important(np.arange(32.0), 0.125) == (0, 1, 2, 3)

"""Tokens kept at random."""

import numpy as np

from sqap_vla_ros.core.token_selection import Reason
from sqap_vla_ros.vlm.pruning.random_dropping import random_tokens


def test_exactly_as_many_tokens_stay_as_asked_for():
    for keep in (1, 154, 256):
        selection = random_tokens(5, keep)
        assert len(selection.indices) == keep == np.count_nonzero(selection.reasons)
        assert (selection.reasons[selection.indices] == Reason.OTHER).all()


def test_a_seed_means_one_choice_and_another_seed_another():
    np.testing.assert_array_equal(random_tokens(7, 100).indices, random_tokens(7, 100).indices)
    assert not np.array_equal(random_tokens(7, 100).indices, random_tokens(8, 100).indices)


def test_a_stamp_of_this_century_is_a_seed():
    assert len(random_tokens(1_790_000_000_000_000_000, 154).indices) == 154


def test_every_token_has_the_same_chance():
    counts = sum(random_tokens(seed, 128).reasons > 0 for seed in range(400))
    # 400 draws of probability 1/2: six standard deviations are 60.
    assert counts.min() > 140 and counts.max() < 260

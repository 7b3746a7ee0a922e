"""FastV's choice against a sort written out."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from sqap_vla_ros.core.token_selection import Reason
from sqap_vla_ros.vlm.pruning.fastv import most_attended


@given(st.lists(st.integers(0, 5), min_size=48, max_size=48), st.integers(1, 48))
def test_the_highest_scores_stay_and_equal_ones_go_to_the_lower_index(scores, keep):
    selection = most_attended(np.array(scores, np.float32), keep, rows=6, columns=8)
    ranked = sorted(range(48), key=lambda token: (-scores[token], token))
    assert selection.indices.tolist() == sorted(ranked[:keep])
    assert set(selection.reasons[selection.indices].tolist()) == {int(Reason.ATTENTION)}

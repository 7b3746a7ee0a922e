"""Visual tokens kept at random: the baseline for every selector."""

import numpy as np

from sqap_vla_ros.core.token_selection import Reason, TokenSelection, selection_of

# Second word of the Philox key; the sampler's noise has 0 there.
_STREAM = 1


def random_tokens(seed: int, keep: int, rows: int = 16, columns: int = 16) -> TokenSelection:
    """Keep `keep` tokens, each set of them equally likely; the same seed gives the same tokens."""
    generator = np.random.Generator(np.random.Philox(key=np.array([seed, _STREAM], np.uint64)))
    return selection_of({Reason.OTHER: generator.permutation(rows * columns)[:keep]}, rows, columns)

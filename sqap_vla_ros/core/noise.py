"""The random numbers of a plan."""

import numpy as np


def philox(seed: int) -> np.random.Generator:
    """The generator of a plan's noise; it runs on the CPU, so that a seed means the same noise on every device."""
    return np.random.Generator(np.random.Philox(key=seed))

"""The choice of tokens on the device is numpy's, whatever the scores and wherever the ring."""

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from sqap_vla_ros.vlm.pruning.on_device import select_on_device
from sqap_vla_ros.vlm.pruning.sqap import select_tokens

CASES = 1000


def ring_of(centre: NDArray[np.int32], radius: int) -> NDArray[np.int64]:
    row, column = np.divmod(np.arange(256), 16)
    return np.flatnonzero(np.maximum(abs(column - centre[0]), abs(row - centre[1])) <= radius)


def scores_of(kind: str, generator: np.random.Generator) -> NDArray[np.float32]:
    if kind == "ties":
        return generator.integers(0, 4, (CASES, 256)).astype(np.float32)
    if kind == "equal":
        return np.zeros((CASES, 256), np.float32)
    return generator.standard_normal((CASES, 256)).astype(np.float32)


@pytest.mark.parametrize("kind", ["random", "ties", "equal"])
@pytest.mark.parametrize(
    ("keep", "top_k", "radius"), [(154, 31, 2), (102, 20, 2), (60, 0, 3), (256, 51, 1), (30, 5, 0)]
)
def test_thousands_of_choices_equal_numpys(kind: str, keep: int, top_k: int, radius: int) -> None:
    generator = np.random.default_rng([keep, len(kind)])
    scores = scores_of(kind, generator)
    centres = generator.integers(0, 16, (CASES, 2), dtype=np.int32)
    valid = generator.random(CASES) < 0.8
    indices, reasons = select_on_device(
        *map(torch.from_numpy, (scores, centres, valid)), keep=keep, top_k=top_k, radius=radius
    )
    for case in range(CASES):
        ring = ring_of(centres[case], radius) if valid[case] else np.zeros(0, np.int64)
        wanted = select_tokens(scores[case], ring, keep, top_k)
        np.testing.assert_array_equal(indices[case], wanted.indices)
        np.testing.assert_array_equal(reasons[case], wanted.reasons)


def test_scores_that_are_no_numbers_are_never_chosen_by_attention() -> None:
    scores = torch.arange(256.0)[None].clone()
    scores[0, 255] = torch.nan
    centre, valid = torch.zeros(1, 2, dtype=torch.int32), torch.zeros(1, dtype=torch.bool)
    _, reasons = select_on_device(scores, centre, valid, keep=154, top_k=1, radius=2)
    assert torch.nonzero(reasons[0] == 1).flatten().tolist() == [254]

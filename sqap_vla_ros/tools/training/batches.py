"""Batches made in the background, each from its number alone, so that a resumed training sees the same ones."""

from collections import deque
from collections.abc import Generator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import count
from typing import Self

import numpy as np
import torch
from torch import Tensor

from sqap_vla_ros.tools.training.dataset import Sample, Samples
from sqap_vla_ros.tools.training.losses import Batch, SeededNoise, draw_noise
from sqap_vla_ros.tools.training.settings import TrainingSettings
from sqap_vla_ros.vlm.tokenizer import PAD_ID, PromptTokenizer

_AHEAD = 4
# Lengths of the whole sequence that CPU kernels like.
_TEXT_MULTIPLE = 8


@dataclass(frozen=True)
class Text:
    """Instructions of all tasks as rows of a small embedding table, which has the token ids in use only.

    Attributes:
        vocabulary: int64 (rows,), the token id of each row of the table, ascending.
        rows: int64 (tasks, text), rows of the table.
        mask: bool (tasks, text), which are not padding.
    """

    vocabulary: Tensor
    rows: Tensor
    mask: Tensor

    @classmethod
    def of(cls, tokenizer: PromptTokenizer, instructions: Sequence[str]) -> Self:
        """Encode the instructions of the tasks."""
        ids, mask = tokenizer.encode_batch(instructions)
        missing = -ids.shape[1] % _TEXT_MULTIPLE
        ids = torch.nn.functional.pad(ids, (0, missing), value=PAD_ID)
        mask = torch.nn.functional.pad(mask, (0, missing), value=False)
        vocabulary, rows = ids.unique(return_inverse=True)
        return cls(vocabulary, rows, mask)


def collate(samples: Sequence[Sample], text: Text) -> Batch:
    """Stack samples into a batch."""
    tasks = [sample.task for sample in samples]

    def stacked(name: str) -> Tensor:
        return torch.from_numpy(np.stack([getattr(sample, name) for sample in samples]))

    return Batch(
        images=stacked("image"),
        input_ids=text.rows[tasks],
        text_mask=text.mask[tasks],
        actions=stacked("actions"),
        valid=stacked("valid"),
        points_px=stacked("points_px"),
        points_m=stacked("points_m"),
        phase=torch.tensor([sample.phase for sample in samples]),
    )


def make_batch(samples: Samples, text: Text, settings: TrainingSettings, step: int) -> tuple[Batch, SeededNoise]:
    """The batch and the noise of an optimiser step, which depend on seed and step only."""
    rng = np.random.Generator(np.random.Philox(key=[settings.seed, step]))
    batch = collate([samples.draw(rng, settings.augment) for _ in range(settings.batch)], text)
    generator = torch.Generator().manual_seed(int(rng.integers(2**63)))
    shape = (settings.batch, *batch.actions.shape[1:])
    return batch, draw_noise(shape, settings.draws, settings.condition_dropout, generator)


def prefetched(
    samples: Samples, text: Text, settings: TrainingSettings, first_step: int, workers: int = 1
) -> Generator[tuple[Batch, SeededNoise]]:
    """Yield the batches from a first step on, made in background threads while the network works."""
    pool = ThreadPoolExecutor(workers, thread_name_prefix="batches")
    steps = count(first_step)
    waiting: deque[Future[tuple[Batch, SeededNoise]]] = deque()
    try:
        while True:
            while len(waiting) < _AHEAD * workers:
                waiting.append(pool.submit(make_batch, samples, text, settings, next(steps)))
            yield waiting.popleft().result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)

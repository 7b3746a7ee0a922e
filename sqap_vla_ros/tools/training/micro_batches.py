"""Gradient accumulation over micro-batches, which a CPU computes in parallel, each in a thread of its own."""

import copy
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import fields

import torch
from torch import Tensor

from sqap_vla_ros.tools.training.losses import Batch, Learner, SeededNoise, weighted
from sqap_vla_ros.tools.training.plain_attention import PlainAttention
from sqap_vla_ros.tools.training.settings import TrainingSettings

# A micro-batch of fewer frames is not worth a thread.
_SMALLEST = 8


class MicroBatches:
    """Forward and backward passes over a batch; gradients are left in the learner's parameters.

    Threads that compute together on one small product wait for each other: two with half a batch each are a fifth
    faster (torch 2.13, Zen 4, size small). On a GPU, and with one thread, the whole batch is one micro-batch.

    Args:
        learner: Network and auxiliary heads.
        settings: Settings of the training.
    """

    def __init__(self, learner: Learner, settings: TrainingSettings) -> None:
        self._weights = settings.loss_weights
        device = next(learner.parameters()).device
        self._device = device.type
        threads = torch.get_num_threads() if self._device == "cpu" else 1
        self.count = max(1, min(threads, settings.batch // _SMALLEST))
        self._learners = [learner, *(_sharing_weights(learner) for _ in range(self.count - 1))]
        self._pool = ThreadPoolExecutor(self.count, "micro-batches", torch.set_num_threads, (threads // self.count,))

    def backward(self, batch: Batch, noise: SeededNoise) -> dict[str, Tensor]:
        """Leave the gradients of the weighted losses; returns the mean of each loss by its name."""
        parts = split(batch, noise, self.count)
        found = list(self._pool.map(self._one, self._learners, parts))
        first, *others = ([p.grad for p in learner.parameters() if p.grad is not None] for learner in self._learners)
        for gradients in others:
            torch._foreach_add_(first, gradients)
        for learner in self._learners[1:]:
            learner.zero_grad(set_to_none=True)
        return {name: torch.stack([losses[name] for losses in found]).mean() for name in found[0]}

    def _one(self, learner: Learner, part: tuple[Batch, SeededNoise]) -> dict[str, Tensor]:
        """Run both passes over a micro-batch, in a thread of the pool."""
        attention = PlainAttention() if self._device == "cpu" else nullcontext()
        with torch.autocast(self._device, torch.bfloat16), attention:
            losses = learner.losses(*part)
        (weighted(losses, self._weights) / self.count).backward()
        return {name: value.detach() for name, value in losses.items()}


def _sharing_weights(learner: Learner) -> Learner:
    """A second module with the same weights in the same memory, but gradients of its own."""
    other = copy.deepcopy(learner)
    for mine, theirs in zip(other.parameters(), learner.parameters(), strict=True):
        mine.data = theirs.data
    return other


def split(batch: Batch, noise: SeededNoise, count: int) -> list[tuple[Batch, SeededNoise]]:
    """Split a batch into micro-batches, each with the noise of its frames."""
    if count == 1:
        return [(batch, noise)]
    frames = len(batch.images)

    def of_frames(drawn: Tensor) -> tuple[Tensor, ...]:
        return tuple(part.flatten(0, 1) for part in drawn.unflatten(0, (-1, frames)).tensor_split(count, dim=1))

    batches = zip(*(getattr(batch, field.name).tensor_split(count) for field in fields(batch)), strict=True)
    noises = zip(*(of_frames(getattr(noise, field.name)) for field in fields(noise)), strict=True)
    return [(Batch(*one), SeededNoise(*other)) for one, other in zip(batches, noises, strict=True)]

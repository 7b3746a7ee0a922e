"""A batch's gradient, computed on a CPU by several threads, each of which has a share of the frames."""

import copy
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import fields

import torch
from torch import Tensor

from sqap_vla_ros.tools.training.losses import Batch, Draws, Learner, weighted
from sqap_vla_ros.tools.training.plain_attention import PlainAttention
from sqap_vla_ros.tools.training.settings import TrainingSettings

# Smaller products than of so many frames are not worth a thread.
_SMALLEST = 8


class Shares:
    """Forward and backward passes; gradients are left in the learner's parameters.

    Threads that compute together on one small product wait for each other: two with half a batch each are a fifth
    faster (torch 2.13, Zen 4, size small). On a GPU, and with one thread, the whole batch is one share.

    Args:
        learner: Network and auxiliary heads.
        settings: Of the training.
    """

    def __init__(self, learner: Learner, settings: TrainingSettings) -> None:
        self._weights = settings.loss_weights
        device = next(learner.parameters()).device
        self._device = device.type
        threads = torch.get_num_threads() if self._device == "cpu" else 1
        self.count = max(1, min(threads, settings.batch // _SMALLEST))
        self._learners = [learner, *(_sharing_weights(learner) for _ in range(self.count - 1))]
        self._pool = ThreadPoolExecutor(self.count, "shares", torch.set_num_threads, (threads // self.count,))

    def backward(self, batch: Batch, draws: Draws) -> dict[str, Tensor]:
        """Leave the gradients of the weighted losses, and return each loss by its name; means over the shares."""
        shares = split(batch, draws, self.count)
        found = list(self._pool.map(self._one, self._learners, shares))
        first, *others = ([p.grad for p in learner.parameters() if p.grad is not None] for learner in self._learners)
        for gradients in others:
            torch._foreach_add_(first, gradients)
        for learner in self._learners[1:]:
            learner.zero_grad(set_to_none=True)
        return {name: torch.stack([losses[name] for losses in found]).mean() for name in found[0]}

    def _one(self, learner: Learner, share: tuple[Batch, Draws]) -> dict[str, Tensor]:
        """Both passes over a share, in a thread of the pool."""
        attention = PlainAttention() if self._device == "cpu" else nullcontext()
        with torch.autocast(self._device, torch.bfloat16), attention:
            losses = learner.losses(*share)
        (weighted(losses, self._weights) / self.count).backward()
        return {name: value.detach() for name, value in losses.items()}


def _sharing_weights(learner: Learner) -> Learner:
    """Another module with the same weights in the same memory, but gradients of its own."""
    other = copy.deepcopy(learner)
    for mine, theirs in zip(other.parameters(), learner.parameters(), strict=True):
        mine.data = theirs.data
    return other


def split(batch: Batch, draws: Draws, count: int) -> list[tuple[Batch, Draws]]:
    """Shares of a batch, each with the draws of its frames."""
    if count == 1:
        return [(batch, draws)]
    frames = len(batch.images)

    def of_frames(drawn: Tensor) -> tuple[Tensor, ...]:
        return tuple(part.flatten(0, 1) for part in drawn.unflatten(0, (-1, frames)).tensor_split(count, dim=1))

    batches = zip(*(getattr(batch, field.name).tensor_split(count) for field in fields(batch)), strict=True)
    drawn = zip(*(of_frames(getattr(draws, field.name)) for field in fields(draws)), strict=True)
    return [(Batch(*one), Draws(*other)) for one, other in zip(batches, drawn, strict=True)]

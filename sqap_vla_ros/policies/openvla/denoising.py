"""The diffusion head's process: 50 steps with clipped clean actions, and deterministic sampling in some of them."""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

PROCESS_STEPS = 50

Predict = Callable[[Tensor, int], Tensor]
"""Predicts the noise in actions (batch, chunk, action_dim) at a step of the process: the same shape."""


def alphas_cumprod() -> Tensor:
    """Products of 1 − beta up to each step, float32 (50,); betas follow a squared cosine, at most 0.999.

    float32 throughout, as the reference computes them.
    """
    return torch.cumprod(1.0 - betas(), dim=0)


def betas() -> Tensor:
    """Variance that each step adds, float32 (50,)."""

    def remaining(time: float) -> float:
        return math.cos((time + 0.008) / 1.008 * math.pi / 2) ** 2

    edges = [remaining(step / PROCESS_STEPS) for step in range(PROCESS_STEPS + 1)]
    return torch.tensor([min(1 - after / before, 0.999) for before, after in zip(edges, edges[1:], strict=False)])


def timesteps(steps: int) -> list[int]:
    """Steps of the process that a sampler with this many steps visits, descending to 0.

    Raises:
        ValueError: There are fewer than 1 or more than 50.
    """
    if not 1 <= steps <= PROCESS_STEPS:
        raise ValueError(f"steps = {steps}: expected 1 to {PROCESS_STEPS}")
    stride = PROCESS_STEPS // steps
    return [step * stride for step in reversed(range(steps))]


@dataclass(frozen=True)
class Denoising:
    """Deterministic sampling (Song et al. 2021, eta = 0), with clean actions clipped to ±1 in each step.

    Attributes:
        steps: Number of steps.
    """

    steps: int = PROCESS_STEPS

    def __post_init__(self) -> None:
        timesteps(self.steps)

    def trajectory(self, predict: Predict, noise: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
        """The predicted noise of each step, and the actions after it.

        Args:
            predict: The network.
            noise: float32 (batch, chunk, action_dim), standard normal.
        """
        products, stride = alphas_cumprod(), PROCESS_STEPS // self.steps
        x = noise
        for step in timesteps(self.steps):
            predicted = predict(x, step)
            now = float(products[step])
            before = float(products[step - stride]) if step >= stride else 1.0
            clean = ((x - math.sqrt(1 - now) * predicted) / math.sqrt(now)).clamp(-1, 1)
            # The noise is not computed again from the clipped actions.
            x = math.sqrt(before) * clean + math.sqrt(1 - before) * predicted
            yield predicted, x


def step_embedding(step: int | Tensor, width: int) -> Tensor:
    """Sinusoids of steps, sines first: float32 (steps, width)."""
    half = width // 2
    steps = torch.as_tensor(step, dtype=torch.float32).view(-1, 1)
    angles = steps * torch.exp(torch.arange(half, device=steps.device) * (-math.log(10000) / (half - 1)))
    return torch.cat((angles.sin(), angles.cos()), dim=1)

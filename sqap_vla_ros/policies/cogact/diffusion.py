"""Diffusion over action chunks: the 100-step process, and its DDIM and DDPM samplers.

Samplers are values without state, so that what is computed for one number of steps is never used for another.
"""

from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sqap_vla_ros.policies.cogact.action_head import ActionHead, Blocks

PROCESS_STEPS = 100


@dataclass(frozen=True)
class Schedule:
    """Coefficients of a (re-spaced) diffusion process; all arrays float64 (steps,), ascending in time.

    Attributes:
        timesteps: int64 (steps,), steps of the 100-step process, an input of the network.
        betas: Variances added per step.
        alphas_cumprod: Products of 1 − beta up to each step.
        alphas_cumprod_prev: The same one step earlier; 1 before the first.
    """

    timesteps: NDArray[np.int64]
    betas: NDArray[np.float64]
    alphas_cumprod: NDArray[np.float64]
    alphas_cumprod_prev: NDArray[np.float64]

    @cached_property
    def sqrt_recip_alphas_cumprod(self) -> NDArray[np.float64]:
        """Factor of x in x0 = a·x − b·noise."""
        return np.sqrt(1.0 / self.alphas_cumprod)

    @cached_property
    def sqrt_recipm1_alphas_cumprod(self) -> NDArray[np.float64]:
        """Factor of the noise in x0 = a·x − b·noise."""
        return np.sqrt(1.0 / self.alphas_cumprod - 1.0)

    @cached_property
    def posterior_variance(self) -> NDArray[np.float64]:
        """Variance of q(x_{t-1} | x_t, x_0)."""
        return self.betas * (1.0 - self.alphas_cumprod_prev) / (1.0 - self.alphas_cumprod)

    @cached_property
    def posterior_log_variance_clipped(self) -> NDArray[np.float64]:
        """Logarithm of the posterior variance; the first value, −inf, is replaced by the second."""
        variance = self.posterior_variance
        return np.log(np.append(variance[1:2], variance[1:]) if len(variance) > 1 else variance)

    @cached_property
    def posterior_mean_coef1(self) -> NDArray[np.float64]:
        """Factor of x_0 in the posterior's mean."""
        return self.betas * np.sqrt(self.alphas_cumprod_prev) / (1.0 - self.alphas_cumprod)

    @cached_property
    def posterior_mean_coef2(self) -> NDArray[np.float64]:
        """Factor of x_t in the posterior's mean."""
        return (1.0 - self.alphas_cumprod_prev) * np.sqrt(1.0 - self.betas) / (1.0 - self.alphas_cumprod)


@lru_cache
def process_schedule() -> Schedule:
    """The 100-step process with squared-cosine cumulative products, betas at most 0.999 (Nichol & Dhariwal 2021)."""
    edges = np.arange(PROCESS_STEPS + 1) / PROCESS_STEPS
    alphas_bar = np.cos((edges + 0.008) / 1.008 * np.pi / 2) ** 2
    betas = np.minimum(1 - alphas_bar[1:] / alphas_bar[:-1], 0.999)
    return _schedule(np.arange(PROCESS_STEPS), betas)


@lru_cache
def ddim_schedule(steps: int) -> Schedule:
    """The process re-spaced for DDIM.

    Raises:
        ValueError: No integer stride through 100 steps gives this number.
    """
    timesteps = ddim_timesteps(steps)
    kept = process_schedule().alphas_cumprod[timesteps]
    return _schedule(timesteps, 1.0 - kept / np.append(1.0, kept[:-1]))


def _schedule(timesteps: NDArray[np.int64], betas: NDArray[np.float64]) -> Schedule:
    alphas_cumprod = np.cumprod(1.0 - betas, dtype=np.float64)
    return Schedule(timesteps, betas, alphas_cumprod, np.append(1.0, alphas_cumprod[:-1]))


def ddim_timesteps(steps: int) -> NDArray[np.int64]:
    """The steps of the 100-step process that DDIM visits, int64 (steps,), ascending.

    They begin at 0 and have the smallest integer stride that gives this number of steps; a single step is step 50.

    Raises:
        ValueError: No stride gives this number.
    """
    if steps == 1:
        return np.array([50])
    counts = {len(range(0, PROCESS_STEPS, stride)): stride for stride in range(PROCESS_STEPS - 1, 0, -1)}
    if steps not in counts:
        valid = ", ".join(str(count) for count in sorted({1, *counts}))
        raise ValueError(f"DDIM steps = {steps!r}: no stride through {PROCESS_STEPS} steps gives it; one of {valid}")
    return np.arange(0, PROCESS_STEPS, counts[steps])


@dataclass(frozen=True)
class Held:
    """Given actions that guide the samples (inpainting).

    In every step the predicted clean actions are blended with these, and the noise is recomputed from the blend. Where
    the weight is 1, the samples end at `actions`; the free actions are denoised in the context of the given ones.

    Attributes:
        actions: float32 (batch, horizon, action_dim), normalised.
        weights: float32 (horizon, 1), 0 (free) to 1 (fixed).
    """

    actions: Tensor
    weights: Tensor


@dataclass(frozen=True)
class Ddim:
    """Deterministic sampling (Song et al. 2021, eta = 0) in a few steps.

    Attributes:
        steps: Number of steps; see `ddim_timesteps`.
        recompute_every: The action head's blocks run at every n-th step; their output is reused in between.
    """

    steps: int = 10
    recompute_every: int = 1

    def __post_init__(self) -> None:
        ddim_timesteps(self.steps)

    def embed_steps(self, head: ActionHead) -> Tensor:
        """Embeddings of the steps, ascending in time: (steps, width)."""
        return _embedded(head, ddim_schedule(self.steps), head.positional_embedding.device)

    def trajectory(
        self,
        head: ActionHead,
        noise: Tensor,
        z: Tensor,
        guidance: float,
        held: Held | None = None,
        embedded_steps: Tensor | None = None,
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """The actions x after each step, and the clean actions x0 that they were computed from.

        Args:
            head: The noise predictor.
            noise: (batch, horizon, action_dim), initial x.
            z: (batch, 1, token_size), cognition feature.
            guidance: Scale of classifier-free guidance; 1 or less: the plain conditional prediction.
            held: Actions that are given already; None: all are free.
            embedded_steps: (steps, width), the result of `embed_steps`, if it is known already.
        """
        schedule = ddim_schedule(self.steps)
        predict = _predictor(head, schedule, z, guidance, self.recompute_every, embedded_steps)
        x = noise
        for i in reversed(range(self.steps)):
            x0, (scale_x, scale_noise) = _clean(schedule, i, x, predict(x, i), held)
            noise_seen = (scale_x * x - x0) / scale_noise
            previous = np.float32(schedule.alphas_cumprod_prev[i])
            x = float(np.sqrt(previous)) * x0 + float(np.sqrt(np.float32(1) - previous)) * noise_seen
            yield x, x0


@dataclass(frozen=True)
class Ddpm:
    """Ancestral sampling over all 100 steps (Ho et al. 2020, fixed small variance).

    Attributes:
        step_noise: float32 (100, batch, horizon, action_dim), standard normal, in the order of the steps (99 first);
            the last one is not used.
        recompute_every: See `Ddim`.
    """

    step_noise: Tensor
    recompute_every: int = 1

    def trajectory(
        self, head: ActionHead, noise: Tensor, z: Tensor, guidance: float, held: Held | None = None
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """See `Ddim.trajectory`."""
        if self.step_noise.shape != (PROCESS_STEPS, *noise.shape):
            expected = (PROCESS_STEPS, *noise.shape)
            raise ValueError(f"step_noise is {tuple(self.step_noise.shape)}, expected {expected}")
        schedule = process_schedule()
        predict = _predictor(head, schedule, z, guidance, self.recompute_every)
        x = noise
        for i, drawn in zip(reversed(range(PROCESS_STEPS)), self.step_noise.to(noise), strict=True):
            x0, _ = _clean(schedule, i, x, predict(x, i), held)
            x = float(np.float32(schedule.posterior_mean_coef1[i])) * x0 + (
                float(np.float32(schedule.posterior_mean_coef2[i])) * x
            )
            if i > 0:
                x = x + float(np.exp(np.float32(0.5) * np.float32(schedule.posterior_log_variance_clipped[i]))) * drawn
            yield x, x0


Sampler = Ddim | Ddpm


def sample(
    sampler: Sampler,
    head: ActionHead,
    noise: Tensor,
    z: Tensor,
    guidance: float = 1.5,
    held: Held | None = None,
) -> Tensor:
    """Draw action chunks, (batch, horizon, action_dim), normalised and not clipped; arguments as `Ddim.trajectory`."""
    return last_of(sampler.trajectory(head, noise, z, guidance, held))


def last_of(trajectory: Iterator[tuple[Tensor, Tensor]]) -> Tensor:
    """The actions after a trajectory's last step."""
    ((x, _),) = deque(trajectory, maxlen=1)
    return x


def _predictor(
    head: ActionHead,
    schedule: Schedule,
    z: Tensor,
    guidance: float,
    recompute_every: int,
    embedded_steps: Tensor | None = None,
) -> Callable[[Tensor, int], Tensor]:
    """The noise predictor as a function of x and the index of the step; steps and conditions are embedded once."""
    steps = _embedded(head, schedule, z.device) if embedded_steps is None else embedded_steps
    blocks = head.run_blocks if recompute_every == 1 else _reusing(head.run_blocks, recompute_every)
    if guidance > 1.0:
        conditions = head.embed_both_conditions(z)
        return lambda x, i: head.predict_guided(x, steps[i : i + 1], conditions, guidance, blocks)
    condition = head.embed_condition(z)
    return lambda x, i: head.predict(x, steps[i : i + 1], condition, blocks)


def _embedded(head: ActionHead, schedule: Schedule, device: torch.device) -> Tensor:
    return head.embed_steps(torch.from_numpy(schedule.timesteps).to(device))


def _reusing(run_blocks: Blocks, recompute_every: int) -> Blocks:
    """The blocks, run only at every n-th call (EfficientVLA, arXiv 2506.10100).

    Each block adds the outputs of its attention and its MLP to the residual stream. Reusing all of them means reusing
    their sum, the difference between the stream behind and in front of the blocks.
    """
    calls, gained = 0, torch.empty(0)

    def run(hidden: Tensor) -> Tensor:
        nonlocal calls, gained
        calls += 1
        if (calls - 1) % recompute_every:
            return hidden + gained
        output = run_blocks(hidden)
        gained = output - hidden
        return output

    return run


def _clean(
    schedule: Schedule, i: int, x: Tensor, noise: Tensor, held: Held | None
) -> tuple[Tensor, tuple[float, float]]:
    """Clean actions x0 from noisy ones, and the two factors (the float64 tables rounded to float32, as published)."""
    scale_x = float(np.float32(schedule.sqrt_recip_alphas_cumprod[i]))
    scale_noise = float(np.float32(schedule.sqrt_recipm1_alphas_cumprod[i]))
    x0 = scale_x * x - scale_noise * noise
    if held is not None:
        x0 = torch.lerp(x0, held.actions, held.weights)
    return x0, (scale_x, scale_noise)

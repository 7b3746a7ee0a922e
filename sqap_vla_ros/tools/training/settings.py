"""Settings of a training."""

from dataclasses import dataclass, field

from sqap_vla_ros.tools.training.losses import LossWeights
from sqap_vla_ros.tools.training.network import SIZES


class TrainingError(ValueError):
    """A training that cannot begin or be resumed; the message says why and what to do."""


@dataclass(frozen=True)
class TrainingSettings:
    """Settings of a training; the same settings, demonstrations and number of threads give the same weights.

    Attributes:
        size: A key of `network.SIZES`.
        samples: Frames to learn from in all, repetitions counted.
        batch: Frames per step.
        learning_rate: Peak of AdamW's learning rate.
        seed: Seed of weights, samples and noise.
        tasks: Names of the demonstrations' tasks to learn; empty: all.
        augment: Whether pictures are shifted, recoloured and disturbed.
        draws: Number of noise draws per frame (the reference's repeated diffusion steps).
        condition_dropout: Share of draws that see the null condition.
        warm_up: Steps until the peak of the learning rate.
        weight_decay: Weight decay of the matrices.
        average: Decay of the exponential average of the weights, per step.
        gradient_norm: Largest norm of the gradients, to which longer ones are clipped.
        loss_weights: Weights of the auxiliary losses.
        start_from: Directory of an earlier training whose averaged weights are the initial ones; empty: fresh ones.
    """

    size: str = "small"
    samples: int = 400_000
    batch: int = 32
    learning_rate: float = 1e-3
    seed: int = 0
    tasks: tuple[str, ...] = ()
    augment: bool = True
    draws: int = 8
    condition_dropout: float = 0.1
    warm_up: int = 200
    weight_decay: float = 0.02
    average: float = 0.999
    gradient_norm: float = 1.0
    loss_weights: LossWeights = field(default_factory=LossWeights)
    start_from: str = ""

    def __post_init__(self) -> None:
        if self.size not in SIZES:
            raise TrainingError(f"size = '{self.size}': expected one of {', '.join(SIZES)}")
        for name in ("samples", "batch", "draws", "learning_rate"):
            if not getattr(self, name) > 0:
                raise TrainingError(f"{name} = {getattr(self, name)}: expected more than 0")

    @property
    def steps(self) -> int:
        """Optimiser steps in all."""
        return -(-self.samples // self.batch)

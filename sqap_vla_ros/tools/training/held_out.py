"""Errors of a network on demonstrations that it does not learn from, with the same frames and noise every time."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from sqap_vla_ros.config.robot import Configuration
from sqap_vla_ros.perception.conventions import integrate
from sqap_vla_ros.policies.cogact.diffusion import Ddim, sample
from sqap_vla_ros.tools.training.batches import Text, collate
from sqap_vla_ros.tools.training.dataset import Sample
from sqap_vla_ros.tools.training.losses import Learner, draw_noise, noise_loss, point_errors
from sqap_vla_ros.vlm.statistics import GRIPPER, ActionStatistics, denormalise, normalised_actions

_DRAWS = 8
_GUIDANCE = 1.5
_SEED = 20


@dataclass(frozen=True)
class HeldOutErrors:
    """Means over the held-out frames.

    Attributes:
        noise: Loss of the noise prediction.
        displacement_mm: Distance between the ends of a sampled chunk and of the demonstration.
        gripper: Share of the actions whose gripper value is the demonstration's.
        points_px: Distance of each point from its label in the image, for points with any label.
        points_mm: The same in the base frame.
    """

    noise: float
    displacement_mm: float
    gripper: float
    points_px: dict[str, float]
    points_mm: dict[str, float]


class HeldOut:
    """A fixed batch of frames.

    Args:
        samples: The frames.
        text: Instructions of the tasks.
        statistics: Normalisation of the actions.
        configuration: The robot's settings, which define what an action does.
    """

    def __init__(
        self, samples: Sequence[Sample], text: Text, statistics: ActionStatistics, configuration: Configuration
    ) -> None:
        self._samples = samples
        self._batch = collate(samples, text)
        self._statistics = statistics
        self._configuration = configuration
        generator = torch.Generator().manual_seed(_SEED)
        shape = (len(samples), *self._batch.actions.shape[1:])
        self._target_noise = draw_noise(shape, _DRAWS, 0.0, generator)
        self._start_noise = torch.randn(shape, generator=generator)

    @torch.no_grad()
    def measure(self, learner: Learner) -> HeldOutErrors:
        """Measure the errors of a network, in float32 as inference runs it."""
        network = learner.network
        batch = self._batch.to(network.device)
        visual, cognition = learner.features(batch)
        noise = float(noise_loss(network, cognition, batch, self._target_noise.to(network.device)))
        chunks = sample(
            Ddim(), network.action_head, self._start_noise.to(network.device), cognition[:, None].float(), _GUIDANCE
        )
        displacement_mm, gripper = self._compare(normalised_actions(chunks.float().cpu().numpy()))
        points_px, points_m = point_errors(learner.auxiliary, visual, cognition, batch)
        return HeldOutErrors(
            noise, displacement_mm, gripper, points_px, {name: 1e3 * error for name, error in points_m.items()}
        )

    def _compare(self, chunks: np.ndarray) -> tuple[float, float]:
        """Mean final displacement error [mm], and agreement of the gripper; up to the first disturbance."""
        distances, agreements = [], []
        for sampled, chunk in zip(self._samples, chunks, strict=True):
            steps = int(sampled.valid.sum())
            ends = [
                integrate(
                    denormalise(actions[:steps], self._statistics),
                    sampled.T_base_tool,
                    self._configuration.action,
                    self._configuration.frames,
                )[-1, :3, 3]
                for actions in (chunk, sampled.actions)
            ]
            distances.append(np.linalg.norm(ends[0] - ends[1]))
            agreements.append(np.mean(chunk[:steps, GRIPPER] == sampled.actions[:steps, GRIPPER].round()))
        return 1e3 * float(np.mean(distances)), float(np.mean(agreements))

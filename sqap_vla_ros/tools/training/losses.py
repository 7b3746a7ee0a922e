"""The losses: the noise prediction of CogACT, and auxiliary tasks that the simulator has labels for.

The auxiliary heads read what the network computes anyway (projected patches, cognition feature) and are discarded after
training. With them the features tell where things are long before they would with the actions alone.
"""

import math
from dataclasses import dataclass, fields

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from sqap_vla_ros.bags.demonstrations import PHASES, POINTS
from sqap_vla_ros.policies.cogact.diffusion import PROCESS_STEPS, process_schedule
from sqap_vla_ros.policies.cogact.model import CogACT
from sqap_vla_ros.vlm.preprocessing import MODEL_IMAGE_PX, normalise

# Unit of points in the loss: deviations of this size weigh as much as a unit of noise.
_POINT_UNIT_M = 0.1
# Up to here, in these units, smaller deviations weigh less and less: 5 mm, which fingers forgive.
_POINT_SLACK = 0.05
# Of a squared error of the noise, before they are made 1 on average: the last steps' would be over 1000.
_LARGEST_WEIGHT = 20.0


@dataclass(frozen=True)
class Batch:
    """Samples to learn from.

    Attributes:
        images: uint8 (batch, 224, 224, 3), RGB.
        input_ids: int64 (batch, text), rows of the embedding table in use.
        text_mask: bool (batch, text), which of them are not padding.
        actions: float32 (batch, horizon, 7), normalised.
        valid: bool (batch, horizon), which actions are to be imitated.
        points_px: float32 (batch, 3, 2), u and v of tool, object and goal; NaN outside the image.
        points_m: float32 (batch, 3, 3), the same in the base frame; NaN where there is none.
        phase: int64 (batch,), stage of the expert.
    """

    images: Tensor
    input_ids: Tensor
    text_mask: Tensor
    actions: Tensor
    valid: Tensor
    points_px: Tensor
    points_m: Tensor
    phase: Tensor

    def to(self, device: torch.device) -> "Batch":
        """A copy on another device."""
        return Batch(*(getattr(self, field.name).to(device, non_blocking=True) for field in fields(self)))


@dataclass(frozen=True)
class SeededNoise:
    """Noise to predict, drawn from a seed: several draws per sample (the reference's repeated diffusion steps).

    Attributes:
        values: float32 (draws · batch, horizon, 7), standard normal.
        steps: int64 (draws · batch,), of the 100-step process.
        dropped: bool (draws · batch,), where the learned null condition takes the place of the cognition feature.
    """

    values: Tensor
    steps: Tensor
    dropped: Tensor

    def to(self, device: torch.device) -> "SeededNoise":
        """A copy on another device."""
        return SeededNoise(*(getattr(self, field.name).to(device, non_blocking=True) for field in fields(self)))


def draw_noise(
    actions_shape: tuple[int, int, int], draws: int, dropout: float, generator: torch.Generator
) -> SeededNoise:
    """Noise for a batch of actions (batch, horizon, 7); always on the CPU, so that a seed means the same everywhere."""
    batch, *chunk = actions_shape
    count = draws * batch
    return SeededNoise(
        torch.randn((count, *chunk), generator=generator),
        torch.randint(PROCESS_STEPS, (count,), generator=generator),
        torch.rand(count, generator=generator) < dropout,
    )


@dataclass(frozen=True)
class LossWeights:
    """Weights of the auxiliary losses; the weight of the motion is 1."""

    pointer: float = 0.1
    """Weight of the patch that each point is in (cross-entropy)."""
    offset: float = 0.2
    """Weight of the place in that patch (Huber, in patches)."""
    points: float = 0.5
    """Weight of the points in the base frame and the ways between them (Huber, in decimetres)."""
    phase: float = 0.1
    """Weight of the stage of the expert (cross-entropy)."""


class AuxiliaryHeads(nn.Module):
    """Heads that read the features in training only.

    Args:
        width: Channels of the language model.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.query = nn.Linear(width, len(POINTS) * width)
        self.key = nn.Linear(width, width)
        self.offset = nn.Sequential(nn.Linear(2 * width, width), nn.GELU(), nn.Linear(width, 2))
        self.state = nn.Sequential(nn.Linear(width, width), nn.GELU(), nn.Linear(width, 5 * 3 + len(PHASES)))

    def point(self, visual: Tensor, cognition: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Scores of the patches (batch, 3, patches), and the queries (batch, 3, width) and keys they come from."""
        queries = self.query(cognition).unflatten(1, (len(POINTS), -1))
        keys = self.key(visual)
        scores = queries @ keys.transpose(1, 2) * keys.shape[-1] ** -0.5
        return scores.float(), queries, keys

    def place(self, queries: Tensor, keys: Tensor, patches: Tensor) -> Tensor:
        """Offsets (batch, 3, 2) from the corner of given patches, int64 (batch, 3), in patches."""
        chosen = keys.gather(1, patches[..., None].expand(-1, -1, keys.shape[-1]))
        return self.offset(torch.cat((queries, chosen), dim=2)).float()

    def describe(self, cognition: Tensor) -> tuple[Tensor, Tensor]:
        """Points and ways (batch, 5, 3) as `ways` has them, in decimetres; logits of the stage (batch, 4)."""
        state = self.state(cognition).float()
        return state[:, :15].unflatten(1, (5, 3)), state[:, 15:]


class Learner(nn.Module):
    """The network with its auxiliary heads."""

    def __init__(self, network: CogACT) -> None:
        super().__init__()
        self.network = network.requires_grad_(True)
        self.auxiliary = AuxiliaryHeads(network.language.shape.width)

    def features(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Projected patches (batch, patches, width) and cognition features (batch, width)."""
        visual = self.network.projector(self.network.vision(*normalise(batch.images)))
        return visual, self.network.prefill(visual, batch.input_ids, batch.text_mask).cognition

    def losses(self, batch: Batch, noise: SeededNoise) -> dict[str, Tensor]:
        """Each loss by its name: noise, motion, pointer, offset, points, phase."""
        visual, cognition = self.features(batch)
        errors, valid = noise_errors(self.network, cognition, batch, noise)
        return {
            "noise": _masked_mean(errors, valid),
            "motion": _masked_mean(errors * _motion_weights(noise.steps)[:, None], valid),
            **auxiliary_losses(self.auxiliary, visual, cognition, batch),
        }


def weighted(losses: dict[str, Tensor], weights: LossWeights) -> Tensor:
    """The sum that is minimised; the noise itself is in it by its weighted errors, the motion."""
    return (
        losses["motion"]
        + torch.stack([getattr(weights, field.name) * losses[field.name] for field in fields(weights)]).sum()
    )


def noise_loss(network: CogACT, cognition: Tensor, batch: Batch, noise: SeededNoise) -> Tensor:
    """Mean squared error of the predicted noise, over the actions that are to be imitated."""
    return _masked_mean(*noise_errors(network, cognition, batch, noise))


def noise_errors(network: CogACT, cognition: Tensor, batch: Batch, noise: SeededNoise) -> tuple[Tensor, Tensor]:
    """Squared errors of the predicted noise, float32 (draws · batch, horizon), and which are to be counted, bool."""
    head = network.action_head
    repeats = len(noise.steps) // len(cognition)
    z = torch.where(noise.dropped[:, None], head.z_embedder.uncondition, cognition.float().repeat(repeats, 1))
    predicted = head(add_noise(batch.actions.repeat(repeats, 1, 1), noise), noise.steps, z[:, None])
    return (predicted.float() - noise.values).square().mean(2), batch.valid.repeat(repeats, 1)


def _motion_weights(steps: Tensor) -> Tensor:
    """The weights of the noise's errors at int64 (n,) steps of the process: float32 (n,), 1 on average over all steps.

    Where noise is most of the input, the image decides the actions, and yet the noise is easily predicted: its plain
    error would teach little but the jitter of actions. Weights of 1/ᾱ are those of the prediction of v (Salimans & Ho
    2022, appendix D).
    """
    weights = np.minimum(1 / process_schedule().alphas_cumprod, _LARGEST_WEIGHT)
    return torch.from_numpy((weights / weights.mean()).astype(np.float32)).to(steps.device)[steps]


def add_noise(actions: Tensor, noise: SeededNoise) -> Tensor:
    """Actions (draws · batch, horizon, 7) after each draw's steps of the process (Ho et al. 2020, equation 4)."""
    products = torch.from_numpy(process_schedule().alphas_cumprod.astype(np.float32)).to(actions.device)
    kept = products[noise.steps][:, None, None]
    return kept.sqrt() * actions + (1 - kept).sqrt() * noise.values


def auxiliary_losses(heads: AuxiliaryHeads, visual: Tensor, cognition: Tensor, batch: Batch) -> dict[str, Tensor]:
    """Losses of the simulator's labels; points that are NaN or outside the image count nothing."""
    grid = round(visual.shape[1] ** 0.5)
    in_patches = batch.points_px * (grid / MODEL_IMAGE_PX)
    # NaN compares as false.
    seen = ((in_patches >= 0) & (in_patches < grid)).all(2)
    in_patches = torch.where(seen[..., None], in_patches, 0.0)
    corners = in_patches.floor()
    patches = (corners[..., 1] * grid + corners[..., 0]).long()
    scores, queries, keys = heads.point(visual, cognition)
    pointer = functional.cross_entropy(scores.flatten(0, 1), patches.flatten(), reduction="none").view_as(seen)
    offset = functional.smooth_l1_loss(
        heads.place(queries, keys, patches), in_patches - corners, reduction="none", beta=0.2
    ).mean(2)
    predicted, logits = heads.describe(cognition)
    wanted = ways(batch.points_m) / _POINT_UNIT_M
    known = wanted.isfinite().all(2)
    points = functional.smooth_l1_loss(
        predicted, torch.where(known[..., None], wanted, 0.0), reduction="none", beta=_POINT_SLACK
    ).mean(2)
    return {
        "pointer": _masked_mean(pointer, seen),
        "offset": _masked_mean(offset, seen),
        "points": _masked_mean(points, known),
        "phase": functional.cross_entropy(logits, batch.phase),
    }


def ways(points_m: Tensor) -> Tensor:
    """Tool, object, goal (batch, 3, 3), and the ways tool to object and object to goal: (batch, 5, 3) [m]."""
    return torch.cat((points_m, points_m[:, 1:] - points_m[:, :-1]), dim=1)


def point_errors(
    heads: AuxiliaryHeads, visual: Tensor, cognition: Tensor, batch: Batch
) -> tuple[dict[str, float], dict[str, float]]:
    """Mean distance of each point from its label, in pixels of the image and in metres; of points with any label."""
    grid = round(visual.shape[1] ** 0.5)
    scores, queries, keys = heads.point(visual, cognition)
    patches = scores.argmax(2)
    corners = torch.stack((patches % grid, patches // grid), dim=2)
    found_px = (corners + heads.place(queries, keys, patches)) * (MODEL_IMAGE_PX / grid)
    found_m = heads.describe(cognition)[0][:, :3] * _POINT_UNIT_M

    def mean_distances(found: Tensor, wanted: Tensor) -> dict[str, float]:
        distances = (found - wanted).norm(dim=2).nanmean(0).tolist()
        return {name: distance for name, distance in zip(POINTS, distances, strict=True) if not math.isnan(distance)}

    return mean_distances(found_px, batch.points_px), mean_distances(found_m, batch.points_m)


def _masked_mean(values: Tensor, mask: Tensor) -> Tensor:
    return torch.where(mask, values, 0.0).sum() / mask.sum().clamp_min(1)

"""Batches, noise and a tiny network, the same every time."""

import torch

from sqap_vla_ros.tools.training.losses import Batch, Learner, SeededNoise, draw_noise
from sqap_vla_ros.tools.training.network import SIZES, fresh_network


def tiny_learner() -> Learner:
    """A network whose action head answers with something; the heads for points and phase are new every time."""
    learner = Learner(fresh_network(SIZES["tiny"], 40, seed=0))
    torch.nn.init.normal_(
        learner.network.action_head.final_layer["linear"].weight, std=0.1, generator=torch.Generator().manual_seed(5)
    )
    return learner


def drawn_batch(count: int = 2) -> Batch:
    """Frames of random pixels with random labels."""
    generator = torch.Generator().manual_seed(0)
    return Batch(
        images=torch.randint(0, 256, (count, 224, 224, 3), generator=generator, dtype=torch.uint8),
        input_ids=torch.randint(0, 40, (count, 24), generator=generator),
        text_mask=torch.arange(24).expand(count, -1) < 20,
        actions=torch.randn((count, 16, 7), generator=generator).clamp(-1, 1),
        valid=torch.ones(count, 16, dtype=torch.bool),
        points_px=torch.rand((count, 3, 2), generator=generator) * 224,
        points_m=torch.rand((count, 3, 3), generator=generator),
        phase=torch.randint(0, 4, (count,), generator=generator),
    )


def drawn_noise(count: int = 2, draws: int = 3, dropout: float = 0.0) -> SeededNoise:
    """Steps, noise and dropped conditions for their chunks."""
    return draw_noise((count, 16, 7), draws, dropout, torch.Generator().manual_seed(1))

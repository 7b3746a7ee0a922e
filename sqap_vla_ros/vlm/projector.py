"""The projector maps fused patch features to the language model's embeddings."""

import torch
from torch import Tensor, nn

from sqap_vla_ros.vlm.weights import Layout, Part, Source


def projector_layout(vision_width: int, hidden: int, language_width: int) -> Layout:
    """Published names and shapes of the projector's tensors."""
    sizes = {"0": (hidden, vision_width), "2": (language_width, hidden), "4": (language_width, language_width)}
    weights = {f"projector.{index}.weight": size for index, size in sizes.items()}
    return Layout({**weights, **{f"projector.{index}.bias": size[:1] for index, size in sizes.items()}})


class Projector(nn.Module):
    """Three linear layers with exact GELU in between.

    Args:
        vision_width: Channels of the fused patch features.
        hidden: Channels after the first layer.
        language_width: Channels of the language model's embeddings.
    """

    def __init__(self, vision_width: int, hidden: int, language_width: int) -> None:
        super().__init__()
        self.vision_width = vision_width
        self.language_width = language_width
        self.projector = nn.Sequential(
            nn.Linear(vision_width, hidden),
            nn.GELU(),
            nn.Linear(hidden, language_width),
            nn.GELU(),
            nn.Linear(language_width, language_width),
        )

    def forward(self, features: Tensor) -> Tensor:
        """(batch, patches, vision width) -> (batch, patches, language width)."""
        return self.projector(features)


def load_projector(part: Part, dtype: torch.dtype = torch.float32, device: torch.device | str = "cpu") -> Projector:
    """Build the projector from the `projector` part of a checkpoint.

    Raises:
        CheckpointError: The tensors are not those of a projector.
    """
    vision_width = part.size("projector.0.weight", 1, 2)
    hidden = part.size("projector.0.weight", 0, 2)
    language_width = part.size("projector.2.weight", 0, 2)
    part.check(projector_layout(vision_width, hidden, language_width))
    with torch.device("meta"):
        projector = Projector(vision_width, hidden, language_width)
    part.load(projector, Source, dtype, device)
    return projector

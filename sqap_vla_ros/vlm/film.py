"""Vision towers that the text modulates (FiLM, arXiv 1709.07871): each block scales and shifts its channels by it."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from sqap_vla_ros.vlm.vision import Tower, VisionBackbone
from sqap_vla_ros.vlm.weights import Layout, Part, Shape, Source


class ModulatedBlock(nn.Module):
    """A block of a tower, whose stream is scaled and shifted between attention and MLP.

    Args:
        block: The block, of `vision.Tower`.
        width: Channels of the tower.
        text_width: Channels of the text.
    """

    def __init__(self, block: Any, width: int, text_width: int) -> None:
        super().__init__()
        self.block = block
        self.scale, self.shift = nn.Linear(text_width, width), nn.Linear(text_width, width)

    def forward(self, hidden: Tensor, text: Tensor) -> Tensor:
        """Run the block.

        Args:
            hidden: (batch, tokens, width).
            text: (batch, text width), the same for all tokens of a sample.
        """
        scale, shift = self.scale(text)[:, None], self.shift(text)[:, None]
        hidden = (hidden + self._attention(hidden)) * (1 + scale) + shift
        return hidden + self._mlp(hidden)

    def _attention(self, hidden: Tensor) -> Tensor:
        block = self.block
        if hasattr(block, "layer_scale1"):
            return block.layer_scale1(block.attention(block.norm1(hidden))[0])
        return block.self_attn(block.layer_norm1(hidden), attention_mask=None)[0]

    def _mlp(self, hidden: Tensor) -> Tensor:
        block = self.block
        if hasattr(block, "layer_scale2"):
            return block.layer_scale2(block.mlp(block.norm2(hidden)))
        return block.mlp(block.layer_norm2(hidden))


def modulate(
    vision: VisionBackbone, part: Part, text_width: int, dtype: torch.dtype, device: torch.device | str
) -> None:
    """Let the text modulate every block of both towers, in place.

    Args:
        vision: The towers.
        part: `<tower>_featurizer.blocks.<n>.{scale,shift}.{weight,bias}` of all blocks.
        text_width: Channels of the text.
        dtype: Dtype of the added layers.
        device: Device of the added layers.

    Raises:
        CheckpointError: Tensors are missing or do not fit the towers.
    """
    required: dict[str, Shape] = {}
    optional: dict[str, Shape] = {}
    for tower in (vision.dino, vision.siglip):
        for index in range(tower.shape.depth):
            # The last block is not run.
            (required if index + 1 < tower.shape.depth else optional).update(_layout(tower, index, text_width))
    part.check(Layout(required, optional))
    for tower in (vision.dino, vision.siglip):
        for index in range(len(tower.blocks)):
            with torch.device("meta"):
                block = ModulatedBlock(None, tower.shape.width, text_width)
            prefix = f"{tower.shape.prefix}blocks.{index}."
            part.load(block, lambda name, prefix=prefix: Source(prefix + name), dtype, device)  # type: ignore[misc]
            block.block = tower.blocks[index]
            tower.blocks[index] = block


def _layout(tower: Tower, index: int, text_width: int) -> Mapping[str, Shape]:
    prefix, width = f"{tower.shape.prefix}blocks.{index}.", tower.shape.width
    return {
        **{f"{prefix}{name}.weight": (width, text_width) for name in ("scale", "shift")},
        **{f"{prefix}{name}.bias": (width,) for name in ("scale", "shift")},
    }

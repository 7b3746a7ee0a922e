"""The two vision towers: DINOv2 with registers, and SigLIP.

Their blocks are those of `transformers`. The features are the residual stream behind the second-to-last block, without
the final norm, so the last block, the norm and SigLIP's pooling are never built.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from sqap_vla_ros.vlm.preprocessing import MODEL_IMAGE_PX
from sqap_vla_ros.vlm.weights import CheckpointError, Layout, Part, Shape, Source, attention_heads

_EPSILON = 1e-6

# Parameter of a block in `transformers` -> tensor of the published block.
_FUSED = {"q_proj": 0, "k_proj": 1, "v_proj": 2}
_BLOCK_NAMES = {
    "attention.o_proj": "attn.proj",
    "self_attn.out_proj": "attn.proj",
    "layer_norm1": "norm1",
    "layer_norm2": "norm2",
    "layer_scale1.lambda1": "ls1.gamma",
    "layer_scale2.lambda1": "ls2.gamma",
}


@dataclass(frozen=True)
class TowerShape:
    """Sizes of one tower.

    Attributes:
        kind: Which network it is.
        width: Channels.
        depth: Blocks in the checkpoint; the last one is not run.
        heads: Attention heads.
        hidden: Channels inside the MLPs.
        grid: Patches along each side of the model image.
        patch_px: Side of a patch, pixels.
        registers: Register tokens (DINOv2).
    """

    kind: Literal["dino", "siglip"]
    width: int
    depth: int
    heads: int
    hidden: int
    grid: int
    patch_px: int
    registers: int = 0

    @property
    def prefix(self) -> str:
        """Prefix of the published tensor names of this tower."""
        return f"{self.kind}_featurizer."


def tower_shape(part: Part, kind: Literal["dino", "siglip"], architecture: Mapping[str, int]) -> TowerShape:
    """Read a tower's sizes off its tensors.

    Raises:
        CheckpointError: Tensors that show the sizes are missing, or the sizes do not fit 224×224 images.
    """
    prefix = f"{kind}_featurizer."
    tower = Part(f"{part.name}.{kind}", {k: v for k, v in part.tensors.items() if k.startswith(prefix)})
    width = tower.size(".norm1.weight", 0, 1)
    patch_px = tower.size(prefix + "patch_embed.proj.weight", 2, 4)
    depth = tower.depth(prefix + "blocks.")
    if depth < 2:
        raise CheckpointError(f"{tower.name}: found {depth} blocks, expected at least 2 (the last one is not run)")
    if MODEL_IMAGE_PX % patch_px:
        raise CheckpointError(
            f"{tower.name}: patches of {patch_px} pixels do not tile {MODEL_IMAGE_PX}×{MODEL_IMAGE_PX}"
        )
    return TowerShape(
        kind=kind,
        width=width,
        depth=depth,
        heads=attention_heads(f"{kind}_heads", width, architecture),
        hidden=tower.size(".mlp.fc1.weight", 0, 2),
        grid=MODEL_IMAGE_PX // patch_px,
        patch_px=patch_px,
        registers=tower.size(prefix + "reg_token", 1, 3) if kind == "dino" else 0,
    )


def tower_layout(shape: TowerShape) -> Layout:
    """Published names and shapes of a tower's tensors."""
    width, hidden, dino = shape.width, shape.hidden, shape.kind == "dino"
    required: dict[str, Shape] = {
        "pos_embed": (1, shape.grid**2, width),
        "patch_embed.proj.weight": (width, 3, shape.patch_px, shape.patch_px),
        "patch_embed.proj.bias": (width,),
    }
    if dino:
        required |= {"cls_token": (1, 1, width), "reg_token": (1, shape.registers, width)}
    linears = {"attn.qkv": (3 * width, width), "attn.proj": (width, width)}
    mlp = {"mlp.fc1": (hidden, width), "mlp.fc2": (width, hidden)}
    for block in (f"blocks.{index}." for index in range(shape.depth)):
        for name in ("norm1", "norm2"):
            required |= {f"{block}{name}.weight": (width,), f"{block}{name}.bias": (width,)}
        required |= _linear_tensors(block, linears | mlp)
        if dino:
            required |= {f"{block}ls1.gamma": (width,), f"{block}ls2.gamma": (width,)}
    optional: dict[str, Shape] = {"norm.weight": (width,), "norm.bias": (width,)}
    if not dino:
        optional |= {"attn_pool.latent": (1, 1, width)}
        optional |= {"attn_pool.norm.weight": (width,), "attn_pool.norm.bias": (width,)}
        pooling = {"q": (width, width), "kv": (2 * width, width), "proj": (width, width)}
        optional |= _linear_tensors("attn_pool.", pooling | mlp)
    return Layout(
        {shape.prefix + name: size for name, size in required.items()},
        {shape.prefix + name: size for name, size in optional.items()},
    )


def _linear_tensors(prefix: str, weights: Mapping[str, Shape]) -> dict[str, Shape]:
    named: dict[str, Shape] = {}
    for name, shape in weights.items():
        named |= {f"{prefix}{name}.weight": shape, f"{prefix}{name}.bias": shape[:1]}
    return named


class Tower(nn.Module):
    """One vision transformer, up to and including its second-to-last block."""

    def __init__(self, shape: TowerShape) -> None:
        super().__init__()
        self.shape = shape
        width = shape.width
        self.patch_embed = nn.Conv2d(3, width, shape.patch_px, stride=shape.patch_px)
        self.pos_embed = nn.Parameter(torch.empty(1, shape.grid**2, width))
        if shape.kind == "dino":
            self.cls_token = nn.Parameter(torch.empty(1, 1, width))
            self.reg_token = nn.Parameter(torch.empty(1, shape.registers, width))
        self.blocks = nn.ModuleList([_block(shape) for _ in range(shape.depth - 1)])

    def forward(self, pixel_values: Tensor, text: Tensor | None = None) -> Tensor:
        """Patch features.

        Args:
            pixel_values: (batch, 3, 224, 224), in the dtype of the weights.
            text: (batch, language width), what `film.ModulatedBlock` is conditioned on; None where there are none.

        Returns:
            (batch, patches, width), row-major over the image.
        """
        hidden = self.patch_embed(pixel_values).flatten(2).transpose(1, 2) + self.pos_embed
        if self.shape.kind == "siglip":
            for block in self.blocks:
                hidden = block(hidden, text)
            return hidden
        # Neither the class token nor the registers have a position.
        batch = len(pixel_values)
        hidden = torch.cat((self.cls_token.expand(batch, -1, -1), self.reg_token.expand(batch, -1, -1), hidden), dim=1)
        for block in self.blocks:
            hidden = block(hidden, text)
        return hidden[:, 1 + self.shape.registers :]


def _block(shape: TowerShape) -> nn.Module:
    # Imported here because transformers takes seconds to import.
    from transformers import Dinov2WithRegistersConfig, SiglipVisionConfig
    from transformers.models.dinov2_with_registers.modeling_dinov2_with_registers import Dinov2WithRegistersLayer
    from transformers.models.siglip.modeling_siglip import SiglipEncoderLayer

    # Exact GELU in both, as published; the default of transformers' SigLIP is the tanh approximation.
    common: dict[str, Any] = {
        "hidden_size": shape.width,
        "num_attention_heads": shape.heads,
        "hidden_act": "gelu",
        "layer_norm_eps": _EPSILON,
        "attn_implementation": "sdpa",
    }
    if shape.kind == "siglip":
        return SiglipEncoderLayer(SiglipVisionConfig(**common, intermediate_size=shape.hidden))
    block = Dinov2WithRegistersLayer(Dinov2WithRegistersConfig(**common))
    # Its configuration allows only whole multiples of the width.
    block.mlp.fc1 = nn.Linear(shape.width, shape.hidden)
    block.mlp.fc2 = nn.Linear(shape.hidden, shape.width)
    return block


class VisionBackbone(nn.Module):
    """Both towers; their features are concatenated along the channels, DINOv2 first."""

    def __init__(self, dino: TowerShape, siglip: TowerShape) -> None:
        super().__init__()
        self.dino = Tower(dino)
        self.siglip = Tower(siglip)

    def forward(self, dino_pixels: Tensor, siglip_pixels: Tensor, text: Tensor | None = None) -> Tensor:
        """Fused patch features.

        Args:
            dino_pixels: (batch, 3, 224, 224), normalised for DINOv2.
            siglip_pixels: (batch, 3, 224, 224), normalised for SigLIP.
            text: See `Tower.forward`.

        Returns:
            (batch, patches, dino width + siglip width).
        """
        return torch.cat((self.dino(dino_pixels, text), self.siglip(siglip_pixels, text)), dim=2)


def load_vision(
    part: Part, architecture: Mapping[str, int], dtype: torch.dtype = torch.float32, device: torch.device | str = "cpu"
) -> VisionBackbone:
    """Build both towers from the `vision_backbone` part of a checkpoint.

    Raises:
        CheckpointError: The tensors do not form two towers over the same patches.
    """
    dino, siglip = tower_shape(part, "dino", architecture), tower_shape(part, "siglip", architecture)
    if dino.grid != siglip.grid:
        raise CheckpointError(
            f"{part.name}: DINOv2 has {dino.grid} patches a side, SigLIP {siglip.grid}; expected equal"
        )
    layouts = tower_layout(dino), tower_layout(siglip)
    part.check(
        Layout(
            {name: size for layout in layouts for name, size in layout.required.items()},
            {name: size for layout in layouts for name, size in layout.optional.items()},
        )
    )
    with torch.device("meta"):
        backbone = VisionBackbone(dino, siglip)
    part.load(backbone, vision_source, dtype, device)
    return backbone


def vision_source(parameter: str) -> Source:
    """The published tensor of a parameter of `VisionBackbone`."""
    tower, _, name = parameter.partition(".")
    prefix = f"{tower}_featurizer."
    if not name.startswith("blocks."):
        return Source(prefix + name.replace("patch_embed.", "patch_embed.proj."))
    _, index, rest = name.split(".", 2)
    prefix += f"blocks.{index}."
    *_, module, leaf = rest.split(".")
    if module in _FUSED:
        return Source(f"{prefix}attn.qkv.{leaf}", _FUSED[module])
    for here, published in _BLOCK_NAMES.items():
        if rest.startswith(here):
            return Source(prefix + rest.replace(here, published))
    return Source(prefix + rest)

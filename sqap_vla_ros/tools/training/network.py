"""A CogACT to be trained: its sizes, and its initial weights.

The tensors are drawn in the published layout and loaded like published checkpoints, so that training and inference run
the same network.
"""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from types import MappingProxyType

import torch
from torch import Tensor

from sqap_vla_ros.policies.cogact.action_head import ActionHeadShape
from sqap_vla_ros.policies.cogact.checkpoint import assemble
from sqap_vla_ros.policies.cogact.model import CogACT
from sqap_vla_ros.policies.cogact.published import layouts
from sqap_vla_ros.policies.cogact.store import Shapes
from sqap_vla_ros.vlm.language import LanguageShape
from sqap_vla_ros.vlm.vision import TowerShape
from sqap_vla_ros.vlm.weights import Layout, Part

HORIZON = 16
_ACTION_DIM = 7
_GRID, _PATCH_PX, _REGISTERS = 16, 14, 4
# Rows of the embedding table begin larger than Llama's 0.02, since embeddings of patches are of size one.
_EMBEDDING_STD = 0.1
_TOKEN_STD = 0.02


@dataclass(frozen=True)
class Heads:
    """Numbers of attention heads, the `architecture` of config.json."""

    dino_heads: int
    siglip_heads: int
    llm_heads: int
    llm_kv_heads: int
    dit_heads: int


@dataclass(frozen=True)
class Size:
    """Sizes of a network; widths are multiples of large powers of two, for large blocks of Walsh-Hadamard rotations.

    Attributes:
        tower: Width and blocks of each tower; the last block never runs.
        language: Width and layers of the language model.
        action_head: Width and blocks of the diffusion transformer.
        head_width: Channels per attention head, everywhere.
    """

    tower: tuple[int, int]
    language: tuple[int, int]
    action_head: tuple[int, int]
    head_width: int = 32

    @property
    def heads(self) -> Heads:
        """Numbers of attention heads."""
        tower, language, action = (
            width // self.head_width for width, _ in (self.tower, self.language, self.action_head)
        )
        return Heads(tower, tower, language, language, action)


SIZES: Mapping[str, Size] = MappingProxyType(
    {
        "tiny": Size(tower=(32, 2), language=(64, 3), action_head=(64, 1)),
        "small": Size(tower=(128, 4), language=(256, 4), action_head=(128, 3)),
        "medium": Size(tower=(128, 6), language=(256, 6), action_head=(192, 4)),
    }
)


def network_shapes(size: Size, vocabulary: int) -> Shapes:
    """Sizes of all parts of a network with so many rows in its embedding table."""
    (tower_width, tower_depth), (width, depth), (action_width, action_depth) = (
        size.tower,
        size.language,
        size.action_head,
    )
    heads, hidden = size.heads, 4 * tower_width
    dino = TowerShape("dino", tower_width, tower_depth, heads.dino_heads, hidden, _GRID, _PATCH_PX, _REGISTERS)
    siglip = TowerShape("siglip", tower_width, tower_depth, heads.siglip_heads, hidden, _GRID, _PATCH_PX)
    language = LanguageShape(
        width, depth, heads.llm_heads, heads.llm_kv_heads, size.head_width, hidden=3 * width, vocabulary=vocabulary
    )
    head = ActionHeadShape(
        action_width, action_depth, heads.dit_heads, 4 * action_width, width, _ACTION_DIM, horizon=HORIZON
    )
    return Shapes(dino=dino, siglip=siglip, projector_hidden=8 * tower_width, language=language, action_head=head)


def fresh_network(size: Size, vocabulary: int, seed: int) -> CogACT:
    """A network with initial weights, float32 on the CPU, without gradients yet.

    Args:
        size: Its sizes.
        vocabulary: Rows of the embedding table, one per token id in use.
        seed: The same seed gives the same weights.
    """
    generator = torch.Generator().manual_seed(seed)
    depths = {
        "vision_backbone": size.tower[1] - 1,
        "llm_backbone": size.language[1],
        "action_model": size.action_head[1],
    }
    parts = {
        name: Part(name, _draw(layout, depths.get(name, 1), generator))
        for name, layout in layouts(network_shapes(size, vocabulary)).items()
    }
    return assemble(parts, asdict(size.heads))


def _draw(layout: Layout, depth: int, generator: torch.Generator) -> dict[str, Tensor]:
    """Initial weights.

    Linear layers are Glorot's, and those that write to a residual stream smaller, by how often it is written to; what
    the action head answers is zero.
    """
    into_residual = ("attn.proj.weight", "o_proj.weight", "fc2.weight", "down_proj.weight")

    def normal(shape: tuple[int, ...], deviation: float) -> Tensor:
        tensor = torch.empty(shape)
        return torch.nn.init.trunc_normal_(
            tensor, std=deviation, a=-3 * deviation, b=3 * deviation, generator=generator
        )

    def fresh(name: str, shape: tuple[int, ...]) -> Tensor:
        if name.endswith(".bias") or name.startswith("net.final_layer"):
            return torch.zeros(shape)
        if "norm" in name or name.endswith("gamma"):
            return torch.ones(shape)
        if name.endswith("pos_embed"):
            return sine_cosine_positions(_GRID, shape[-1])[None]
        if name.endswith("embed_tokens.weight"):
            return normal(shape, _EMBEDDING_STD)
        if not name.endswith(".weight"):
            return normal(shape, _TOKEN_STD)
        deviation = math.sqrt(2 / (shape[0] + math.prod(shape[1:])))
        return normal(shape, deviation / math.sqrt(2 * depth) if name.endswith(into_residual) else deviation)

    return {name: fresh(name, shape) for name, shape in layout.required.items()}


def sine_cosine_positions(grid: int, width: int) -> Tensor:
    """Initial position embeddings of patches (Dosovitskiy et al. 2021, appendix D.4; Vaswani et al. 2017).

    Args:
        grid: Patches along each side.
        width: Channels, a multiple of four: sines and cosines of the row, then of the column.

    Returns:
        float32 (grid², width), row-major.
    """
    frequencies = 10000.0 ** -(torch.arange(width // 4) / (width // 4))
    angles = torch.arange(grid)[:, None] * frequencies
    waves = torch.cat((angles.sin(), angles.cos()), dim=1)
    rows, columns = waves[:, None].expand(-1, grid, -1), waves[None].expand(grid, -1, -1)
    return torch.cat((rows, columns), dim=2).flatten(0, 1)

"""Sizes of the published CogACT: DINOv2-L/14 with registers and SigLIP-so400m/14 at 224 pixels, Llama-2-7B, DiT."""

from dataclasses import replace
from types import MappingProxyType

from sqap_vla_ros.policies.cogact.action_head import ActionHeadShape, action_head_layout
from sqap_vla_ros.policies.cogact.checkpoint import PARTS
from sqap_vla_ros.policies.cogact.store import Shapes
from sqap_vla_ros.vlm.language import LanguageShape, language_layout
from sqap_vla_ros.vlm.projector import projector_layout
from sqap_vla_ros.vlm.vision import TowerShape, tower_layout
from sqap_vla_ros.vlm.weights import Layout

DINO = TowerShape("dino", 1024, 24, 16, 4096, grid=16, patch_px=14, registers=4)
SIGLIP = TowerShape("siglip", 1152, 27, 16, 4304, grid=16, patch_px=14)
PROJECTOR_HIDDEN = 8704
LANGUAGE = LanguageShape(4096, 32, 32, 32, 128, 11008, 32064)
HEADS = MappingProxyType(
    {
        "small": ActionHeadShape(384, 6, 4, 1536, 4096, action_dim=7, horizon=16),
        "base": ActionHeadShape(768, 12, 12, 3072, 4096, action_dim=7, horizon=16),
        "large": ActionHeadShape(1024, 24, 16, 4096, 4096, action_dim=7, horizon=16),
    }
)


def published_shapes(size: str = "base", depth: int | None = None) -> Shapes:
    """Sizes of a published network.

    Args:
        size: Size of the action head, a key of `HEADS`.
        depth: For a network of fewer layers: decoder layers, and at most as many blocks per tower (and a last one,
            which no action depends on) and action head; None: the published depths.
    """
    dino, siglip, language, head = DINO, SIGLIP, LANGUAGE, HEADS[size]
    if depth is not None:
        dino, siglip = (replace(shape, depth=min(shape.depth, depth + 1)) for shape in (dino, siglip))
        language = replace(language, depth=depth)
        head = replace(head, depth=min(head.depth, depth))
    return Shapes(dino=dino, siglip=siglip, projector_hidden=PROJECTOR_HIDDEN, language=language, action_head=head)


def layouts(shapes: Shapes) -> dict[str, Layout]:
    """Published names and shapes of all parts of a network, by the part's name."""
    towers = tower_layout(shapes.dino), tower_layout(shapes.siglip)
    vision = Layout({**towers[0].required, **towers[1].required}, {**towers[0].optional, **towers[1].optional})
    width = shapes.dino.width + shapes.siglip.width
    projector = projector_layout(width, shapes.projector_hidden, shapes.language.width)
    parts = vision, projector, language_layout(shapes.language), action_head_layout(shapes.action_head)
    return dict(zip(PARTS, parts, strict=True))

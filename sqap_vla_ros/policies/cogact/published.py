"""Sizes of the published CogACT: DINOv2-L/14 with registers and SigLIP-so400m/14 at 224 pixels, Llama-2-7B, DiT."""

from types import MappingProxyType

from sqap_vla_ros.policies.cogact.action_head import ActionHeadShape
from sqap_vla_ros.vlm.language import LanguageShape
from sqap_vla_ros.vlm.vision import TowerShape

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

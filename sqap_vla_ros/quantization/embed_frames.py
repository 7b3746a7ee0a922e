"""Calibration frames as the language model gets them."""

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional

from sqap_vla_ros.cogact.preprocessing import normalise, resize
from sqap_vla_ros.cogact.projector import Projector
from sqap_vla_ros.cogact.tokenizer import load_tokenizer
from sqap_vla_ros.cogact.vision import VisionBackbone, vision_source
from sqap_vla_ros.cogact.weights import Part, Source
from sqap_vla_ros.quantization.calibration import CalibrationFrames
from sqap_vla_ros.quantization.parts import LLM, PROJECTOR, VISION
from sqap_vla_ros.quantization.recipe import Recipe
from sqap_vla_ros.quantization.store import Shapes
from sqap_vla_ros.quantization.transform import rotate_residual


def embed_frames(
    parts: Mapping[str, Part],
    shapes: Shapes,
    recipe: Recipe,
    frames: CalibrationFrames,
    tokenizer: Path,
    device: torch.device,
) -> list[Tensor]:
    """Embeddings of the whole sequence of each frame, by the float towers.

    Args:
        parts: Of the checkpoint.
        shapes: Of the network.
        recipe: Says in which basis the residual stream is.
        frames: Images and instructions.
        tokenizer: Directory with the tokenizer.
        device: Where to compute.

    Returns:
        float32 (1, positions, width) each.
    """
    with torch.device("meta"):
        vision = VisionBackbone(shapes.dino, shapes.siglip)
        projector = Projector(shapes.dino.width + shapes.siglip.width, shapes.projector_hidden, shapes.language.width)
    parts[VISION].load(vision, vision_source, torch.float32, device)
    parts[PROJECTOR].load(projector, Source, torch.float32, device)
    prompts = load_tokenizer(tokenizer)
    table = parts[LLM].tensors["llm.model.embed_tokens.weight"]
    embedded = []
    for frame in frames.frames:
        image = torch.from_numpy(resize(frame.image))[None].to(device)
        visual = projector(vision(*normalise(image)))
        text = functional.embedding(prompts.encode(frame.instruction), table).float().to(device)
        sequence = torch.cat((text[:, :1], visual, text[:, 1:]), dim=1)
        embedded.append(rotate_residual(sequence, recipe) if recipe.rotation == "residual" else sequence)
    return embedded

"""From the parts of a published checkpoint to a CogACT."""

from collections.abc import Mapping
from pathlib import Path

import torch

from sqap_vla_ros.policies.cogact.action_head import load_action_head
from sqap_vla_ros.policies.cogact.model import CogACT
from sqap_vla_ros.vlm import checkpoint as files
from sqap_vla_ros.vlm.checkpoint import Checkpoint
from sqap_vla_ros.vlm.language import load_language
from sqap_vla_ros.vlm.projector import load_projector
from sqap_vla_ros.vlm.vision import load_vision
from sqap_vla_ros.vlm.weights import CheckpointError, Part, check_architecture

VISION, PROJECTOR, LLM, HEAD = "vision_backbone", "projector", "llm_backbone", "action_model"
PARTS = (VISION, PROJECTOR, LLM, HEAD)


def read_parts(path: Path) -> dict[str, Part]:
    """Map the parts of a CogACT weights file; see `vlm.checkpoint.read_parts`."""
    return files.read_parts(path, PARTS)


def load_cogact(
    checkpoint: Checkpoint,
    *,
    dtype: torch.dtype = torch.float32,
    device: torch.device | str = "cpu",
    architecture: Mapping[str, int] | None = None,
) -> CogACT:
    """Build the model.

    The file is mapped, and each tensor is copied once, to its device and dtype: host memory never holds the weights
    twice. Tensors that do not influence actions are not copied.

    Args:
        checkpoint: From `open_checkpoint`.
        dtype: Dtype of the vision-language part; the action head is float32.
        device: Where the model is built.
        architecture: Numbers of attention heads for sizes other than the published ones; they take precedence over
            config.json's: dino_heads, siglip_heads, llm_heads, llm_kv_heads, dit_heads.

    Raises:
        CheckpointError: The weights are truncated, not those of a CogACT model, or would execute code.
    """
    heads = {**checkpoint.architecture, **(architecture or {})}
    check_architecture(heads)
    parts = read_parts(checkpoint.weights)
    try:
        return assemble(parts, heads, dtype=dtype, device=device)
    except CheckpointError as error:
        raise CheckpointError(f"{checkpoint.weights}: {error}") from None


def assemble(
    parts: Mapping[str, Part],
    heads: Mapping[str, int],
    *,
    dtype: torch.dtype = torch.float32,
    device: torch.device | str = "cpu",
) -> CogACT:
    """Build the model from its parts (`PARTS`); arguments as in `load_cogact`.

    Raises:
        CheckpointError: The tensors are not those of a CogACT model, or the parts do not fit each other.
    """
    model = CogACT(
        vision=load_vision(parts[VISION], heads, dtype, device),
        projector=load_projector(parts[PROJECTOR], dtype, device),
        language=load_language(parts[LLM], heads, dtype, device),
        action_head=load_action_head(parts[HEAD], heads, torch.float32, device),
    )
    _check_joints(model)
    return model


def _check_joints(model: CogACT) -> None:
    """Check that each part takes as many channels as the part before it gives."""
    vision = model.vision.dino.shape.width + model.vision.siglip.shape.width
    language = model.language.shape.width
    for name, found, expected in (
        ("projector: 'projector.0.weight' takes", model.projector.vision_width, vision),
        ("projector: 'projector.4.weight' gives", model.projector.language_width, language),
        ("action_model: 'net.z_embedder.linear.weight' takes", model.action_head.shape.token_size, language),
    ):
        if found != expected:
            raise CheckpointError(f"{name} {found} channels, expected {expected} as in the part it joins")

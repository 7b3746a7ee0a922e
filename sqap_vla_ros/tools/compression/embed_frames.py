"""Calibration frames as embeddings, the input of the language model."""

from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional

from sqap_vla_ros.policies.cogact.compressed import EMBEDDING, load_vision_and_projector
from sqap_vla_ros.policies.cogact.store import Manifest
from sqap_vla_ros.tools.compression.calibration import CalibrationFrames
from sqap_vla_ros.vlm.lowbit.store import read_weights
from sqap_vla_ros.vlm.preprocessing import normalise, resize
from sqap_vla_ros.vlm.tokenizer import load_tokenizer


def embed_frames(
    directory: Path, manifest: Manifest, frames: CalibrationFrames, device: torch.device | str
) -> list[Tensor]:
    """Embed the whole sequence of each frame, with the parts that are compressed already.

    Args:
        directory: A compression whose towers, projector and embeddings are done.
        manifest: Its manifest.
        frames: Images and instructions.
        device: Where embeddings are computed.

    Returns:
        float32 (1, positions, width) each, in the basis of the residual stream.
    """
    vision, projector = load_vision_and_projector(directory, manifest, device=device)
    prompts = load_tokenizer(directory)
    table = read_weights(directory, EMBEDDING, manifest.files[EMBEDDING])["llm.model.embed_tokens.weight"]
    embedded = []
    for frame in frames.frames:
        image = torch.from_numpy(resize(frame.image))[None].to(device)
        visual = projector(vision(*normalise(image)))
        text = functional.embedding(prompts.encode(frame.instruction), table).float().to(device)
        embedded.append(torch.cat((text[:, :1], visual, text[:, 1:]), dim=1))
    return embedded

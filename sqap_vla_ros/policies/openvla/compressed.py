"""Builds an OpenVLA or OpenVLA-OFT from a compressed checkpoint."""

from pathlib import Path

import torch
from torch import Tensor, nn

from sqap_vla_ros.policies.cogact.compressed import (
    EMBEDDING,
    layer_file,
    load_vision_and_projector,
    read_decoder_layer,
)
from sqap_vla_ros.policies.openvla.bins import load_token_head
from sqap_vla_ros.policies.openvla.components import HEAD, NOISY_ACTION, PROPRIO
from sqap_vla_ros.policies.openvla.heads import TokenProjector, load_action_mlp, load_token_projector
from sqap_vla_ros.policies.openvla.model import OpenVla
from sqap_vla_ros.policies.openvla.store import COMPONENTS, MODULATION, OpenVlaManifest
from sqap_vla_ros.vlm.film import modulate
from sqap_vla_ros.vlm.language import LanguageModel
from sqap_vla_ros.vlm.lowbit.hadamard import block_size
from sqap_vla_ros.vlm.lowbit.products import Backend
from sqap_vla_ros.vlm.lowbit.rotated_norm import RotatedNorm
from sqap_vla_ros.vlm.lowbit.store import check_companions, read_weights
from sqap_vla_ros.vlm.preprocessing import ImageStatistics
from sqap_vla_ros.vlm.projector import Projector
from sqap_vla_ros.vlm.vision import VisionBackbone
from sqap_vla_ros.vlm.weights import Part, Source


def load_compressed_openvla(
    directory: Path,
    manifest: OpenVlaManifest,
    image_statistics: ImageStatistics,
    *,
    dtype: torch.dtype = torch.float32,
    device: torch.device | str = "cpu",
    backend: Backend = "auto",
) -> OpenVla:
    """Build the network; each file is read, verified and released before the next.

    Args:
        directory: The compressed checkpoint.
        manifest: Its JSON.
        image_statistics: By which pixels are normalised.
        dtype: Dtype of what is not quantised.
        device: Device of the network.
        backend: Backend of the integer products.

    Raises:
        CheckpointError: A file is missing, or is not the one that was written.
    """
    check_companions(directory, manifest.identity)
    shapes, recipe = manifest.shapes, manifest.identity.recipe
    vision, projector = load_towers(directory, manifest, dtype=dtype, device=device, backend=backend)
    with torch.device("meta"):
        language = LanguageModel(shapes.language)
    language.layers = nn.ModuleList(
        read_decoder_layer(
            _tensors(directory, manifest, layer_file(index)),
            index,
            manifest,
            dtype=dtype,
            device=device,
            backend=backend,
        )
        for index in range(shapes.language.depth)
    )
    embedding = Part(EMBEDDING, _tensors(directory, manifest, EMBEDDING), mapped=True)
    embedding.load(language, lambda name: Source(f"llm.model.{name}"), dtype, device)
    if recipe.rotation == "residual":
        gain = embedding.take(Source("llm.model.norm.weight"), dtype, device)
        block = block_size(len(gain), recipe.hadamard_block)
        language.norm = RotatedNorm(gain, block, shapes.language.epsilon)
    parts = component_parts(_tensors(directory, manifest, COMPONENTS))
    width = shapes.language.width

    def projected(kind: str) -> TokenProjector | None:
        return load_token_projector(parts[kind], width, dtype, device) if kind in parts else None

    return OpenVla(
        vision,
        projector,
        language,
        decoding=shapes.decoding,
        head=load_action_mlp(parts[HEAD], width, dtype, device) if HEAD in parts else None,
        tokens=None if HEAD in parts else load_token_head(parts["llm"], dtype, device),
        proprio=projected(PROPRIO),
        noisy_action=projected(NOISY_ACTION),
        image_statistics=image_statistics,
    )


def load_towers(
    directory: Path,
    manifest: OpenVlaManifest,
    *,
    dtype: torch.dtype = torch.float32,
    device: torch.device | str = "cpu",
    backend: Backend = "auto",
) -> tuple[VisionBackbone, Projector]:
    """Build vision towers, with their modulation by the text if there is one, and projector."""
    vision, projector = load_vision_and_projector(directory, manifest, dtype=dtype, device=device, backend=backend)
    if manifest.shapes.modulated:
        part = Part(MODULATION, _tensors(directory, manifest, MODULATION), mapped=True)
        modulate(vision, part, manifest.shapes.language.width, dtype, device)
    return vision, projector


def component_parts(tensors: dict[str, Tensor]) -> dict[str, Part]:
    """Heads and projectors by kind, from the tensors of their file; the output projection is in `llm`."""
    grouped: dict[str, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        kind, _, rest = name.partition(".")
        grouped.setdefault(kind, {})[name if kind == "llm" else rest] = tensor
    return {kind: Part(kind, group, mapped=True) for kind, group in grouped.items()}


def _tensors(directory: Path, manifest: OpenVlaManifest, name: str) -> dict[str, Tensor]:
    return read_weights(directory, name, manifest.files[name])

"""Builds a CogACT from a compressed checkpoint."""

import ctypes
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from sqap_vla_ros.policies.cogact.action_head import ActionHead
from sqap_vla_ros.policies.cogact.checkpoint import HEAD, PROJECTOR, VISION
from sqap_vla_ros.policies.cogact.model import CogACT
from sqap_vla_ros.policies.cogact.store import Manifest
from sqap_vla_ros.vlm.language import LanguageModel
from sqap_vla_ros.vlm.lowbit.hadamard import block_size
from sqap_vla_ros.vlm.lowbit.layer import LINEARS, NORMS, QuantDecoderLayer
from sqap_vla_ros.vlm.lowbit.linear import QuantLinear
from sqap_vla_ros.vlm.lowbit.products import Backend
from sqap_vla_ros.vlm.lowbit.rotated_norm import RotatedNorm
from sqap_vla_ros.vlm.lowbit.store import StoredManifest, check_companions, read_linear, read_weights
from sqap_vla_ros.vlm.projector import Projector
from sqap_vla_ros.vlm.vision import VisionBackbone, vision_source
from sqap_vla_ros.vlm.weights import Part, Source

EMBEDDING = "llm_embedding"


def layer_file(index: int) -> str:
    """Name of the weights file of a decoder layer."""
    return f"llm_layer_{index:02d}"


def load_compressed(
    directory: Path,
    manifest: Manifest,
    *,
    dtype: torch.dtype = torch.float32,
    device: torch.device | str = "cpu",
    backend: Backend = "auto",
) -> CogACT:
    """Build the model; each file is read, verified and released before the next.

    Args:
        directory: The compressed checkpoint.
        manifest: Its JSON.
        dtype: Dtype of the parts that are not quantised; the action head is float32.
        device: Device of the model.
        backend: Backend of the integer products.

    Raises:
        CheckpointError: A file is missing, or is not the one that was written.
    """
    check_companions(directory, manifest.identity)
    shapes = manifest.shapes
    vision, projector = load_vision_and_projector(directory, manifest, dtype=dtype, device=device, backend=backend)
    with torch.device("meta"):
        language = LanguageModel(shapes.language)
        head = ActionHead(shapes.action_head)

    def tensors(name: str) -> dict[str, Tensor]:
        return read_weights(directory, name, manifest.files[name])

    Part(HEAD, tensors(HEAD), mapped=True).load(head, lambda name: Source(f"net.{name}"), torch.float32, device)
    language.layers = nn.ModuleList(
        read_decoder_layer(tensors(layer_file(index)), index, manifest, dtype=dtype, device=device, backend=backend)
        for index in range(shapes.language.depth)
    )
    embedding = Part(EMBEDDING, tensors(EMBEDDING), mapped=True)
    embedding.load(language, lambda name: Source(f"llm.model.{name}"), dtype, device)
    recipe = manifest.identity.recipe
    if recipe.rotation == "residual":
        gain = embedding.take(Source("llm.model.norm.weight"), dtype, device)
        language.norm = RotatedNorm(gain, block_size(len(gain), recipe.hadamard_block))
    _give_back_heap()
    return CogACT(vision, projector, language, head)


def load_vision_and_projector(
    directory: Path,
    manifest: StoredManifest[Any],
    *,
    dtype: torch.dtype = torch.float32,
    device: torch.device | str = "cpu",
    backend: Backend = "auto",
) -> tuple[VisionBackbone, Projector]:
    """Build vision towers and projector; arguments as in `load_compressed`."""
    shapes = manifest.shapes
    with torch.device("meta"):
        vision = VisionBackbone(shapes.dino, shapes.siglip)
        width = shapes.dino.width + shapes.siglip.width
        projector = Projector(width, shapes.projector_hidden, shapes.language.width)
    _load_vision(vision, read_weights(directory, VISION, manifest.files[VISION]), manifest, dtype, device, backend)
    stored = read_weights(directory, PROJECTOR, manifest.files[PROJECTOR])
    Part(PROJECTOR, stored, mapped=True).load(projector, Source, dtype, device)
    return vision, projector


def _load_vision(
    vision: VisionBackbone,
    tensors: Mapping[str, Tensor],
    manifest: StoredManifest[Any],
    dtype: torch.dtype,
    device: torch.device | str,
    backend: Backend,
) -> None:
    for path, module in list(vision.named_modules()):
        source = vision_source(f"{path}.weight") if isinstance(module, nn.Linear) else None
        name = source.name.removesuffix(".weight") if source else ""
        if source is None or name not in manifest.linears:
            continue
        linear = read_linear(tensors, name, manifest.linears[name])
        weight, bias = linear.weight, tensors[f"{name}.bias"]
        if source.third is not None:
            third = weight.rows // 3
            start = source.third * third
            weight, bias = weight.slice(start, start + third), bias[start : start + third]
        quantised = QuantLinear(weight, linear.input_format, bias.to(dtype), backend=backend, device=device)
        owner, _, leaf = path.rpartition(".")
        setattr(vision.get_submodule(owner), leaf, quantised)
    floats = {name: tensor for name, tensor in tensors.items() if tensor.is_floating_point()}
    Part(VISION, floats, mapped=True).load(vision, vision_source, dtype, device)


def read_decoder_layer(
    tensors: Mapping[str, Tensor],
    index: int,
    manifest: StoredManifest[Any],
    *,
    dtype: torch.dtype = torch.float32,
    device: torch.device | str = "cpu",
    backend: Backend = "auto",
) -> QuantDecoderLayer:
    """Build one decoder layer from the tensors of its file; the other arguments are those of `load_compressed`."""
    prefix = f"llm.model.layers.{index}."
    linears = {name: read_linear(tensors, prefix + name, manifest.linears[prefix + name]) for name in LINEARS}
    gains = {name: tensors.get(f"{prefix}{name}.weight") for name in NORMS}
    epsilon = manifest.shapes.language.epsilon
    return QuantDecoderLayer(linears, gains, dtype=dtype, backend=backend, device=device, epsilon=epsilon).eval()


def _give_back_heap() -> None:
    """Return the freed heap of unpacking to the system: gigabytes that would count as the model's memory."""
    ctypes.CDLL(None).malloc_trim(0)

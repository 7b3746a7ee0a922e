"""What a compressed OpenVLA holds: its sizes, its manifest, and the tensors around the decoder layers."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from sqap_vla_ros.config.recipe import Recipe
from sqap_vla_ros.policies.cogact.store import Stored, VlmShapes
from sqap_vla_ros.policies.openvla.adapted import split_towers
from sqap_vla_ros.policies.openvla.build import find_decoding
from sqap_vla_ros.policies.openvla.checkpoint import (
    LANGUAGE,
    PROJECTOR,
    OpenVlaCheckpoint,
    read_modulated_towers,
    read_parts,
)
from sqap_vla_ros.policies.openvla.components import HEAD, NOISY_ACTION, PROPRIO, VISION, read_component
from sqap_vla_ros.policies.openvla.heads import HeadShape, head_shape
from sqap_vla_ros.policies.openvla.model import Decoding
from sqap_vla_ros.vlm.checkpoint import COMPRESSED
from sqap_vla_ros.vlm.language import language_layout, language_shape
from sqap_vla_ros.vlm.lowbit.store import StoredManifest, read_manifest_as
from sqap_vla_ros.vlm.lowbit.transform import rotate_residual
from sqap_vla_ros.vlm.vision import tower_shape
from sqap_vla_ros.vlm.weights import Part, Source

COMPONENTS, MODULATION = "components", "modulation"
LM_HEAD = "llm.lm_head.weight"


class OpenVlaShapes(VlmShapes):
    """Sizes of the network."""

    decoding: Decoding
    head: HeadShape | None
    proprio: int | None
    modulated: bool


OpenVlaManifest = StoredManifest[OpenVlaShapes]
"""The JSON of a compressed OpenVLA."""


def read_openvla_manifest(directory: Path, name: str = COMPRESSED) -> OpenVlaManifest:
    """Read the JSON of a compressed OpenVLA; see `vlm.lowbit.store.read_manifest_as`."""
    return read_manifest_as(OpenVlaManifest, directory, name)


def read_all_parts(checkpoint: OpenVlaCheckpoint) -> dict[str, Part]:
    """Map all parts: towers, projector, language model, components by kind, and the towers' modulation if there is one.

    Raises:
        CheckpointError: See `checkpoint.read_parts`, `components.read_component`.
    """
    parts = read_parts(checkpoint)
    for kind, path in checkpoint.components.items():
        if kind == VISION:
            parts[VISION], parts[MODULATION] = split_towers(read_modulated_towers(path))
        else:
            parts[kind] = read_component(path)
    return parts


def read_openvla_shapes(
    checkpoint: OpenVlaCheckpoint, parts: Mapping[str, Part], told: Decoding | None
) -> OpenVlaShapes:
    """Sizes of a checkpoint's network.

    Raises:
        CheckpointError: The tensors are not those of an OpenVLA, or no file says how its actions come out.
    """
    decoding, heads = find_decoding(checkpoint, told), checkpoint.architecture
    language = language_shape(parts[LANGUAGE], heads)
    parts[LANGUAGE].check(language_layout(language))
    return OpenVlaShapes(
        dino=tower_shape(parts[VISION], "dino", heads),
        siglip=tower_shape(parts[VISION], "siglip", heads),
        projector_hidden=parts[PROJECTOR].size("projector.0.weight", 0, 2),
        language=replace(language, epsilon=checkpoint.epsilon, causal=decoding == "autoregressive"),
        decoding=decoding,
        head=head_shape(parts[HEAD], language.width) if HEAD in parts else None,
        proprio=parts[PROPRIO].size("fc1.weight", 1, 2) if PROPRIO in parts else None,
        modulated=MODULATION in parts,
    )


def component_tensors(parts: Mapping[str, Part], recipe: Recipe) -> Stored:
    """Heads and projectors, in the published precision; what projects into the residual stream, in its basis."""
    tensors: dict[str, Tensor] = {}
    for kind in (HEAD, PROPRIO, NOISY_ACTION):
        for name in parts[kind].tensors if kind in parts else ():
            tensor = parts[kind].take(Source(name), torch.float32, "cpu")
            if kind != HEAD and recipe.rotation == "residual" and name.startswith("fc2."):
                tensor = rotate_residual(tensor.T, recipe).T if tensor.ndim == 2 else rotate_residual(tensor, recipe)
            tensors[f"{kind}.{name}"] = tensor.to(torch.bfloat16)
    if HEAD not in parts:
        tensors[LM_HEAD] = parts[LANGUAGE].take(Source(LM_HEAD), torch.bfloat16, "cpu")
    return tensors, {}


def modulation_tensors(part: Part, recipe: Recipe) -> Stored:
    """The layers by which the text modulates the towers; the text's embeddings are in the basis of the stream."""
    tensors = {name: part.take(Source(name), torch.float32, "cpu") for name in part.tensors}
    if recipe.rotation == "residual":
        for name in tensors:
            if name.endswith(".weight"):
                tensors[name] = rotate_residual(tensors[name], recipe)
    return {name: tensor.to(torch.bfloat16) for name, tensor in tensors.items()}, {}

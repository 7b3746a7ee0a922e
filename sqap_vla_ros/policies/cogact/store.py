"""What a compressed CogACT holds: its sizes, its manifest, and the tensors of the parts around the decoder layers."""

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from sqap_vla_ros.config.recipe import Recipe
from sqap_vla_ros.config.settings import Group
from sqap_vla_ros.policies.cogact.action_head import ActionHeadShape, action_head_layout, action_head_shape
from sqap_vla_ros.policies.cogact.checkpoint import HEAD, LLM, PROJECTOR, VISION
from sqap_vla_ros.vlm.checkpoint import COMPRESSED
from sqap_vla_ros.vlm.language import LanguageShape, language_layout, language_shape
from sqap_vla_ros.vlm.lowbit.linear import InputFormat, StoredLinear
from sqap_vla_ros.vlm.lowbit.store import LinearEntry, StoredManifest, describe, linear_tensors, read_manifest_as
from sqap_vla_ros.vlm.lowbit.transform import rotate_residual
from sqap_vla_ros.vlm.lowbit.weight import round_to_nearest
from sqap_vla_ros.vlm.projector import projector_layout
from sqap_vla_ros.vlm.vision import TowerShape, tower_layout, tower_shape
from sqap_vla_ros.vlm.weights import Layout, Part, Source

_TOWER_INPUT = InputFormat(bits=8)

Stored = tuple[dict[str, Tensor], dict[str, LinearEntry]]
"""Tensors of a file, and the manifest entries of the quantised linear layers among them."""


class VlmShapes(Group):
    """Sizes of the vision-language part."""

    dino: TowerShape
    siglip: TowerShape
    projector_hidden: int
    language: LanguageShape


class Shapes(VlmShapes):
    """Sizes of the network."""

    action_head: ActionHeadShape


Manifest = StoredManifest[Shapes]
"""The JSON of a compressed CogACT."""


def read_manifest(directory: Path, name: str = COMPRESSED) -> Manifest:
    """Read the JSON of a compressed CogACT; see `vlm.lowbit.store.read_manifest_as`."""
    return read_manifest_as(Manifest, directory, name)


def read_shapes(parts: Mapping[str, Part], architecture: Mapping[str, int]) -> Shapes:
    """Sizes of a checkpoint's network.

    Raises:
        CheckpointError: The tensors are not those of a CogACT.
    """
    vision, projector, llm, head = (parts[name] for name in (VISION, PROJECTOR, LLM, HEAD))
    shapes = Shapes(
        dino=tower_shape(vision, "dino", architecture),
        siglip=tower_shape(vision, "siglip", architecture),
        projector_hidden=projector.size("projector.0.weight", 0, 2),
        language=language_shape(llm, architecture),
        action_head=action_head_shape(head, architecture),
    )
    towers = tower_layout(shapes.dino), tower_layout(shapes.siglip)
    vision.check(Layout({**towers[0].required, **towers[1].required}, {**towers[0].optional, **towers[1].optional}))
    width = shapes.dino.width + shapes.siglip.width
    projector.check(projector_layout(width, shapes.projector_hidden, shapes.language.width))
    llm.check(language_layout(shapes.language))
    head.check(action_head_layout(shapes.action_head))
    return shapes


def vision_tensors(part: Part, shapes: VlmShapes, recipe: Recipe) -> Stored:
    """Both towers, without what the features do not need: the last block, the norm and the pooling."""
    tensors: dict[str, Tensor] = {}
    entries: dict[str, LinearEntry] = {}
    for shape in (shapes.dino, shapes.siglip):
        last_block = f"{shape.prefix}blocks.{shape.depth - 1}."
        for name in tower_layout(shape).required:
            if name.startswith(last_block):
                continue
            linear = name.removesuffix(".weight")
            if recipe.towers == "w8a8" and _is_tower_linear(name, shape):
                weight = part.take(Source(name), torch.float32, "cpu")
                stored = StoredLinear(round_to_nearest(weight, 8, search=False), _TOWER_INPUT)
                tensors |= linear_tensors(linear, stored)
                entries[linear] = describe(stored, weight)
            else:
                tensors[name] = part.take(Source(name), torch.bfloat16, "cpu")
    return tensors, entries


def projector_tensors(part: Part, recipe: Recipe) -> Stored:
    """The projector; its last layer writes to the residual stream, in the basis of that stream."""
    tensors = {name: part.take(Source(name), torch.float32, "cpu") for name in part.tensors}
    if recipe.rotation == "residual":
        weight, bias = "projector.4.weight", "projector.4.bias"
        tensors[weight] = rotate_residual(tensors[weight].T, recipe).T
        tensors[bias] = rotate_residual(tensors[bias], recipe)
    return {name: tensor.to(torch.bfloat16) for name, tensor in tensors.items()}, {}


def embedding_tensors(part: Part, recipe: Recipe) -> Stored:
    """The embedding table, in the basis of the residual stream, and the final norm."""
    embeddings = part.take(Source("llm.model.embed_tokens.weight"), torch.bfloat16, "cpu")
    if recipe.rotation == "residual":
        for rows in embeddings.split(4096):
            rows.copy_(rotate_residual(rows.float(), recipe))
    norm = part.take(Source("llm.model.norm.weight"), torch.bfloat16, "cpu")
    return {"llm.model.embed_tokens.weight": embeddings, "llm.model.norm.weight": norm}, {}


def head_tensors(part: Part, shapes: Shapes) -> Stored:
    """The action head in float16: its weights are moderate and profit from the 11 bits of precision."""
    names = action_head_layout(shapes.action_head).required
    return {name: part.take(Source(name), torch.float16, "cpu") for name in names}, {}


def _is_tower_linear(name: str, shape: TowerShape) -> bool:
    return name.startswith(f"{shape.prefix}blocks.") and name.endswith(
        (".attn.qkv.weight", ".attn.proj.weight", ".mlp.fc1.weight", ".mlp.fc2.weight")
    )

"""CogACT networks with random weights: small ones as tensors of a checkpoint, published ones on a device.

A small network is a checkpoint for the demo and for tests. A network of the published widths is for measuring speed,
which does not depend on the weights.
"""

import math
from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import Literal

import torch
from torch import Tensor, nn

from sqap_vla_ros.policies.cogact.action_head import ActionHead, ActionHeadShape
from sqap_vla_ros.policies.cogact.checkpoint import HEAD, LLM
from sqap_vla_ros.policies.cogact.model import CogACT
from sqap_vla_ros.policies.cogact.published import layouts, published_shapes
from sqap_vla_ros.policies.cogact.store import Shapes
from sqap_vla_ros.testing.weight_only import weight_only_layer
from sqap_vla_ros.vlm.language import FloatDecoderLayer, LanguageModel, LanguageShape
from sqap_vla_ros.vlm.lowbit.hadamard import block_size
from sqap_vla_ros.vlm.lowbit.layer import ATTENTION_OUTPUT, MLP_OUTPUT, NORMS, QuantDecoderLayer
from sqap_vla_ros.vlm.lowbit.linear import InputFormat, QuantLinear, StoredLinear
from sqap_vla_ros.vlm.lowbit.rotated_norm import RotatedNorm
from sqap_vla_ros.vlm.lowbit.weight import QuantisedWeight, weight_from_codes
from sqap_vla_ros.vlm.projector import Projector
from sqap_vla_ros.vlm.vision import TowerShape, VisionBackbone
from sqap_vla_ros.vlm.weights import Layout

NumberFormat = Literal["float", "w8a8", "w4a16", "w4a4"]
"""Number format of the language model's linear layers."""

ATTENTION_HEADS = 4  # everywhere in a small network
_VOCABULARY = 32064
_CLIP = 0.7  # of the rotated inputs of the recipe w4a4


def small_shapes(tower: tuple[int, int], language: tuple[int, int], head: tuple[int, int]) -> Shapes:
    """Sizes of a small network from the width and depth of each vision tower, language model and action head."""
    (tower_width, tower_depth), (width, depth), (head_width, head_depth) = tower, language, head
    heads, hidden = ATTENTION_HEADS, 4 * tower_width
    return Shapes(
        dino=TowerShape("dino", tower_width, tower_depth, heads, hidden, grid=16, patch_px=14, registers=4),
        siglip=TowerShape("siglip", tower_width, tower_depth, heads, hidden, grid=16, patch_px=14),
        projector_hidden=8 * tower_width,
        language=LanguageShape(width, depth, heads, heads, width // heads, round(width * 2.6875), _VOCABULARY),
        action_head=ActionHeadShape(head_width, head_depth, heads, 4 * head_width, width, action_dim=7, horizon=16),
    )


SMALL: Mapping[str, Shapes] = MappingProxyType(
    {
        "tiny": small_shapes((32, 2), (64, 3), (48, 2)),
        "small": small_shapes((64, 3), (128, 4), (96, 3)),
    }
)
"""The small networks; "small" has about two million parameters besides the embedding table."""


def random_parts(shapes: Shapes, seed: int) -> dict[str, dict[str, Tensor]]:
    """Tensors of a small checkpoint, by part and published name; the same seed gives the same tensors.

    The actions are moderate: attention depends on the image, and sampling ends within a few times the limits.
    """
    generator = torch.Generator().manual_seed(seed)
    parts = {name: _random_tensors(layout, generator) for name, layout in layouts(shapes).items()}
    llm = parts[LLM]
    llm["llm.lm_head.weight"] = llm["llm.model.embed_tokens.weight"]
    _sharpen_attention(llm)
    _predict_the_noise(parts[HEAD])
    return parts


def _random_tensors(layout: Layout, generator: torch.Generator) -> dict[str, Tensor]:
    """Weights that keep the size of what passes through them; identity norms, no biases."""
    tensors = {}
    for name, shape in {**layout.required, **layout.optional}.items():
        if "norm" in name or name.endswith("gamma"):
            tensors[name] = torch.zeros(shape) if name.endswith(".bias") else torch.ones(shape)
        elif name.endswith(".bias"):
            tensors[name] = torch.zeros(shape)
        else:
            matrix = name.endswith(".weight") and "embed_tokens" not in name
            scale = math.prod(shape[1:]) ** -0.5 if matrix else 0.5
            tensors[name] = torch.randn(shape, generator=generator) * scale
    return tensors


def _sharpen_attention(llm: dict[str, Tensor]) -> None:
    """Let attention choose and count: with plain random weights it is even, and the image hardly matters."""
    for name in llm:
        if name.endswith(("q_proj.weight", "k_proj.weight", "o_proj.weight")):
            llm[name] = llm[name] * 2.0


def _predict_the_noise(head: dict[str, Tensor]) -> None:
    """Let the head predict its input and a share of the condition: then sampling ends within a few times the limits."""
    into = head["net.x_embedder.linear.weight"]
    head["net.final_layer.linear.weight"] = into.T.contiguous() * (into.shape[1] / into.shape[0])
    for name in head:
        if name.endswith(("mlp.fc2.weight", "positional_embedding")):
            head[name] = head[name] * 0.2
        elif name.endswith("z_embedder.linear.weight"):
            head[name] = head[name] * 4.0


def random_network(number_format: NumberFormat, size: str, depth: int | None, device: torch.device) -> CogACT:
    """Make a network of the published widths on a device; no two layers share memory.

    Args:
        number_format: "float" is bfloat16 throughout. In "w8a8" and "w4a4" the language model's linear layers are
            integers, 4 bits as the recipe w4a4 has them, and those of the towers are W8A8. In "w4a16" only the
            language model's weights are integers.
        size: Size of the action head, a key of `published.HEADS`.
        depth: As in `published_shapes`.
        device: Where the network is made.
    """
    shapes = published_shapes(size, depth)
    shape, width = shapes.language, shapes.language.width
    with torch.device("meta"):
        vision = VisionBackbone(shapes.dino, shapes.siglip)
        projector = Projector(shapes.dino.width + shapes.siglip.width, shapes.projector_hidden, width)
        language = LanguageModel(replace(shape, depth=0))
        head = ActionHead(shapes.action_head)
    language.shape = shape
    _fill(language, torch.bfloat16, device)
    for _ in range(shape.depth):
        language.layers.append(_decoder_layer(shape, number_format, device))
    if number_format in ("w8a8", "w4a4"):
        for blocks in (vision.dino.blocks, vision.siglip.blocks):
            _quantise_tower(blocks, device)
    if number_format == "w4a4":
        gain = torch.ones(width, dtype=torch.bfloat16, device=device)
        language.norm = RotatedNorm(gain, block_size(width, 4096))
    _fill(vision, torch.bfloat16, device)
    _fill(projector, torch.bfloat16, device)
    _fill(head, torch.float32, device)
    return CogACT(vision, projector, language, head)


def linear_shapes(shape: LanguageShape) -> list[tuple[str, int, int]]:
    """Names, output and input channels of a decoder layer's linear layers."""
    width, hidden = shape.width, shape.hidden
    attention = [(f"self_attn.{name}_proj", width, width) for name in "qkvo"]
    mlp = [("mlp.gate_proj", hidden, width), ("mlp.up_proj", hidden, width), ("mlp.down_proj", width, hidden)]
    return attention + mlp


def _fill(module: nn.Module, dtype: torch.dtype, device: torch.device) -> None:
    """Replace parameters on the meta device by random ones that keep the size of what passes through them."""
    for name, parameter in list(module.named_parameters()):
        if not parameter.is_meta:
            continue
        owner, _, leaf = name.rpartition(".")
        values = torch.empty(parameter.shape, dtype=dtype, device=device)
        if parameter.ndim == 1:
            values.fill_(0.0 if leaf == "bias" else 1.0)
        else:
            values.normal_(0, parameter[0].numel() ** -0.5)
        module.get_submodule(owner).register_parameter(leaf, nn.Parameter(values, requires_grad=False))


def _decoder_layer(shape: LanguageShape, number_format: NumberFormat, device: torch.device) -> nn.Module:
    if number_format == "float":
        with torch.device("meta"):
            layer = FloatDecoderLayer(shape)
        _fill(layer, torch.bfloat16, device)
        return layer.eval()
    if number_format == "w4a16":
        return weight_only_layer(shape, device)
    rotated = (ATTENTION_OUTPUT, MLP_OUTPUT) if number_format == "w4a4" else ()
    bits, clip = (4, _CLIP) if number_format == "w4a4" else (8, 1.0)
    linears = {}
    for name, rows, columns in linear_shapes(shape):
        block = block_size(columns, 4096) if name in rotated else 1
        linears[name] = StoredLinear(_random_weight(rows, columns, bits, device), InputFormat(bits, block, clip))
    gain = None if number_format == "w4a4" else torch.ones(shape.width, device=device)
    return QuantDecoderLayer(linears, dict.fromkeys(NORMS, gain), dtype=torch.bfloat16, device=device).eval()


def _random_weight(rows: int, columns: int, bits: int, device: torch.device) -> QuantisedWeight:
    limit = 2 ** (bits - 1) - 1
    codes = torch.randint(-limit, limit + 1, (rows, columns), dtype=torch.int8, device=device)
    # Even numbers up to the limit deviate by about 0.58 of it.
    scales = torch.full((rows, 1), columns**-0.5 / (0.58 * limit), device=device)
    return weight_from_codes(codes, scales, bits)


def _quantise_tower(blocks: nn.Module, device: torch.device) -> None:
    for path, module in list(blocks.named_modules()):
        if isinstance(module, nn.Linear):
            owner, _, leaf = path.rpartition(".")
            weight = _random_weight(module.out_features, module.in_features, 8, device)
            bias = torch.zeros(module.out_features, dtype=torch.bfloat16, device=device)
            setattr(blocks.get_submodule(owner), leaf, QuantLinear(weight, InputFormat(8), bias, device=device))

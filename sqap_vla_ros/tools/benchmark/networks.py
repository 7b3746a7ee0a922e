"""CogACT at its published widths with random weights, made where they are needed: speed asks for nothing better."""

import dataclasses
from typing import Literal

import torch
from torch import nn

from sqap_vla_ros.policies.cogact.action_head import ActionHead
from sqap_vla_ros.policies.cogact.compressed import RotatedNorm
from sqap_vla_ros.policies.cogact.model import CogACT
from sqap_vla_ros.policies.cogact.published import DINO, HEADS, LANGUAGE, PROJECTOR_HIDDEN, SIGLIP
from sqap_vla_ros.vlm.language import FloatDecoderLayer, LanguageModel
from sqap_vla_ros.vlm.lowbit.hadamard import block_size
from sqap_vla_ros.vlm.lowbit.layer import ATTENTION_OUTPUT, MLP_OUTPUT, NORMS, QuantDecoderLayer, StoredLinear
from sqap_vla_ros.vlm.lowbit.linear import InputFormat, QuantLinear
from sqap_vla_ros.vlm.lowbit.weight import QuantisedWeight, weight_from_codes
from sqap_vla_ros.vlm.projector import Projector
from sqap_vla_ros.vlm.vision import VisionBackbone

Numbers = Literal["float", "w8a8", "w4a16", "w4a4"]
"""Number format of the language model's linear layers."""


def random_network(numbers: Numbers, size: str, depth: int | None, device: torch.device) -> CogACT:
    """A network of which no two layers share memory.

    Args:
        numbers: bfloat16 throughout; "w8a8", "w4a4": the language model's linear layers in integers, 4 bits as the
            recipe sqap-w4a4 has them, and those of the towers W8A8; "w4a16": the language model's weights in 4 bits.
        size: Of the action head, a key of `published.HEADS`.
        depth: Decoder layers, and at most as many blocks per tower and action head; None: the published ones.
        device: Where.
    """
    dino, siglip, language_shape, head_shape = DINO, SIGLIP, LANGUAGE, HEADS[size]
    if depth is not None:
        dino, siglip = (dataclasses.replace(shape, depth=min(shape.depth, depth + 1)) for shape in (dino, siglip))
        language_shape = dataclasses.replace(LANGUAGE, depth=depth)
        head_shape = dataclasses.replace(head_shape, depth=min(head_shape.depth, depth))
    with torch.device("meta"):
        vision = VisionBackbone(dino, siglip)
        projector = Projector(dino.width + siglip.width, PROJECTOR_HIDDEN, LANGUAGE.width)
        language = LanguageModel(dataclasses.replace(language_shape, depth=0))
        head = ActionHead(head_shape)
    language.shape = language_shape
    _draw(language, torch.bfloat16, device)
    for _ in range(language_shape.depth):
        language.layers.append(_decoder_layer(numbers, device))
    if numbers in ("w8a8", "w4a4"):
        for module in (vision.dino.blocks, vision.siglip.blocks):
            _quantise_tower(module, device)
    if numbers == "w4a4":
        gain = torch.ones(LANGUAGE.width, dtype=torch.bfloat16, device=device)
        language.norm = RotatedNorm(gain, block_size(LANGUAGE.width, 4096))
    _draw(vision, torch.bfloat16, device)
    _draw(projector, torch.bfloat16, device)
    _draw(head, torch.float32, device)
    return CogACT(vision, projector, language, head)


def _draw(module: nn.Module, dtype: torch.dtype, device: torch.device) -> None:
    """Give every parameter that is still on the meta device numbers that keep the size of what passes through them."""
    for name, parameter in list(module.named_parameters()):
        if not parameter.is_meta:
            continue
        owner, _, leaf = name.rpartition(".")
        drawn = torch.empty(parameter.shape, dtype=dtype, device=device)
        if parameter.ndim == 1:
            drawn.fill_(0.0 if leaf == "bias" else 1.0)
        else:
            drawn.normal_(0, parameter[0].numel() ** -0.5)
        module.get_submodule(owner).register_parameter(leaf, nn.Parameter(drawn, requires_grad=False))


def _decoder_layer(numbers: Numbers, device: torch.device) -> nn.Module:
    if numbers == "float":
        with torch.device("meta"):
            layer = FloatDecoderLayer(LANGUAGE)
        _draw(layer, torch.bfloat16, device)
        return layer.eval()
    if numbers == "w4a16":
        from sqap_vla_ros.tools.benchmark.weight_only import weight_only_layer

        return weight_only_layer(LANGUAGE, device)
    bits = 4 if numbers == "w4a4" else 8
    linears = {}
    for name, rows, columns in linear_shapes():
        block = block_size(columns, 4096) if numbers == "w4a4" and name in (ATTENTION_OUTPUT, MLP_OUTPUT) else 1
        clip = 0.7 if numbers == "w4a4" else 1.0
        linears[name] = StoredLinear(_codes(rows, columns, bits, device), InputFormat(bits, block, clip))
    gain = None if numbers == "w4a4" else torch.ones(LANGUAGE.width, device=device)
    return QuantDecoderLayer(linears, dict.fromkeys(NORMS, gain), dtype=torch.bfloat16, device=device).eval()


def linear_shapes() -> list[tuple[str, int, int]]:
    """Names, output and input channels of a decoder layer's linear layers."""
    width, hidden = LANGUAGE.width, LANGUAGE.hidden
    attention = [(f"self_attn.{name}_proj", width, width) for name in "qkvo"]
    return [
        *attention,
        ("mlp.gate_proj", hidden, width),
        ("mlp.up_proj", hidden, width),
        ("mlp.down_proj", width, hidden),
    ]


def _codes(rows: int, columns: int, bits: int, device: torch.device) -> QuantisedWeight:
    limit = 2 ** (bits - 1) - 1
    codes = torch.randint(-limit, limit + 1, (rows, columns), dtype=torch.int8, device=device)
    # Even numbers up to the limit deviate by about 0.58 of it.
    scales = torch.full((rows, 1), columns**-0.5 / (0.58 * limit), device=device)
    return weight_from_codes(codes, scales, bits)


def _quantise_tower(blocks: nn.Module, device: torch.device) -> None:
    for path, module in list(blocks.named_modules()):
        if isinstance(module, nn.Linear):
            owner, _, leaf = path.rpartition(".")
            weight = _codes(module.out_features, module.in_features, 8, device)
            bias = torch.zeros(module.out_features, dtype=torch.bfloat16, device=device)
            setattr(blocks.get_submodule(owner), leaf, QuantLinear(weight, InputFormat(8), bias, device=device))

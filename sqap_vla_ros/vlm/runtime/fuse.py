"""Replaces the blocks of a network by fused ones, in place and one at a time: weights never exist twice."""

from typing import Any

import torch
from torch import Tensor, nn

from sqap_vla_ros.vlm.language import FloatDecoderLayer, LanguageModel
from sqap_vla_ros.vlm.lowbit.layer import QuantDecoderLayer
from sqap_vla_ros.vlm.lowbit.linear import QuantLinear, SharedInputLinears
from sqap_vla_ros.vlm.runtime.fused_blocks import FusedDecoderLayer, FusedTowerBlock
from sqap_vla_ros.vlm.runtime.fused_linears import FloatLinear, Fused, IntegerLinear, Prologue
from sqap_vla_ros.vlm.vision import VisionBackbone


def fuse(language: LanguageModel, vision: VisionBackbone) -> None:
    """Fuse every block that the kernels can run; mixed precision and other than token-wise scales stay as they are.

    Integer layers must have the Triton backend. The network computes the same function, with rounding in other places.
    """
    for index in range(len(language.layers)):
        language.layers[index] = _fused_decoder_layer(language.layers[index], language.shape.epsilon)
    for tower in (vision.dino, vision.siglip):
        for index in range(len(tower.blocks)):
            tower.blocks[index] = _fused_tower_block(tower.blocks[index], tower.shape.heads)


def _fused_decoder_layer(layer: nn.Module, epsilon: float) -> nn.Module:
    if isinstance(layer, FloatDecoderLayer):
        attention, mlp = layer.self_attn, layer.mlp
        linears: list[Fused | None] = [
            FloatLinear([attention.q_proj, attention.k_proj, attention.v_proj]),
            FloatLinear([attention.o_proj]),
            FloatLinear([mlp.gate_proj, mlp.up_proj]),
            FloatLinear([mlp.down_proj]),
        ]
        gains: tuple[Tensor | None, Tensor | None] = layer.input_layernorm.weight, layer.post_attention_layernorm.weight
        rows = tuple(linear.out_features for linear in (attention.q_proj, attention.k_proj, attention.v_proj))
    elif isinstance(layer, QuantDecoderLayer):
        groups = layer.attention_input, layer.attention_output, layer.mlp_input, layer.mlp_output
        linears = [_integer_group(group) for group in groups]
        gains = layer.input_layernorm, layer.post_attention_layernorm
        rows = tuple(layer.attention_input.rows[0])
    else:
        return layer
    first, output, inner, down = linears
    if first is None or output is None or inner is None or down is None:
        return layer
    norms = tuple(Prologue(epsilon, gain) for gain in gains)
    return FusedDecoderLayer(first, output, inner, down, (norms[0], norms[1]), (rows[0], rows[1], rows[2])).eval()


def _fused_tower_block(block: Any, heads: int) -> nn.Module:
    if isinstance(block, FusedTowerBlock):
        return block
    if hasattr(block, "layer_scale1"):
        attention, output = block.attention, block.attention.o_proj
        before = block.norm1, block.norm2
        scales: tuple[Tensor | None, Tensor | None] = block.layer_scale1.lambda1, block.layer_scale2.lambda1
    else:
        attention, output = block.self_attn, block.self_attn.out_proj
        before, scales = (block.layer_norm1, block.layer_norm2), (None, None)
    qkv = _fused([attention.q_proj, attention.k_proj, attention.v_proj])
    proj, fc1, fc2 = _fused([output], scales[0]), _fused([block.mlp.fc1]), _fused([block.mlp.fc2], scales[1])
    if qkv is None or proj is None or fc1 is None or fc2 is None:
        return block
    norms = tuple(Prologue(norm.eps, norm.weight, norm.bias) for norm in before)
    return FusedTowerBlock(qkv, proj, fc1, fc2, (norms[0], norms[1]), heads).eval()


def _fused(linears: list[Any], layer_scale: Tensor | None = None) -> Fused | None:
    if all(isinstance(linear, nn.Linear) for linear in linears):
        return FloatLinear(linears, layer_scale)
    return _integer(linears, layer_scale)


def _integer_group(group: SharedInputLinears) -> Fused | None:
    return _integer(list(group.parts)) if len(group.parts) == 1 else None


def _integer(linears: list[Any], layer_scale: Tensor | None = None) -> IntegerLinear | None:
    """Quantised linear layers with one input as one layer; None where the kernels cannot compute it."""
    if not all(isinstance(linear, QuantLinear) and _is_plain(linear) for linear in linears):
        return None
    first: QuantLinear = linears[0]
    operands = [linear.product.groups[0] for linear in linears]
    if any(linear.input_format != first.input_format for linear in linears):
        return None
    if len({weights.dtype for _, weights, _ in operands}) > 1:
        return None
    scales = torch.cat([scales for _, _, scales in operands])
    biases = [linear.bias for linear in linears if linear.bias is not None]
    bias = torch.cat(biases) if biases else None
    if layer_scale is not None:
        scales = scales * layer_scale.float()[:, None]
        bias = None if bias is None else bias * layer_scale
    weights = torch.cat([weights for _, weights, _ in operands]) if len(operands) > 1 else operands[0][1]
    return IntegerLinear(weights, scales, bias, first.input_format)


def _is_plain(linear: QuantLinear) -> bool:
    """Whether the kernels can compute a layer: all rows of one width, and one dynamic scale per token."""
    groups = getattr(linear.product, "groups", ())
    unusual = linear.full is not None or linear.order is not None or linear.divisor is not None
    return len(groups) == 1 and not unusual and linear.input_format.granularity == "token"

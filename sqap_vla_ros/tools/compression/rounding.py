"""Rounds the linear layers of one prepared decoder layer."""

from dataclasses import dataclass

import torch
from torch import Tensor

from sqap_vla_ros.config.recipe import Recipe
from sqap_vla_ros.tools.compression.gptq import InputStatistics, gptq
from sqap_vla_ros.vlm.lowbit.integers import absmax_scales, largest_code, quantise, searched_scales
from sqap_vla_ros.vlm.lowbit.layer import ATTENTION_INPUT
from sqap_vla_ros.vlm.lowbit.linear import InputFormat, StoredLinear, quantise_tokens
from sqap_vla_ros.vlm.lowbit.store import LinearEntry, describe
from sqap_vla_ros.vlm.lowbit.transform import PreparedLayer
from sqap_vla_ros.vlm.lowbit.weight import QuantisedWeight, mixed_weight, weight_from_codes

# Layers before the one in front of which tokens are dropped: their queries and keys decide which are dropped.
SCORING_LAYERS = 2
_CLIPS = (1.0, 0.9, 0.8, 0.7, 0.6)


@dataclass(frozen=True)
class SeenInputs:
    """Calibration's record of the inputs of a linear layer, after their rotation.

    Attributes:
        statistics: Second moments and largest magnitudes.
        samples: float32 (n, columns), a sample of the inputs.
    """

    statistics: InputStatistics
    samples: Tensor


def round_linear(
    name: str,
    layer: int,
    prepared: PreparedLayer,
    recipe: Recipe,
    seen: SeenInputs | None = None,
    channel_bits: Tensor | None = None,
) -> tuple[StoredLinear, LinearEntry]:
    """Round one linear layer.

    Args:
        name: Published name within the decoder layer.
        layer: Index of the decoder layer.
        prepared: Its weights.
        recipe: How the layer is rounded.
        seen: Its inputs in calibration; None: round to nearest, with the recipe's clip.
        channel_bits: uint8 (rows,), bits of each output channel; None: the recipe's for all.
    """
    weight = prepared.weights[name]
    input_format = _input_format(name, layer, prepared, recipe, seen)
    exact, divisor = weight, None
    hessian = None if seen is None else seen.statistics.hessian
    if input_format.granularity == "channel" and seen is not None:
        limit = largest_code(input_format.bits)
        divisor = (seen.statistics.absmax * (input_format.clip / limit)).clamp_min(torch.finfo(torch.float32).tiny)
        weight = weight * divisor
        hessian = hessian / divisor / divisor[:, None] if hessian is not None else None
    stored = _round(weight, recipe, hessian) if channel_bits is None else mixed_weight(weight, channel_bits)
    linear = StoredLinear(stored, input_format, divisor)
    error = None if seen is None else _output_error(linear, exact, seen.statistics.hessian)
    return linear, describe(linear, exact, error)


def _round(weight: Tensor, recipe: Recipe, hessian: Tensor | None) -> QuantisedWeight:
    bits = recipe.weights.bits
    power = None if hessian is None else hessian.diagonal()
    scales = searched_scales(weight, bits, power) if recipe.weights.clip_search else absmax_scales(weight, bits)
    if hessian is not None and recipe.weights.rounding == "gptq":
        return weight_from_codes(gptq(weight, hessian, scales, bits), scales, bits)
    return weight_from_codes(quantise(weight, scales, bits), scales, bits)


def _input_format(
    name: str, layer: int, prepared: PreparedLayer, recipe: Recipe, seen: SeenInputs | None
) -> InputFormat:
    activations = recipe.activations
    decides = layer < SCORING_LAYERS and name in ATTENTION_INPUT[:2]
    bits = (activations.scoring_bits if decides else None) or activations.bits
    # With eight bits clipping would lose what it gains with four.
    clip = activations.clip if prepared.rotated[name] and bits < 8 else 1.0
    input_format = InputFormat(bits, prepared.blocks[name], clip, activations.granularity)
    if seen is None or bits >= 8 or not activations.clip_search or activations.granularity == "channel":
        return input_format
    candidates = [InputFormat(bits, input_format.block, share, activations.granularity) for share in _CLIPS]
    return min(candidates, key=lambda candidate: _rounding_error(seen.samples, candidate))


def _rounding_error(samples: Tensor, input_format: InputFormat) -> float:
    codes, scales = quantise_tokens(samples, input_format)
    return float((codes * scales - samples).square().sum())


def _output_error(linear: StoredLinear, exact: Tensor, hessian: Tensor) -> float:
    """Relative error of the outputs, ‖X ΔWᵀ‖ / ‖X Wᵀ‖, on the inputs X of H = XᵀX."""
    error = linear.weight.dequantised()
    if linear.divisor is not None:
        error /= linear.divisor
    error -= exact
    lost, whole = (((part @ hessian) * part).sum() for part in (error, exact))
    return float((lost / whole.clamp_min(torch.finfo(torch.float32).tiny)).clamp_min(0).sqrt())

"""Transforms a decoder layer's weights before they are rounded; in exact arithmetic the layer stays the same.

Gains of the norms, smoothing factors and rotations are folded into the weights, so that neither weights nor inputs have
outliers when they are rounded:

- smoothing (SmoothQuant, arXiv 2211.10438): x W = (x / s)(s W), where 1/s is folded into the layer that computes x;
  in front of a rotation, the rounding error of a token is spread over all channels in proportion to ‖x / s‖, and the
  output's error is least where s² is the ratio of the channel's root mean square to its weights' (`smoothing_by: power`
  with the exponent 0.5, by Cauchy and Schwarz);
- rotation: x W = (x H)(H W), where the first H is applied online, or folded into the layer that computes x.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from sqap_vla_ros.config.recipe import Recipe, SmoothingBy
from sqap_vla_ros.vlm.lowbit.hadamard import block_size, rotate
from sqap_vla_ros.vlm.lowbit.layer import ATTENTION_INPUT, ATTENTION_OUTPUT, LINEARS, MLP_INPUT, MLP_OUTPUT, NORMS

_LEAST = 1e-5


@dataclass(frozen=True)
class PreparedLayer:
    """A decoder layer ready to be rounded.

    Attributes:
        weights: float32 (rows, columns), by the linear layers' published names.
        gains: float32 (width,), gains of the norms; None where the gain is folded into the weights.
        blocks: Hadamard block of the online rotation of each linear layer's input; 1: no rotation.
        rotated: Whether each linear layer's input is rotated, online or by the layer that computes it.
    """

    weights: Mapping[str, Tensor]
    gains: Mapping[str, Tensor | None]
    blocks: Mapping[str, int]
    rotated: Mapping[str, bool]


def prepare(
    weights: Mapping[str, Tensor],
    gains: Mapping[str, Tensor],
    recipe: Recipe,
    input_magnitudes: Mapping[str, Tensor] | None = None,
    head_width: int = 128,
) -> PreparedLayer:
    """Fold gains, smoothing and rotations into the weights of one layer.

    Args:
        weights: float32 (rows, columns), by published name; they are not changed.
        gains: float32 (width,), gains of the two norms.
        recipe: Says which transforms are applied.
        input_magnitudes: float32 (columns,), magnitude of each input channel in calibration by linear layer: its
            largest or its root mean square, as `recipe.smoothing_by` says; None: no smoothing.
        head_width: Channels of an attention head.
    """
    work = {name: weight.clone() for name, weight in weights.items()}
    kept: dict[str, Tensor | None] = dict(gains)
    if recipe.rotation == "residual":
        for norm, names in NORMS.items():
            for name in names:
                work[name] *= gains[norm]
            kept[norm] = None
    if recipe.smoothing is not None and input_magnitudes is not None:
        _smooth(work, kept, recipe, recipe.smoothing, input_magnitudes, head_width)
    online = {
        "none": (),
        "query_key": ATTENTION_INPUT[:2],
        "inputs": LINEARS,
        "residual": (ATTENTION_OUTPUT, MLP_OUTPUT),
    }[recipe.rotation]
    blocks = {name: block_size(work[name].shape[1], recipe.hadamard_block) if name in online else 1 for name in LINEARS}
    for name in online:
        work[name] = rotate(work[name], blocks[name])
    if recipe.rotation == "residual":
        for name in (*ATTENTION_INPUT, *MLP_INPUT):
            work[name] = rotate_residual(work[name], recipe)
        for name in (ATTENTION_OUTPUT, MLP_OUTPUT):
            work[name] = rotate_residual(work[name].T, recipe).T.contiguous()
    rotated = {name: blocks[name] > 1 or recipe.rotation == "residual" for name in LINEARS}
    return PreparedLayer(work, kept, blocks, rotated)


def rotate_residual(values: Tensor, recipe: Recipe) -> Tensor:
    """Rotate vectors (..., width) of the residual stream to the rotated basis; twice is the identity."""
    return rotate(values, block_size(values.shape[-1], recipe.hadamard_block))


def _smooth(
    work: dict[str, Tensor],
    gains: dict[str, Tensor | None],
    recipe: Recipe,
    alpha: float,
    magnitudes: Mapping[str, Tensor],
    head_width: int,
) -> None:
    """Move outliers of the inputs into the weights, and the inverse into the norm or weight that computes the input."""
    for norm, names in NORMS.items():
        gain = gains[norm]
        # A folded gain means that the input comes from a rotated stream, which has no outlier channels.
        if gain is not None:
            weight = magnitude(torch.cat([work[name] for name in names]), recipe.smoothing_by)
            factors = _balance(magnitudes[names[0]], weight, alpha)
            gains[norm] = gain / factors
            for name in names:
                work[name] *= factors
    values, down = work[ATTENTION_INPUT[2]], work[MLP_OUTPUT]
    by_head = magnitudes[ATTENTION_OUTPUT].view(len(values) // head_width, -1, head_width)
    # Query heads that share a value head share its factors.
    shared, repeats = magnitude(by_head, recipe.smoothing_by, 1), by_head.shape[1]
    output = work[ATTENTION_OUTPUT]
    heads = output.view(len(output), len(shared), repeats, head_width)
    factors = _balance(shared, magnitude(heads, recipe.smoothing_by, (0, 2)), alpha)
    values /= factors.reshape(-1, 1)
    output *= factors[:, None].expand(-1, repeats, -1).reshape(-1)
    factors = _balance(magnitudes[MLP_OUTPUT], magnitude(down, recipe.smoothing_by), alpha)
    work[MLP_INPUT[1]] /= factors[:, None]
    down *= factors


def magnitude(values: Tensor, by: SmoothingBy, axes: int | tuple[int, ...] = 0) -> Tensor:
    """Largest magnitude, or root mean square, over some axes."""
    return values.abs().amax(axes) if by == "largest" else values.square().mean(axes).sqrt()


def _balance(inputs: Tensor, weights: Tensor, alpha: float) -> Tensor:
    factors = inputs.clamp_min(_LEAST) ** alpha / weights.clamp_min(_LEAST) ** (1 - alpha)
    # Channels that are zero in all calibration frames are not scaled.
    return torch.where(inputs > _LEAST, factors.clamp_min(_LEAST), 1.0)

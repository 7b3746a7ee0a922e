"""A linear layer for few tokens with norm, activation and residual in one launch, for the action head's 34 tokens.

With so few tokens a launch costs more than its arithmetic. A program takes all tokens and a few outputs, so that the
weights, which take the time, are read once by as many programs as possible. Each program computes the norms again.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

from sqap_vla_ros.vlm.kernels.launch import contiguous, launch

_TILE_TOKENS, _TILE_OUTPUTS, _TILE_CHANNELS = 64, 16, 128


def few_rows_linear(
    values: Tensor,
    weight: Tensor,
    bias: Tensor,
    *,
    epsilon: float | None = None,
    gelu: bool = False,
    residual: Tensor | None = None,
) -> Tensor:
    """Norm, linear layer, activation and sum: `residual + gelu(norm(values) @ weight.T + bias)`.

    Args:
        values: float16 or bfloat16 (tokens, K), contiguous.
        weight: (N, K), contiguous, of the same type.
        bias: (N,).
        epsilon: Epsilon of a LayerNorm without parameters before the product; None: no norm.
        gelu: Whether the tanh approximation of GELU follows.
        residual: (tokens, N), contiguous; None: nothing is added.

    Returns:
        (tokens, N), of the same type.

    Raises:
        ValueError: Shapes or layouts do not fit each other.
    """
    tokens, channels = values.shape
    outputs = len(weight)
    if not contiguous(values, weight, residual) or weight.shape[1] != channels or bias.shape != (outputs,):
        raise ValueError(
            f"values {tuple(values.shape)}, weight {tuple(weight.shape)}, bias {tuple(bias.shape)}: "
            "expected contiguous (tokens, K), (N, K), and (N,)"
        )
    if residual is not None and residual.shape != (tokens, outputs):
        raise ValueError(f"residual of shape {tuple(residual.shape)}: expected ({tokens}, {outputs}), as the output")
    out = torch.empty(tokens, outputs, dtype=values.dtype, device=values.device)
    launch(
        few_rows_kernel,
        (triton.cdiv(outputs, _TILE_OUTPUTS), triton.cdiv(tokens, _TILE_TOKENS)),
        values,
        weight,
        bias,
        residual,
        out,
        tokens,
        outputs,
        0.0 if epsilon is None else epsilon,
        channels=channels,
        has_norm=epsilon is not None,
        has_gelu=gelu,
        has_residual=residual is not None,
        tile_tokens=_TILE_TOKENS,
        tile_outputs=_TILE_OUTPUTS,
        tile_channels=_TILE_CHANNELS,
        num_warps=4,
        num_stages=4,
    )
    return out


@triton.jit(do_not_specialize=["tokens"])
def few_rows_kernel(
    values: tl.tensor,
    weight: tl.tensor,
    bias: tl.tensor,
    residual: tl.tensor,
    out: tl.tensor,
    tokens: tl.tensor,
    outputs: tl.tensor,
    epsilon: tl.tensor,
    channels: tl.constexpr,
    has_norm: tl.constexpr,
    has_gelu: tl.constexpr,
    has_residual: tl.constexpr,
    tile_tokens: tl.constexpr,
    tile_outputs: tl.constexpr,
    tile_channels: tl.constexpr,
) -> None:
    output = tl.program_id(0) * tile_outputs + tl.arange(0, tile_outputs)
    token = tl.program_id(1) * tile_tokens + tl.arange(0, tile_tokens)
    # Rows beyond the edge repeat the first ones and are not stored.
    rows = values + (token % tokens)[:, None] * channels
    weight_rows = weight + (output % outputs)[None, :] * channels

    mean = tl.zeros((tile_tokens,), dtype=tl.float32)
    factor = tl.zeros((tile_tokens,), dtype=tl.float32)
    if has_norm:
        for start in range(0, channels, tile_channels):
            channel = start + tl.arange(0, tile_channels)
            part = tl.load(rows + channel[None, :], mask=(channel < channels)[None, :], other=0.0)
            mean += tl.sum(part.to(tl.float32), axis=1)
        mean /= channels
        for start in range(0, channels, tile_channels):
            channel = start + tl.arange(0, tile_channels)
            here = (channel < channels)[None, :]
            part = tl.load(rows + channel[None, :], mask=here, other=0.0).to(tl.float32) - mean[:, None]
            factor += tl.sum(tl.where(here, part * part, 0.0), axis=1)
        factor = 1.0 / tl.sqrt_rn(factor / channels + epsilon)

    total = tl.zeros((tile_tokens, tile_outputs), dtype=tl.float32)
    for start in range(0, channels, tile_channels):
        channel = start + tl.arange(0, tile_channels)
        part = tl.load(rows + channel[None, :], mask=(channel < channels)[None, :], other=0.0)
        if has_norm:
            part = ((part.to(tl.float32) - mean[:, None]) * factor[:, None]).to(part.dtype)
        # Channels beyond the edge are zeros here, whatever the norm made of them there.
        columns = tl.load(weight_rows + channel[:, None], mask=(channel < channels)[:, None], other=0.0)
        total = tl.dot(part, columns, total)

    result = total + tl.load(bias + output, mask=output < outputs, other=0.0).to(tl.float32)[None, :]
    if has_gelu:
        # tanh(u) = 1 - 2 / (exp(2u) + 1), which overflows to the right limits.
        inner = 0.7978845608028654 * (result + 0.044715 * result * result * result)
        result = result * (1.0 - 1.0 / (tl.exp(2.0 * inner) + 1.0))
    here = (token < tokens)[:, None] & (output < outputs)[None, :]
    place = token[:, None] * outputs + output[None, :]
    if has_residual:
        result += tl.load(residual + place, mask=here, other=0.0).to(tl.float32)
    tl.store(out + place, result.to(out.dtype.element_ty), mask=here)

"""Linear layers that include the norm or activation before them and the residual sum after them.

    y = residual + layer_scale · (W · prologue(x) + b)

`FloatLinear` and `IntegerLinear` are called in the same way, so that each fused block is written once for both.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional

from sqap_vla_ros.vlm.lowbit.linear import InputFormat


@dataclass(frozen=True, eq=False)
class Prologue:
    """What is applied to an input before the product.

    Attributes:
        epsilon: Epsilon of a norm; None: no norm.
        gain: (channels,), gain of the norm; None where it is folded into the weights.
        shift: (channels,), bias of a LayerNorm; None: the norm is an RMSNorm.
        function: Exact GELU, or "swiglu": SiLU of the first half of the channels times the second half.
    """

    epsilon: float | None = None
    gain: Tensor | None = None
    shift: Tensor | None = None
    function: Literal["gelu", "swiglu"] | None = None

    def __call__(self, values: Tensor) -> Tensor:
        """Apply it in torch: (..., channels) -> the same shape, or half as many channels."""
        if self.function == "gelu":
            return functional.gelu(values)
        if self.function == "swiglu":
            gate, up = values.chunk(2, dim=-1)
            return functional.silu(gate).mul_(up)
        if self.epsilon is None:
            return values
        shape = values.shape[-1:]
        if self.shift is not None:
            return functional.layer_norm(values, shape, self.gain, self.shift, self.epsilon)
        return functional.rms_norm(values, shape, self.gain, self.epsilon)


NOTHING = Prologue()
GELU = Prologue(function="gelu")
SWIGLU = Prologue(function="swiglu")


class FloatLinear(nn.Module):
    """Float linear layers with one input, computed as one product.

    Args:
        linears: The linear layers, in the order of the outputs; all have a bias, or none has.
        layer_scale: (rows,), factor of the output before the residual is added; None: 1.
    """

    def __init__(self, linears: Sequence[nn.Linear], layer_scale: Tensor | None = None) -> None:
        super().__init__()
        biases: list[Tensor] = [linear.bias for linear in linears if linear.bias is not None]
        self.weight = nn.Parameter(torch.cat([linear.weight for linear in linears]), requires_grad=False)
        self.bias = nn.Parameter(torch.cat(biases), requires_grad=False) if biases else None
        self.layer_scale = nn.Parameter(layer_scale, requires_grad=False) if layer_scale is not None else None

    def forward(self, values: Tensor, prologue: Prologue = NOTHING, residual: Tensor | None = None) -> Tensor:
        """(..., columns) -> (..., rows), added to `residual` (..., rows) if there is one."""
        inputs = prologue(values)
        if residual is None:
            return functional.linear(inputs, self.weight, self.bias)
        if self.bias is None:
            flat = torch.addmm(residual.flatten(0, -2), inputs.flatten(0, -2), self.weight.T)
            return flat.view(residual.shape)
        output = functional.linear(inputs, self.weight, self.bias)
        return output.add_(residual) if self.layer_scale is None else torch.addcmul(residual, output, self.layer_scale)


class IntegerLinear(nn.Module):
    """y = x Wᵀ + b with x and W in integers, in two launches: one quantises, one multiplies.

    Args:
        weights: Rows of 4-bit codes as `gemm.pack_halves` arranges them, uint8, or of 8-bit codes, int8 (rows,
            columns).
        scales: float32 (rows, 1).
        bias: (rows,), or None.
        input_format: How inputs are quantised; it has one dynamic scale per token.
    """

    def __init__(self, weights: Tensor, scales: Tensor, bias: Tensor | None, input_format: InputFormat) -> None:
        super().__init__()
        self.weights: Tensor
        self.scales: Tensor
        self.bias: Tensor | None
        self.register_buffer("weights", weights, persistent=False)
        self.register_buffer("scales", scales, persistent=False)
        self.register_buffer("bias", bias, persistent=False)
        self.input_format = input_format

    def quantise_input(self, values: Tensor, prologue: Prologue = NOTHING) -> tuple[Tensor, Tensor]:
        """Codes int8 (tokens, columns) and scales float32 (tokens, 1) of inputs (..., columns)."""
        from sqap_vla_ros.vlm.kernels.activations import rotate_quantise

        form = self.input_format
        return rotate_quantise(
            # The first block of a vision tower gets its tokens in the strides of the convolution.
            values.reshape(-1, values.shape[-1]).contiguous(),
            form.block,
            form.bits,
            form.clip,
            epsilon=prologue.epsilon,
            gain=prologue.gain,
            shift=prologue.shift,
            function=prologue.function,
        )

    def forward(self, values: Tensor, prologue: Prologue = NOTHING, residual: Tensor | None = None) -> Tensor:
        """See `FloatLinear.forward`."""
        from sqap_vla_ros.vlm.kernels.gemm import int8_gemm, packed_gemm

        codes, token_scales = self.quantise_input(values, prologue)
        gemm = packed_gemm if self.weights.dtype == torch.uint8 else int8_gemm
        added = None if residual is None else residual.reshape(len(codes), -1).contiguous()
        output = gemm(codes, token_scales, self.weights, self.scales, self.bias, values.dtype, added)
        return output.view(*values.shape[:-1], len(self.scales))


class Fused(Protocol):
    """A fused linear layer of either kind."""

    def __call__(self, values: Tensor, prologue: Prologue = NOTHING, residual: Tensor | None = None) -> Tensor:
        """See `FloatLinear.forward`."""

"""A linear layer on integers: rotate and quantise the input, multiply codes, scale.

The product of codes has several executions that agree to the last bit: see `products.py`.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from sqap_vla_ros.config.recipe import Granularity
from sqap_vla_ros.vlm.lowbit.hadamard import rotate
from sqap_vla_ros.vlm.lowbit.integers import largest_code
from sqap_vla_ros.vlm.lowbit.products import Execution, make_product
from sqap_vla_ros.vlm.lowbit.weight import QuantisedWeight


@dataclass(frozen=True)
class InputFormat:
    """How the input of a linear layer is quantised.

    Attributes:
        bits: Of the codes.
        block: Channels of a Hadamard block; 1: no rotation.
        clip: Share of the largest magnitude that is still represented.
        granularity: One dynamic scale per token or per tensor; or "channel": a static one per channel, which lies in
            the weight's columns already and in the layer's `divisor`.
    """

    bits: int = 4
    block: int = 1
    clip: float = 1.0
    granularity: Granularity = "token"


class QuantLinear(nn.Module):
    """y = x Wᵀ + b with x and W in integers.

    Args:
        weight: Codes and scales, their columns rotated as the input will be.
        input_format: How inputs are quantised.
        bias: float (rows,), or None.
        divisor: float (columns,), static channel scales that inputs are divided by; with granularity "channel" only.
        execution: How the product of codes is computed.
        device: Where.
    """

    def __init__(
        self,
        weight: QuantisedWeight,
        input_format: InputFormat,
        bias: Tensor | None = None,
        divisor: Tensor | None = None,
        *,
        execution: Execution = "auto",
        device: torch.device | str = "cpu",
    ) -> None:
        super().__init__()
        self.rows, self.columns = weight.rows, weight.columns
        self.input_format = input_format
        self.product = make_product(weight, input_format.bits, execution, device)
        self.full = weight.full.to(device, copy=True) if len(weight.full) else None
        self.bias = None if bias is None else bias.to(device)
        self.divisor = None if divisor is None else divisor.to(device)
        self.order: Tensor | None = None
        if weight.order is not None:
            # Which stored row each output channel takes; the one after the last is all zeros.
            stored = len(weight.order)
            self.order = torch.full((weight.rows,), stored)
            self.order[weight.order] = torch.arange(stored)
            self.order = self.order.to(device)

    @property
    def weight_bytes(self) -> int:
        """Memory that the weights take in this execution."""
        return self.product.nbytes + sum(t.nbytes for t in (self.full, self.bias, self.order) if t is not None)

    def quantise_input(self, values: Tensor) -> tuple[Tensor, Tensor]:
        """Codes and scales of rotated or plain inputs.

        Args:
            values: float (tokens, columns).

        Returns:
            Codes int8 (tokens, columns), offset by `product.offset` when that execution takes uint8; and scales
            float32 (tokens, 1).
        """
        return quantise_tokens(values, self.input_format, self.product.offset)

    def forward(self, values: Tensor) -> Tensor:
        """(..., columns) -> (..., rows), in the number format of the input."""
        inputs = values.reshape(-1, self.columns)
        if self.input_format.block > 1:
            inputs = rotate(inputs, self.input_format.block)
        if self.divisor is not None:
            inputs = inputs / self.divisor
        codes, scales = self.quantise_input(inputs)
        output = self.product(codes, scales, values.dtype)
        if self.full is not None:
            output = torch.cat((output, nn.functional.linear(inputs, self.full.to(inputs.dtype))), 1)
        if self.order is not None:
            output = nn.functional.pad(output, (0, 1)).index_select(1, self.order)
        if self.bias is not None:
            output += self.bias.to(output.dtype)
        return output.view(*values.shape[:-1], self.rows)


def quantise_tokens(values: Tensor, input_format: InputFormat, offset: int = 0) -> tuple[Tensor, Tensor]:
    """Codes of inputs (tokens, columns): int8, or uint8 with an `offset` added; and scales float32 (tokens, 1)."""
    limit = largest_code(input_format.bits)
    if input_format.granularity == "channel":
        # Codes of what is not finite would be numbers like any other: the scale must say so.
        scales = torch.where(values.isfinite().all(1, keepdim=True), 1.0, torch.nan)
    else:
        largest = values.abs().amax(1, keepdim=True).float()
        if input_format.granularity == "tensor":
            largest = largest.amax().expand(len(values), 1)
        scales = (largest * (input_format.clip / limit)).clamp_min(torch.finfo(torch.float32).tiny)
    # In place, and by way of int8: each pass over the inputs counts, and torch converts to uint8 ten times slower.
    codes = values.to(torch.float32, copy=True).div_(scales)
    codes = codes.round_().clamp_(-limit, limit).to(torch.int8)
    if offset:
        return codes.view(torch.uint8).add_(offset), scales
    return codes, scales

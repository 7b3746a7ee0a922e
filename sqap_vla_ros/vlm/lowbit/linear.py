"""A linear layer on integers: rotate and quantise the input, multiply codes, scale the sums.

For the token x and the weight W ≈ diag(s_w) · Q_w, with the block Hadamard rotation H (or none),

    q = round(x H / s_x),  s_x = clip · max|x H| / (2^(bits-1) - 1),  y = s_x · s_w · (Q_w q) + b.

The product of codes, Q_w q, has several backends whose sums agree to the last bit; see `products`.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from sqap_vla_ros.config.recipe import Granularity
from sqap_vla_ros.vlm.lowbit.hadamard import rotate
from sqap_vla_ros.vlm.lowbit.integers import largest_code
from sqap_vla_ros.vlm.lowbit.products import Backend, FloatInputs, Product, make_product
from sqap_vla_ros.vlm.lowbit.weight import QuantisedWeight, concatenate

FLOAT_BITS = 16
"""Bits of inputs that are not quantised."""


@dataclass(frozen=True)
class InputFormat:
    """How the input of a linear layer is quantised.

    Attributes:
        bits: Width of the codes; 16: it is not quantised.
        block: Channels of a Hadamard block; 1: no rotation.
        clip: Share of the largest magnitude that is still represented; larger values saturate.
        granularity: One dynamic scale per token or per tensor, or "channel": one static scale per channel, which is
            already folded into the weight's columns and is the layer's `divisor`.
    """

    bits: int = 4
    block: int = 1
    clip: float = 1.0
    granularity: Granularity = "token"


@dataclass(frozen=True)
class StoredLinear:
    """A quantised linear layer as it is stored in a file.

    Attributes:
        weight: Codes and scales.
        input_format: How its inputs are quantised.
        divisor: float32 (columns,), static channel scales of the input; None for dynamic scales.
    """

    weight: QuantisedWeight
    input_format: InputFormat
    divisor: Tensor | None = None


class QuantLinear(nn.Module):
    """y = x Wᵀ + b with x and W in integers.

    Args:
        weight: Codes and scales; their columns are rotated as the input will be.
        input_format: How inputs are quantised.
        bias: float (rows,), or None.
        divisor: float (columns,), static channel scales that inputs are divided by; with granularity "channel" only.
        backend: How the product of codes is computed.
        device: Where the weight is.
    """

    def __init__(
        self,
        weight: QuantisedWeight,
        input_format: InputFormat,
        bias: Tensor | None = None,
        divisor: Tensor | None = None,
        *,
        backend: Backend = "auto",
        device: torch.device | str = "cpu",
    ) -> None:
        super().__init__()
        self.rows, self.columns = weight.rows, weight.columns
        self.input_format = input_format
        self.product: Product | FloatInputs
        if input_format.bits == FLOAT_BITS:
            self.product = FloatInputs(weight, device)
        else:
            self.product = make_product(weight, input_format.bits, backend, device)
        self.full = weight.full.to(device, copy=True) if len(weight.full) else None
        self.bias = None if bias is None else bias.to(device)
        self.divisor = None if divisor is None else divisor.to(device)
        self.order: Tensor | None = None
        if weight.order is not None:
            # The stored row of each output channel; the row after the last one is all zeros.
            stored = len(weight.order)
            self.order = torch.full((weight.rows,), stored)
            self.order[weight.order] = torch.arange(stored)
            self.order = self.order.to(device)

    @property
    def weight_bytes(self) -> int:
        """Memory of the weights in this backend."""
        return self.product.nbytes + sum(t.nbytes for t in (self.full, self.bias, self.order) if t is not None)

    def quantise_input(self, values: Tensor) -> tuple[Tensor, Tensor]:
        """Codes and scales of rotated or plain inputs.

        Args:
            values: float (tokens, columns).

        Returns:
            Codes int8 (tokens, columns), or uint8 with `product.offset` added where the backend takes that; and
            scales float32 (tokens, 1).
        """
        return quantise_tokens(values, self.input_format, self.product.offset)

    def forward(self, values: Tensor) -> Tensor:
        """(..., columns) -> (..., rows), in the dtype of the input."""
        inputs = values.reshape(-1, self.columns)
        if self.input_format.block > 1:
            inputs = rotate(inputs, self.input_format.block)
        if self.divisor is not None:
            inputs = inputs / self.divisor
        if isinstance(self.product, FloatInputs):
            output = self.product.multiply(inputs)
        else:
            codes, scales = self.quantise_input(inputs)
            output = self.product(codes, scales, values.dtype)
        if self.full is not None:
            output = torch.cat((output, nn.functional.linear(inputs, self.full.to(inputs.dtype))), 1)
        if self.order is not None:
            output = nn.functional.pad(output, (0, 1)).index_select(1, self.order)
        if self.bias is not None:
            output += self.bias.to(output.dtype)
        return output.view(*values.shape[:-1], self.rows)


class SharedInputLinears(nn.Module):
    """Linear layers with one input; neighbours that quantise it in the same way are computed as one product.

    Args:
        linears: The linear layers, in the order of the outputs.
        backend: Backend of the products.
        device: Where the weights are.
    """

    def __init__(self, linears: Sequence[StoredLinear], backend: Backend, device: torch.device | str) -> None:
        super().__init__()
        groups: list[list[StoredLinear]] = []
        for linear in linears:
            if groups and _same_input(groups[-1][0], linear):
                groups[-1].append(linear)
            else:
                groups.append([linear])
        self.parts = nn.ModuleList()
        self.rows = [[linear.weight.rows for linear in group] for group in groups]
        for group in groups:
            weight = concatenate([linear.weight for linear in group])
            first = group[0]
            part = QuantLinear(weight, first.input_format, None, first.divisor, backend=backend, device=device)
            self.parts.append(part)

    def forward(self, values: Tensor) -> list[Tensor]:
        """(..., columns) -> one (..., rows) per linear layer."""
        outputs: list[Tensor] = []
        for part, rows in zip(self.parts, self.rows, strict=True):
            outputs += part(values).split(rows, dim=-1)
        return outputs


def quantise_tokens(values: Tensor, input_format: InputFormat, offset: int = 0) -> tuple[Tensor, Tensor]:
    """Codes of inputs (tokens, columns): int8, or uint8 with an `offset` added; and scales float32 (tokens, 1)."""
    limit = largest_code(input_format.bits)
    if input_format.granularity == "channel":
        # A value that is not finite would get a code like any other; a scale of NaN keeps it visible.
        scales = torch.where(values.isfinite().all(1, keepdim=True), 1.0, torch.nan)
    else:
        largest = values.abs().amax(1, keepdim=True).float()
        if input_format.granularity == "tensor":
            largest = largest.amax().expand(len(values), 1)
        scales = (largest * (input_format.clip / limit)).clamp_min(torch.finfo(torch.float32).tiny)
    # In place and through int8: each pass over the inputs counts, and torch converts to uint8 ten times more slowly.
    codes = values.to(torch.float32, copy=True).div_(scales)
    codes = codes.round_().clamp_(-limit, limit).to(torch.int8)
    if offset:
        return codes.view(torch.uint8).add_(offset), scales
    return codes, scales


def _same_input(one: StoredLinear, other: StoredLinear) -> bool:
    if one.input_format != other.input_format or (one.divisor is None) != (other.divisor is None):
        return False
    return one.divisor is None or other.divisor is None or torch.equal(one.divisor, other.divisor)

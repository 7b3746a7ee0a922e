"""Decoder layers of which only the weights are in 4 bits. The bench times them; no recipe makes them."""

import torch
from torch import Tensor, nn

from sqap_vla_ros.vlm.kernels.weight_only import weight_only_gemm
from sqap_vla_ros.vlm.language import EPSILON, LanguageShape
from sqap_vla_ros.vlm.runtime.fused_blocks import FusedDecoderLayer
from sqap_vla_ros.vlm.runtime.fused_linears import NOTHING, Prologue


class WeightOnlyLinear(nn.Module):
    """A linear layer with random 4-bit weights and float activations, in place of a `FloatLinear`.

    Args:
        rows: Output channels.
        columns: Input channels.
        device: Where the weights are made.
    """

    def __init__(self, rows: int, columns: int, device: torch.device) -> None:
        super().__init__()
        # With the upper bit of each nibble cleared, every code is between 0 and 7.
        weights = torch.randint(0, 256, (rows, columns // 2), dtype=torch.uint8, device=device) & 0x77
        self.weights: Tensor
        self.scales: Tensor
        self.register_buffer("weights", weights, persistent=False)
        self.register_buffer("scales", torch.full((rows, 1), columns**-0.5 / 4, device=device), persistent=False)

    def forward(self, values: Tensor, prologue: Prologue = NOTHING, residual: Tensor | None = None) -> Tensor:
        """Map (..., columns) to (..., rows), added to `residual` (..., rows) where there is one."""
        inputs = prologue(values)
        output = weight_only_gemm(inputs.flatten(0, -2).contiguous(), self.weights, self.scales)
        output = output.view(*inputs.shape[:-1], -1)
        return output if residual is None else output.add_(residual)


def weight_only_layer(shape: LanguageShape, device: torch.device) -> FusedDecoderLayer:
    """Make one decoder layer of a language model."""
    width, hidden = shape.width, shape.hidden
    norm = Prologue(EPSILON, torch.ones(width, dtype=torch.bfloat16, device=device))
    return FusedDecoderLayer(
        WeightOnlyLinear(3 * width, width, device),
        WeightOnlyLinear(width, width, device),
        WeightOnlyLinear(2 * hidden, width, device),
        WeightOnlyLinear(width, hidden, device),
        (norm, norm),
        (width, width, width),
    ).eval()

"""A decoder layer of the language model on integers: `cogact.language.DecoderLayer` with other arithmetic."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from sqap_vla_ros.vlm.language import EPSILON
from sqap_vla_ros.vlm.lowbit.linear import InputFormat, QuantLinear
from sqap_vla_ros.vlm.lowbit.products import Execution
from sqap_vla_ros.vlm.lowbit.weight import QuantisedWeight, concatenate

# Linear layers of a decoder layer, as published, by the input that they share.
ATTENTION_INPUT = ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj")
ATTENTION_OUTPUT = "self_attn.o_proj"
MLP_INPUT = ("mlp.gate_proj", "mlp.up_proj")
MLP_OUTPUT = "mlp.down_proj"
LINEARS = (*ATTENTION_INPUT, ATTENTION_OUTPUT, *MLP_INPUT, MLP_OUTPUT)
# The norm in front of each shared input.
NORMS = {"input_layernorm": ATTENTION_INPUT, "post_attention_layernorm": MLP_INPUT}


@dataclass(frozen=True)
class StoredLinear:
    """A quantised linear layer as a file holds it.

    Attributes:
        weight: Codes and scales.
        input_format: How its inputs are quantised.
        divisor: float32 (columns,), static channel scales of the input; None for dynamic scales.
    """

    weight: QuantisedWeight
    input_format: InputFormat
    divisor: Tensor | None = None


class FusedLinears(nn.Module):
    """Linear layers of one input; those that quantise it alike are one product.

    Args:
        linears: In the order of the outputs.
        execution: Of the product.
        device: Where.
    """

    def __init__(self, linears: Sequence[StoredLinear], execution: Execution, device: torch.device | str) -> None:
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
            part = QuantLinear(weight, first.input_format, None, first.divisor, execution=execution, device=device)
            self.parts.append(part)

    def forward(self, values: Tensor) -> list[Tensor]:
        """(..., columns) -> one (..., rows) per linear layer."""
        outputs: list[Tensor] = []
        for part, rows in zip(self.parts, self.rows, strict=True):
            outputs += part(values).split(rows, dim=-1)
        return outputs


class QuantDecoderLayer(nn.Module):
    """Attention and MLP of which all linear layers are quantised; norms and attention are float.

    Args:
        linears: By their published names (`LINEARS`).
        gains: float (width,), of the two norms by their published names; None where folded into the weights.
        dtype: Number format of the gains.
        execution: Of the products.
        device: Where.
    """

    input_layernorm: Tensor | None
    post_attention_layernorm: Tensor | None

    def __init__(
        self,
        linears: Mapping[str, StoredLinear],
        gains: Mapping[str, Tensor | None],
        *,
        dtype: torch.dtype = torch.float32,
        execution: Execution = "auto",
        device: torch.device | str = "cpu",
    ) -> None:
        super().__init__()
        self.attention_input = FusedLinears([linears[name] for name in ATTENTION_INPUT], execution, device)
        self.attention_output = FusedLinears([linears[ATTENTION_OUTPUT]], execution, device)
        self.mlp_input = FusedLinears([linears[name] for name in MLP_INPUT], execution, device)
        self.mlp_output = FusedLinears([linears[MLP_OUTPUT]], execution, device)
        for name in NORMS:
            gain = gains[name]
            self.register_buffer(name, None if gain is None else gain.to(device, dtype))

    def project(self, hidden: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """As `DecoderLayer.project`."""
        queries, keys, values = self.attention_input(_normalise(hidden, self.input_layernorm))
        return queries, keys, values

    def add_attention(self, hidden: Tensor, mixed: Tensor) -> Tensor:
        """As `DecoderLayer.add_attention`."""
        (projected,) = self.attention_output(mixed)
        return hidden + projected

    def add_feed_forward(self, hidden: Tensor) -> Tensor:
        """As `DecoderLayer.add_feed_forward`."""
        gate, up = self.mlp_input(_normalise(hidden, self.post_attention_layernorm))
        (answer,) = self.mlp_output(functional.silu(gate).mul_(up))
        return hidden + answer


def _same_input(one: StoredLinear, other: StoredLinear) -> bool:
    if one.input_format != other.input_format or (one.divisor is None) != (other.divisor is None):
        return False
    return one.divisor is None or other.divisor is None or torch.equal(one.divisor, other.divisor)


def _normalise(hidden: Tensor, gain: Tensor | None) -> Tensor:
    return functional.rms_norm(hidden, hidden.shape[-1:], gain, EPSILON)

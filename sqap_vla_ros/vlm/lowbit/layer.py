"""A decoder layer of the language model whose linear layers are low-bit.

Its seven linear layers (`LINEARS`) have four inputs: the attention's normalised stream, the mixed values, the MLP's
normalised stream, and the activated hidden channels. Each input is quantised once, for all linear layers that share it.
"""

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional

from sqap_vla_ros.vlm.language import EPSILON
from sqap_vla_ros.vlm.lowbit.linear import SharedInputLinears, StoredLinear
from sqap_vla_ros.vlm.lowbit.products import Backend

# Published names of the linear layers, by the input that they share.
ATTENTION_INPUT = ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj")
ATTENTION_OUTPUT = "self_attn.o_proj"
MLP_INPUT = ("mlp.gate_proj", "mlp.up_proj")
MLP_OUTPUT = "mlp.down_proj"
LINEARS = (*ATTENTION_INPUT, ATTENTION_OUTPUT, *MLP_INPUT, MLP_OUTPUT)
# The norm in front of each shared input.
NORMS = {"input_layernorm": ATTENTION_INPUT, "post_attention_layernorm": MLP_INPUT}


class QuantDecoderLayer(nn.Module):
    """A `layers.DecoderLayer` whose linear layers are all quantised; norms and attention are float.

    Args:
        linears: The linear layers, by their published names (`LINEARS`).
        gains: float (width,), gains of the two norms by their published names; None where folded into the weights.
        dtype: Dtype of the gains.
        backend: Backend of the integer products.
        device: Where the weights are.
        epsilon: Of the norms.
    """

    input_layernorm: Tensor | None
    post_attention_layernorm: Tensor | None

    def __init__(
        self,
        linears: Mapping[str, StoredLinear],
        gains: Mapping[str, Tensor | None],
        *,
        dtype: torch.dtype = torch.float32,
        backend: Backend = "auto",
        device: torch.device | str = "cpu",
        epsilon: float = EPSILON,
    ) -> None:
        super().__init__()
        self.epsilon = epsilon
        self.attention_input = SharedInputLinears([linears[name] for name in ATTENTION_INPUT], backend, device)
        self.attention_output = SharedInputLinears([linears[ATTENTION_OUTPUT]], backend, device)
        self.mlp_input = SharedInputLinears([linears[name] for name in MLP_INPUT], backend, device)
        self.mlp_output = SharedInputLinears([linears[MLP_OUTPUT]], backend, device)
        for name in NORMS:
            gain = gains[name]
            self.register_buffer(name, None if gain is None else gain.to(device, dtype))

    def project(self, hidden: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """See `layers.DecoderLayer.project`."""
        queries, keys, values = self.attention_input(self._normalise(hidden, self.input_layernorm))
        return queries, keys, values

    def add_attention(self, hidden: Tensor, mixed: Tensor) -> Tensor:
        """See `layers.DecoderLayer.add_attention`."""
        (projected,) = self.attention_output(mixed)
        return hidden + projected

    def add_feed_forward(self, hidden: Tensor) -> Tensor:
        """See `layers.DecoderLayer.add_feed_forward`."""
        gate, up = self.mlp_input(self._normalise(hidden, self.post_attention_layernorm))
        (output,) = self.mlp_output(functional.silu(gate).mul_(up))
        return hidden + output

    def _normalise(self, hidden: Tensor, gain: Tensor | None) -> Tensor:
        return functional.rms_norm(hidden, hidden.shape[-1:], gain, self.epsilon)

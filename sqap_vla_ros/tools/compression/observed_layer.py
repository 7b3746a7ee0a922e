"""A prepared decoder layer in float whose inputs are observed, for calibration."""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional

from sqap_vla_ros.vlm.language import EPSILON
from sqap_vla_ros.vlm.lowbit.hadamard import rotate
from sqap_vla_ros.vlm.lowbit.layer import ATTENTION_INPUT, ATTENTION_OUTPUT, MLP_INPUT, MLP_OUTPUT
from sqap_vla_ros.vlm.lowbit.transform import PreparedLayer

Observer = Callable[[str, Tensor, Tensor], None]
"""Called with each input: name of the linear layer, the input (tokens, columns) before rotation, and rotated."""


class ObservedLayer:
    """A `layers.DecoderLayer` with prepared weights.

    Args:
        prepared: The prepared layer.
        observe: Called for each linear layer with an input of its own, and for the first of those that share an input.
        dtype: Number format of the products.
        epsilon: Of the norms.
    """

    def __init__(
        self,
        prepared: PreparedLayer,
        observe: Observer,
        dtype: torch.dtype = torch.float32,
        epsilon: float = EPSILON,
    ) -> None:
        self._prepared, self._epsilon = prepared, epsilon
        self._observe = observe
        self._weights = {name: weight.to(dtype) for name, weight in prepared.weights.items()}

    def project(self, hidden: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """See `layers.DecoderLayer.project`."""
        queries, keys, values = self._linears(ATTENTION_INPUT, self._normalise(hidden, "input_layernorm"))
        return queries, keys, values

    def add_attention(self, hidden: Tensor, mixed: Tensor) -> Tensor:
        """See `layers.DecoderLayer.add_attention`."""
        return hidden + self._linears((ATTENTION_OUTPUT,), mixed)[0]

    def add_feed_forward(self, hidden: Tensor) -> Tensor:
        """See `layers.DecoderLayer.add_feed_forward`."""
        gate, up = self._linears(MLP_INPUT, self._normalise(hidden, "post_attention_layernorm"))
        return hidden + self._linears((MLP_OUTPUT,), functional.silu(gate) * up)[0]

    def _linears(self, names: tuple[str, ...], values: Tensor) -> list[Tensor]:
        outputs = []
        rotated: dict[int, Tensor] = {}
        for name in names:
            block = self._prepared.blocks[name]
            if block not in rotated:
                rotated[block] = rotate(values, block) if block > 1 else values
                self._observe(name, values.flatten(0, -2), rotated[block].flatten(0, -2))
            weight = self._weights[name]
            outputs.append(functional.linear(rotated[block].to(weight.dtype), weight).to(values.dtype))
        return outputs

    def _normalise(self, hidden: Tensor, norm: str) -> Tensor:
        return functional.rms_norm(hidden, hidden.shape[-1:], self._prepared.gains[norm], self._epsilon)


def leaders(prepared: PreparedLayer) -> dict[str, str]:
    """Map each linear layer to the one whose input is observed in its place."""
    first: dict[str, str] = {}
    for names in (ATTENTION_INPUT, (ATTENTION_OUTPUT,), MLP_INPUT, (MLP_OUTPUT,)):
        by_block: dict[int, str] = {}
        for name in names:
            first[name] = by_block.setdefault(prepared.blocks[name], name)
    return first

"""How much a linear layer's own output changes when one of its channels is rounded: ΔW_c H ΔW_cᵀ, as in GPTQ.

The code that QVLA's authors published ranks channels so, without a term for the actions; what their paper describes is
`sensitivity`.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from sqap_vla_ros.tools.compression.allocation import WIDTHS, ChannelCosts
from sqap_vla_ros.tools.compression.gptq import InputStatistics
from sqap_vla_ros.tools.compression.observed_layer import ObservedLayer, leaders
from sqap_vla_ros.vlm.language import LanguageShape, attention_of
from sqap_vla_ros.vlm.layers import run_layers
from sqap_vla_ros.vlm.lowbit.integers import absmax_scales, quantise
from sqap_vla_ros.vlm.lowbit.transform import PreparedLayer


@torch.no_grad()
def layer_sensitivities(
    read_layer: Callable[[int], PreparedLayer],
    embeddings: Sequence[Tensor],
    shape: LanguageShape,
    on_layer: Callable[[], None] = lambda: None,
) -> dict[tuple[int, str], ChannelCosts]:
    """Mean squared change of each output channel at each width, on the inputs that the float model gives.

    Args:
        read_layer: Prepares a decoder layer, by its index; called once for each.
        embeddings: float32 (1, positions, width) of each frame.
        shape: Sizes of the language model.
        on_layer: Called before each layer is read.

    Returns:
        Costs by index of the decoder layer and published name of the linear layer in it.
    """
    hidden, attention = list(embeddings), attention_of(shape)
    costs = {}
    for index in range(shape.depth):
        on_layer()
        prepared = read_layer(index)
        seen: dict[str, InputStatistics] = {}

        def observe(name: str, values: Tensor, rotated: Tensor, seen: dict[str, InputStatistics] = seen) -> None:
            seen.setdefault(name, InputStatistics(rotated.shape[1], rotated.device)).add(rotated)

        layer = ObservedLayer(prepared, observe, epsilon=shape.epsilon)
        hidden = [run_layers([layer], frame, shape.head_width, attention=attention) for frame in hidden]
        for name, leader in leaders(prepared).items():
            weight, statistics = prepared.weights[name], seen[leader]
            costs[index, name] = ChannelCosts(_costs(weight, statistics).cpu(), weight.shape[1])
        del layer, prepared
    return costs


def _costs(weight: Tensor, statistics: InputStatistics) -> Tensor:
    """float32 (rows, 5), the mean squared change of each row's output at each of `WIDTHS`."""
    hessian = statistics.hessian / statistics.tokens
    costs = weight.new_zeros(len(weight), len(WIDTHS))
    for column, bits in enumerate(WIDTHS[1:], start=1):
        change = weight
        if bits:
            scales = absmax_scales(weight, bits)
            change = quantise(weight, scales, bits) * scales - weight
        costs[:, column] = ((change @ hessian) * change).sum(1)
    return costs

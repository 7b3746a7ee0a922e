"""Synthetic activation outliers: a network that computes the same from inputs that are harder to round to 4 bits.

A model as small as the one that ships does not have the outlier channels of a 7 B one. Rescaling gives it some and
leaves what the network computes as it was: a few channels of each linear layer's input become large, and the weights
that read them smaller by as much. Float actions stay the same.
"""

import torch
from torch import Tensor

FACTOR = 30.0
"""How much larger the channels become."""
SHARE = 1 / 32
"""Share of the channels of each input that become larger."""
_LAYERS = "llm_backbone.llm.model.layers."


def with_outliers(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """The same network with outlier channels in the inputs of every linear layer of the language model.

    Args:
        tensors: Tensors of a checkpoint, by their published names with the part in front.

    Returns:
        New tensors, float32 where changed: 16 bits would round the rescaled weights anew.
    """
    changed = dict(tensors)
    generator = torch.Generator().manual_seed(0)

    def scale(name: str, channels: Tensor, by: float, axis: int) -> None:
        tensor = changed[name].float().clone()
        tensor.index_copy_(axis, channels, tensor.index_select(axis, channels) * by)
        changed[name] = tensor

    depth = len({name.removeprefix(_LAYERS).split(".")[0] for name in tensors if name.startswith(_LAYERS)})
    for layer in (f"{_LAYERS}{index}." for index in range(depth)):
        # Channel c is written by the rows (of a norm: the gains) on the left, and read by the columns on the right.
        for writer, readers in (
            ("input_layernorm", ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj")),
            ("self_attn.v_proj", ("self_attn.o_proj",)),
            ("post_attention_layernorm", ("mlp.gate_proj", "mlp.up_proj")),
            ("mlp.up_proj", ("mlp.down_proj",)),
        ):
            width = changed[f"{layer}{writer}.weight"].shape[0]
            channels = torch.randperm(width, generator=generator)[: max(1, round(SHARE * width))]
            scale(f"{layer}{writer}.weight", channels, FACTOR, 0)
            for reader in readers:
                scale(f"{layer}{reader}.weight", channels, 1 / FACTOR, 1)
    return changed

"""The vision towers of a FiLM run: a file with their base weights, and low-rank adapters (LoRA) beside them.

The adapters of such a run never reach the safetensors, so the towers are read from this file. Adapters are merged
tensor by tensor when a tensor is taken.
"""

from collections.abc import Mapping

import torch
from torch import Tensor

from sqap_vla_ros.vlm.weights import CheckpointError, Part, Source

_BASE, _DOWN, _UP = ".base_layer.", ".lora_A.default.weight", ".lora_B.default.weight"
_LARGEST_ALPHA = 16
_MODULATION = (".scale.weight", ".scale.bias", ".shift.weight", ".shift.bias")


class AdaptedPart(Part):
    """A part some of whose tensors have low-rank adapters.

    Args:
        name: Name of the part for messages.
        tensors: The base tensors.
        adapters: By the name of a weight: down (rank, inputs, ...) and up (outputs, rank, ...).
    """

    def __init__(self, name: str, tensors: Mapping[str, Tensor], adapters: Mapping[str, tuple[Tensor, Tensor]]) -> None:
        super().__init__(name, tensors, mapped=True)
        for weight, (down, up) in adapters.items():
            base = tensors[weight]
            if down.shape[1:] != base.shape[1:] or up.shape[0] != base.shape[0] or up.shape[1] != down.shape[0]:
                raise CheckpointError(
                    f"{name}: '{weight}' {tuple(base.shape)} has an adapter of {tuple(down.shape)} and "
                    f"{tuple(up.shape)}, which do not fit it"
                )
        self._adapters = adapters

    def take(self, source: Source, dtype: torch.dtype, device: torch.device | str) -> Tensor:
        """See `Part.take`; the adapter is merged in float32."""
        if source.name not in self._adapters:
            return super().take(source, dtype, device)
        down, up = (tensor.to(device, torch.float32) for tensor in self._adapters[source.name])
        rank = len(down)
        change = (up.flatten(1) @ down.flatten(1)) * (min(rank, _LARGEST_ALPHA) / rank)
        base = super().take(Source(source.name), torch.float32, device)
        merged = base.add_(change.view_as(base))
        if not torch.isfinite(merged).all():
            raise CheckpointError(f"{self.name}: the adapter of '{source.name}' has NaN or infinite values")
        taken = merged if source.third is None else merged.chunk(3)[source.third]
        return taken.to(dtype, memory_format=torch.contiguous_format)


def split_towers(part: Part) -> tuple[AdaptedPart, Part]:
    """The towers and their modulation by the text.

    Args:
        part: A FiLM run's file; names are `<tower>_featurizer.…`, blocks are under `blocks.<n>.block.`.

    Returns:
        The towers under the names of an ordinary checkpoint; and `….blocks.<n>.{scale,shift}.{weight,bias}`.

    Raises:
        CheckpointError: An adapter is incomplete.
    """
    towers, modulation = {}, {}
    downs, ups = {}, {}
    for name, tensor in part.tensors.items():
        place = name.replace(".block.", ".")
        if name.endswith(_MODULATION):
            modulation[name] = tensor
        elif place.endswith(_DOWN):
            downs[place.removesuffix(_DOWN) + ".weight"] = tensor
        elif place.endswith(_UP):
            ups[place.removesuffix(_UP) + ".weight"] = tensor
        else:
            towers[place.replace(_BASE, ".")] = tensor
    for name in {*downs, *ups}:
        if name not in downs or name not in ups or name not in towers:
            raise CheckpointError(f"{part.name}: the adapter of '{name}' is incomplete; download the file again")
    adapters = {name: (down, ups[name]) for name, down in downs.items()}
    return AdaptedPart(part.name, towers, adapters), Part(part.name, modulation, mapped=True)

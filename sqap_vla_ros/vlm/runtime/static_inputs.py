"""The inputs of a function with static shapes, in one piece of memory: a single copy brings them to the device."""

import math
from collections.abc import Mapping

import torch
from torch import Tensor

Layout = Mapping[str, tuple[torch.dtype, tuple[int, ...]]]
"""Name of a field -> its dtype and shape; the widest dtypes come first, so that every field is aligned."""


class StaticInputs:
    """Named tensors at fixed addresses.

    Args:
        layout: The fields.
        device: Where they are needed.

    Attributes:
        host: The fields on the host, by name: set them, then call `upload`.
        device: The fields on the device, by name.
    """

    def __init__(self, layout: Layout, device: torch.device) -> None:
        size = sum(math.prod(shape) * dtype.itemsize for dtype, shape in layout.values())
        self._host_memory = torch.zeros(size, dtype=torch.uint8, pin_memory=device.type == "cuda")
        self._device_memory = torch.zeros(size, dtype=torch.uint8, device=device)
        self.host, self.device = _views(self._host_memory, layout), _views(self._device_memory, layout)

    def upload(self) -> None:
        """Copy all fields to the device."""
        self._device_memory.copy_(self._host_memory, non_blocking=True)


def _views(memory: Tensor, layout: Layout) -> dict[str, Tensor]:
    fields, start = {}, 0
    for name, (dtype, shape) in layout.items():
        size = math.prod(shape) * dtype.itemsize
        fields[name] = memory[start : start + size].view(dtype).view(shape)
        start += size
    return fields

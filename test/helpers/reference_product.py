"""Fake quantisation: float products of the numbers that the codes represent, to compare the integer backends with."""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import torch
from torch import Tensor, nn

from sqap_vla_ros.vlm.lowbit import linear
from sqap_vla_ros.vlm.lowbit.weight import QuantisedWeight


class ReferenceProduct(nn.Module):
    """A `products.Product` in float32."""

    offset = 0

    def __init__(self, weight: QuantisedWeight, device: torch.device | str = "cpu") -> None:
        super().__init__()
        self.codes, self.scales = weight.codes.to(device), weight.scales.to(device)
        self.nbytes = self.codes.nbytes + self.scales.nbytes

    def forward(self, codes: Tensor, scales: Tensor, dtype: torch.dtype) -> Tensor:
        return nn.functional.linear(codes.float() * scales, self.codes.float() * self.scales).to(dtype)


@contextmanager
def reference_products() -> Iterator[None]:
    """Within the block, quantised linear layers are built with the reference product, whatever backend is asked for."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(linear, "make_product", lambda weight, bits, backend, device: ReferenceProduct(weight, device))
        yield

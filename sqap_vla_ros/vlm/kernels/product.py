"""The product of integer codes on a GPU: one of the executions of `quantization.products`."""

import torch
from torch import Tensor, nn

from sqap_vla_ros.vlm.kernels.gemm import int8_gemm, pack_halves, packed_gemm
from sqap_vla_ros.vlm.lowbit.weight import QuantisedWeight


class TritonProduct(nn.Module):
    """Codes times a weight whose 4-bit rows stay packed; rows of 8 bits are a second product.

    Args:
        weight: Codes and scales.
        device: Where; `require_triton` accepts it.
    """

    offset = 0

    def __init__(self, weight: QuantisedWeight, device: torch.device | str) -> None:
        super().__init__()
        four, eight = weight.scales.to(device).split([len(weight.packed), len(weight.wide)])
        groups = [
            (packed_gemm, pack_halves(weight.packed.to(device)), four),
            (int8_gemm, weight.wide.to(device), eight),
        ]
        # A weight of which all rows are float, or dropped, still has a product, of no rows.
        self.groups = [group for group in groups if len(group[2])] or groups[:1]

    @property
    def nbytes(self) -> int:
        """Memory of the weight."""
        return sum(codes.nbytes + scales.nbytes for _, codes, scales in self.groups)

    def accumulate(self, codes: Tensor) -> Tensor:
        """Sums in int32, without scales."""
        return self(codes, codes.new_empty(len(codes), 1, dtype=torch.float32), torch.int32)

    def forward(self, codes: Tensor, scales: Tensor, dtype: torch.dtype) -> Tensor:
        """As `Product.__call__`."""
        parts = [gemm(codes, scales, weights, w_scales, None, dtype) for gemm, weights, w_scales in self.groups]
        return parts[0] if len(parts) == 1 else torch.cat(parts, dim=1)

"""The product of integer codes, in the executions that a machine may have.

All of them accumulate exactly; what follows is `sum · token scale · channel scale`.
"""

from collections.abc import Callable
from functools import lru_cache
from typing import Literal, Protocol

import torch
from torch import Tensor, nn

from sqap_vla_ros.vlm.kernels import kernels_run_on, require_triton
from sqap_vla_ros.vlm.lowbit.integers import largest_code
from sqap_vla_ros.vlm.lowbit.weight import QuantisedWeight, weight_from_codes

Execution = Literal["auto", "reference", "onednn", "float_sums", "triton"]


class Product(Protocol):
    """Codes of the inputs times codes of the weight.

    Attributes:
        offset: Added to the codes of the inputs, which are then uint8; 0: they are int8.
    """

    offset: int

    @property
    def nbytes(self) -> int:
        """Memory of the weight."""

    def accumulate(self, codes: Tensor) -> Tensor:
        """Exact sums (tokens, stored rows), as int32 or as float32, then rounded once where they exceed 2^24."""

    def __call__(self, codes: Tensor, scales: Tensor, dtype: torch.dtype) -> Tensor:
        """The scaled product (tokens, stored rows) in a number format."""


class Reference(nn.Module):
    """Fake quantisation: float32 products of what the codes stand for. For comparisons, not for speed."""

    offset = 0

    def __init__(self, weight: QuantisedWeight, device: torch.device | str) -> None:
        super().__init__()
        self.codes, self.scales = weight.codes.to(device), weight.scales.to(device)

    @property
    def nbytes(self) -> int:
        """Memory of the weight."""
        return self.codes.nbytes + self.scales.nbytes

    def accumulate(self, codes: Tensor) -> Tensor:
        """Sums in int64, which cannot overflow."""
        return codes.long() @ self.codes.long().T

    def forward(self, codes: Tensor, scales: Tensor, dtype: torch.dtype) -> Tensor:
        """As `Product.__call__`."""
        return nn.functional.linear(codes.float() * scales, self.codes.float() * self.scales).to(dtype)


class OneDnn(nn.Module):
    """oneDNN's integer linear layer, the fastest on a CPU with VNNI; weights in 8-bit containers, prepacked.

    It takes the inputs as uint8 with a zero point: with int8 it falls to a path that takes seconds.
    """

    def __init__(self, weight: QuantisedWeight, bits: int) -> None:
        super().__init__()
        self.offset = 2 ** (bits - 1)
        codes = weight.codes
        self.nbytes = codes.nbytes + weight.scales.nbytes
        # Any number of tokens runs with it; the number only guides the choice of the layout.
        self.packed = torch.ops.onednn.qlinear_prepack(codes, [256, codes.shape[1]])
        self.scales = weight.scales.flatten().contiguous()
        self.ones = torch.ones_like(self.scales)
        self.zeros = torch.zeros_like(self.scales, dtype=torch.int32)

    def accumulate(self, codes: Tensor) -> Tensor:
        """Sums, as float32."""
        return self._multiply(codes, self.ones)

    def forward(self, codes: Tensor, scales: Tensor, dtype: torch.dtype) -> Tensor:
        """As `Product.__call__`; the channel scales are applied inside."""
        return self._multiply(codes, self.scales).mul_(scales).to(dtype)

    def _multiply(self, codes: Tensor, channel_scales: Tensor) -> Tensor:
        # In float32 for every format: float16 overflows before the small scale of a token is applied, and a CPU without
        # AVX-512 writes bfloat16 a thousand times more slowly.
        return torch.ops.onednn.qlinear_pointwise(
            codes,
            1.0,
            self.offset,
            self.packed,
            channel_scales,
            self.zeros,
            None,
            1.0,
            0,
            torch.float32,
            "none",
            [],
            "",
        )


class FloatSums(nn.Module):
    """float32 products over so few columns that their sums are exact: slower, and right on any machine.

    `torch._int_mm` would be there too, but takes 20 to 100 times as long on a CPU without VNNI, which alone needs it.
    """

    offset = 0
    _COLUMNS = 1024  # 1024 · 127² < 2^24

    def __init__(self, weight: QuantisedWeight, device: torch.device | str) -> None:
        super().__init__()
        self.codes, self.scales = weight.codes.to(device), weight.scales.T.contiguous().to(device)

    @property
    def nbytes(self) -> int:
        """Memory of the weight."""
        return self.codes.nbytes + self.scales.nbytes

    def accumulate(self, codes: Tensor) -> Tensor:
        """Sums in int32."""
        parts = zip(codes.split(self._COLUMNS, 1), self.codes.split(self._COLUMNS, 1), strict=True)
        sums = torch.zeros(len(codes), len(self.codes), dtype=torch.int32, device=codes.device)
        for inputs, weights in parts:
            sums += nn.functional.linear(inputs.float(), weights.float()).int()
        return sums

    def forward(self, codes: Tensor, scales: Tensor, dtype: torch.dtype) -> Tensor:
        """As `Product.__call__`."""
        return (self.accumulate(codes).float() * self.scales).mul_(scales).to(dtype)


@lru_cache
def exact_on_cpu(bits: int) -> Literal["onednn", "float_sums"]:
    """The fastest execution that multiplies exactly here: without VNNI a CPU saturates sums of 8-bit codes.

    Args:
        bits: Of the inputs' codes.
    """
    limit = largest_code(bits)
    columns = 64
    weight = weight_from_codes(torch.full((32, columns), 127, dtype=torch.int8), torch.ones(32, 1), 8)
    codes = torch.full((4, columns), limit, dtype=torch.int8)
    codes[::2] = -limit
    try:
        product = OneDnn(weight, bits)
        sums = product.accumulate(codes.view(torch.uint8) + product.offset)
    except (AttributeError, RuntimeError):  # this build of torch lacks it
        return "float_sums"
    return "onednn" if torch.equal(sums.long(), codes.long() @ weight.codes.long().T) else "float_sums"


def fastest_exact(bits: int, device: torch.device) -> Execution:
    """The execution of "auto": Triton on a GPU where it runs."""
    if device.type == "cpu":
        return exact_on_cpu(bits)
    return "triton" if kernels_run_on(device) else "float_sums"


def make_product(
    weight: QuantisedWeight, bits: int, execution: Execution, device: torch.device | str = "cpu"
) -> Product:
    """The product of a weight in an execution.

    Args:
        weight: Codes and scales.
        bits: Of the inputs' codes.
        execution: "auto": the fastest that is exact on the device.
        device: Where.
    """
    if execution == "auto":
        execution = fastest_exact(bits, torch.device(device))
    if execution == "onednn":
        return OneDnn(weight, bits)
    if execution == "triton":
        require_triton(torch.device(device))
        from sqap_vla_ros.vlm.kernels.product import TritonProduct

        return TritonProduct(weight, device)
    kinds: dict[str, Callable[[QuantisedWeight, torch.device | str], Product]]
    kinds = {"reference": Reference, "float_sums": FloatSums}
    return kinds[execution](weight, device)

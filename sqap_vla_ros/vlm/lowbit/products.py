"""The product of integer codes, one class per backend.

    y[t, r] = (Σ_k codes[t, k] · weight_codes[r, k]) · token scale[t] · channel scale[r]

All backends compute the sum exactly, so that they agree to the last bit before the scales are applied.
"""

from functools import lru_cache
from typing import Literal, Protocol

import torch
from torch import Tensor, nn

from sqap_vla_ros.vlm.kernels import kernels_run_on, require_triton
from sqap_vla_ros.vlm.lowbit.integers import largest_code
from sqap_vla_ros.vlm.lowbit.weight import QuantisedWeight, weight_from_codes

Backend = Literal["auto", "onednn", "float_sums", "triton"]


class Product(Protocol):
    """Codes of the inputs times codes of the weight.

    Attributes:
        offset: Number that the backend needs added to the inputs' codes, which are then uint8; 0: they are int8.
    """

    offset: int

    @property
    def nbytes(self) -> int:
        """Memory of the weight."""

    def accumulate(self, codes: Tensor) -> Tensor:
        """Exact sums (tokens, stored rows), int32, or float32 that is rounded once where a sum exceeds 2^24."""

    def __call__(self, codes: Tensor, scales: Tensor, dtype: torch.dtype) -> Tensor:
        """The scaled product (tokens, stored rows) in a dtype."""


class OneDnn(nn.Module):
    """oneDNN's integer linear layer, the fastest on a CPU with VNNI; weights in 8-bit containers, prepacked.

    Inputs are uint8 with a zero point: for int8 oneDNN falls back to a path that takes seconds.
    """

    def __init__(self, weight: QuantisedWeight, bits: int) -> None:
        super().__init__()
        self.offset = 2 ** (bits - 1)
        codes = weight.codes
        self.nbytes = codes.nbytes + weight.scales.nbytes
        # The number of tokens only guides the choice of the layout; any number runs with it.
        self.packed = torch.ops.onednn.qlinear_prepack(codes, [256, codes.shape[1]])
        self.scales = weight.scales.flatten().contiguous()
        self.ones = torch.ones_like(self.scales)
        self.zeros = torch.zeros_like(self.scales, dtype=torch.int32)

    def accumulate(self, codes: Tensor) -> Tensor:
        """Sums, as float32."""
        return self._multiply(codes, self.ones)

    def forward(self, codes: Tensor, scales: Tensor, dtype: torch.dtype) -> Tensor:
        """See `Product.__call__`; oneDNN applies the channel scales itself."""
        return self._multiply(codes, self.scales).mul_(scales).to(dtype)

    def _multiply(self, codes: Tensor, channel_scales: Tensor) -> Tensor:
        # Always float32: float16 overflows before the small scale of a token is applied, and a CPU without AVX-512
        # writes bfloat16 a thousand times more slowly.
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
    """float32 products over so few columns that their sums are exact; slow, but correct on every machine.

    `torch._int_mm` takes 20 to 100 times as long on a CPU without VNNI, the only kind of CPU that needs this class.
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
        """See `Product.__call__`."""
        return (self.accumulate(codes).float() * self.scales).mul_(scales).to(dtype)


class TritonProduct(nn.Module):
    """The GPU's kernels; 4-bit rows stay packed, and rows of 8 bits are a second product.

    Args:
        weight: Codes and scales.
        device: Where the weight is; a GPU on which the kernels run.

    Raises:
        TritonUnavailable: The kernels cannot run on this device.
    """

    offset = 0

    def __init__(self, weight: QuantisedWeight, device: torch.device | str) -> None:
        require_triton(torch.device(device))
        from sqap_vla_ros.vlm.kernels.gemm import int8_gemm, pack_halves, packed_gemm

        super().__init__()
        four, eight = weight.scales.to(device).split([len(weight.packed), len(weight.wide)])
        groups = [
            (packed_gemm, pack_halves(weight.packed.to(device)), four),
            (int8_gemm, weight.wide.to(device), eight),
        ]
        # A weight whose rows are all float or dropped still has a product, of no rows.
        self.groups = [group for group in groups if len(group[2])] or groups[:1]

    @property
    def nbytes(self) -> int:
        """Memory of the weight."""
        return sum(codes.nbytes + scales.nbytes for _, codes, scales in self.groups)

    def accumulate(self, codes: Tensor) -> Tensor:
        """Sums in int32, without scales."""
        return self(codes, codes.new_empty(len(codes), 1, dtype=torch.float32), torch.int32)

    def forward(self, codes: Tensor, scales: Tensor, dtype: torch.dtype) -> Tensor:
        """See `Product.__call__`."""
        parts = [gemm(codes, scales, weights, w_scales, None, dtype) for gemm, weights, w_scales in self.groups]
        return parts[0] if len(parts) == 1 else torch.cat(parts, dim=1)


class FloatInputs(nn.Module):
    """Float inputs times codes: only the weight is rounded. Codes are widened for each product, on every device.

    Args:
        weight: Codes and scales.
        device: Where the weight is.
    """

    offset = 0

    def __init__(self, weight: QuantisedWeight, device: torch.device | str) -> None:
        super().__init__()
        self.codes, self.scales = weight.codes.to(device), weight.scales.to(device)

    @property
    def nbytes(self) -> int:
        """Memory of the weight."""
        return self.codes.nbytes + self.scales.nbytes

    def multiply(self, inputs: Tensor) -> Tensor:
        """The product (tokens, stored rows) of inputs (tokens, columns)."""
        return nn.functional.linear(inputs, (self.codes * self.scales).to(inputs.dtype))


@lru_cache
def exact_on_cpu(bits: int) -> Literal["onednn", "float_sums"]:
    """The fastest backend that is exact on this CPU; without VNNI oneDNN saturates sums of 8-bit codes.

    Args:
        bits: Width of the inputs' codes.
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


def fastest_exact(bits: int, device: torch.device) -> Backend:
    """The backend that "auto" means: Triton on a GPU where it runs."""
    if device.type == "cpu":
        return exact_on_cpu(bits)
    return "triton" if kernels_run_on(device) else "float_sums"


def make_product(weight: QuantisedWeight, bits: int, backend: Backend, device: torch.device | str = "cpu") -> Product:
    """The product of a weight in a backend.

    Args:
        weight: Codes and scales.
        bits: Width of the inputs' codes.
        backend: "auto" is the fastest one that is exact on the device.
        device: Where the weight is.

    Raises:
        TritonUnavailable: The backend is "triton", which cannot run on this device.
    """
    if backend == "auto":
        backend = fastest_exact(bits, torch.device(device))
    if backend == "onednn":
        return OneDnn(weight, bits)
    return TritonProduct(weight, device) if backend == "triton" else FloatSums(weight, device)

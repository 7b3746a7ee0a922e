"""Float activations times 4-bit weights, against the same in torch."""

import pytest
import torch

from sqap_vla_ros.vlm.kernels.gemm import pack_halves
from sqap_vla_ros.vlm.kernels.weight_only import weight_only_gemm
from sqap_vla_ros.vlm.lowbit.integers import pack_nibbles

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")

# Triton's interpreter multiplies bfloat16 numbers by their bits, as integers.
DTYPES = [torch.float16, torch.bfloat16] if DEVICE.type == "cuda" else [torch.float16]

pytestmark = pytest.mark.usefixtures("poisoned_memory")


@pytest.mark.parametrize(("tokens", "outputs", "channels"), [(1, 70, 64), (65, 130, 192), (17, 128, 11008)])
@pytest.mark.parametrize("dtype", DTYPES)
def test_it_is_the_product_with_what_the_codes_stand_for(
    tokens: int, outputs: int, channels: int, dtype: torch.dtype
) -> None:
    codes = torch.randint(-7, 8, (outputs, channels), dtype=torch.int8, device=DEVICE)
    scales = torch.rand(outputs, 1, device=DEVICE) + 0.1
    values = torch.randn(tokens, channels, device=DEVICE).to(dtype)
    found = weight_only_gemm(values, pack_halves(pack_nibbles(codes)), scales)
    wanted = values.float() @ (codes.float() * scales).T
    assert found.dtype == dtype
    assert (found.float() - wanted).norm() <= 1e-2 * wanted.norm()


def test_channels_that_do_not_fill_its_tiles_are_refused() -> None:
    halves = pack_halves(pack_nibbles(torch.ones(4, 96, dtype=torch.int8)))
    with pytest.raises(ValueError, match="K a multiple of 64"):
        weight_only_gemm(torch.ones(3, 96, dtype=torch.bfloat16), halves, torch.ones(4, 1))

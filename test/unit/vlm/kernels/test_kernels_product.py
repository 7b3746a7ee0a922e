"""The GPU's product as an backend of quantised layers: the same integers as the other backends."""

from collections.abc import Callable

import pytest
import torch
from reference_product import reference_products

from sqap_vla_ros.vlm.lowbit.linear import InputFormat, QuantLinear
from sqap_vla_ros.vlm.lowbit.products import make_product
from sqap_vla_ros.vlm.lowbit.weight import QuantisedWeight, concatenate, round_to_nearest

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")


def four_bits() -> QuantisedWeight:
    return round_to_nearest(torch.randn(70, 256), 4)


def eight_bits() -> QuantisedWeight:
    return round_to_nearest(torch.randn(33, 256), 8)


def both() -> QuantisedWeight:
    return concatenate([four_bits(), eight_bits()])


def no_rows() -> QuantisedWeight:
    return four_bits().slice(0, 0)


@pytest.mark.parametrize("make_weight", [four_bits, eight_bits, both, no_rows])
def test_its_sums_equal_the_references(make_weight: Callable[[], QuantisedWeight]) -> None:
    weight = make_weight()
    codes = torch.randint(-7, 8, (17, 256), dtype=torch.int8, device=DEVICE)
    sums = make_product(weight, 4, "triton", DEVICE).accumulate(codes)
    assert torch.equal(sums.cpu().long(), codes.cpu().long() @ weight.codes.long().T)


def test_four_bit_rows_stay_packed() -> None:
    weight = four_bits()
    assert make_product(weight, 4, "triton", DEVICE).nbytes == 70 * 256 // 2 + 70 * 4


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_layers_outputs_agree_with_the_reference_backend(dtype: torch.dtype) -> None:
    weight, bias = both(), torch.randn(103)
    values = torch.randn(2, 9, 256, device=DEVICE).to(dtype)
    layers = [QuantLinear(weight, InputFormat(block=256), bias, backend="triton", device=DEVICE)]
    with reference_products():
        layers.append(QuantLinear(weight, InputFormat(block=256), bias, device=DEVICE))
    output, wanted = (layer(values).float() for layer in layers)
    assert (output - wanted).norm() <= 1e-2 * wanted.norm()

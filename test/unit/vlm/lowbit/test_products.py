"""The backends of the integer product give the same sums, to the last bit."""

import pytest
import torch
from torch import Tensor

from sqap_vla_ros.vlm.lowbit.integers import largest_code
from sqap_vla_ros.vlm.lowbit.products import Backend, FloatSums, OneDnn, exact_on_cpu, make_product
from sqap_vla_ros.vlm.lowbit.weight import QuantisedWeight, concatenate, mixed_weight, weight_from_codes

# Those that a machine without VNNI has too, and all that this one multiplies 8-bit codes with exactly.
ON_CPU: list[Backend] = list(dict.fromkeys(("float_sums", exact_on_cpu(8))))
INTERPRETED = not torch.cuda.is_available()
ALL: list[Backend] = [*ON_CPU, "triton"] if INTERPRETED else ON_CPU
WIDTHS = [(4,), (8,), (4, 8), (8, 4, 8)]
COLUMNS, ROWS = 96, 40


def drawn_codes(rows: int, bits: int, seed: int = 0, columns: int = COLUMNS) -> Tensor:
    limit = largest_code(bits)
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(-limit, limit + 1, (rows, columns), generator=generator, dtype=torch.int8)


def weight_of(codes: Tensor, bits: int) -> QuantisedWeight:
    return weight_from_codes(codes, torch.rand(len(codes), 1, generator=torch.Generator().manual_seed(1)), bits)


def weight_of_widths(widths: tuple[int, ...]) -> QuantisedWeight:
    return concatenate([weight_of(drawn_codes(ROWS, bits, seed), bits) for seed, bits in enumerate(widths)])


def sums(weight: QuantisedWeight, codes: Tensor, bits: int, backend: Backend) -> Tensor:
    product = make_product(weight, bits, backend)
    shifted = (codes.short() + product.offset).to(torch.uint8) if product.offset else codes
    return product.accumulate(shifted).double()


def exact(weight: QuantisedWeight, codes: Tensor) -> Tensor:
    return (codes.long() @ weight.codes.long().T).double()


@pytest.mark.parametrize("tokens", [1, 17, 154])
@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize("widths", WIDTHS, ids=str)
@pytest.mark.parametrize("backend", ON_CPU)
def test_sums_equal_those_of_64_bit_integers(backend: Backend, widths: tuple[int, ...], bits: int, tokens: int) -> None:
    weight, codes = weight_of_widths(widths), drawn_codes(tokens, bits, 7)
    assert torch.equal(sums(weight, codes, bits, backend), exact(weight, codes))


@pytest.mark.skipif(not INTERPRETED, reason="a GPU's kernels do not run on a CPU")
@pytest.mark.parametrize("tokens", [1, 17])
@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize("widths", WIDTHS, ids=str)
def test_sums_of_the_gpus_kernels_equal_those_of_64_bit_integers(
    widths: tuple[int, ...], bits: int, tokens: int
) -> None:
    weight, codes = weight_of_widths(widths), drawn_codes(tokens, bits, 7)
    assert torch.equal(sums(weight, codes, bits, "triton"), exact(weight, codes))


@pytest.mark.parametrize("signs", [(1, 1), (1, -1), (-1, 1), (-1, -1)])
@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize("backend", ALL)
def test_sums_of_the_largest_codes_do_not_saturate(backend: Backend, bits: int, signs: tuple[int, int]) -> None:
    columns = 1024  # 1024 · 127² is still a whole number in float32, which oneDNN answers in
    codes = torch.full((3, columns), signs[0] * largest_code(bits), dtype=torch.int8)
    weight = weight_of(torch.full((32, columns), signs[1] * 127, dtype=torch.int8), 8)
    wanted = signs[0] * signs[1] * largest_code(bits) * 127 * columns
    assert bool((sums(weight, codes, bits, backend) == wanted).all())


@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize("backend", ON_CPU)
def test_sums_over_the_longest_row_of_the_network_are_rounded_once_at_most(backend: Backend, bits: int) -> None:
    codes, weight = drawn_codes(17, bits, columns=11008), weight_of(drawn_codes(8, 8, 1, columns=11008), 8)
    codes[0], codes[1] = largest_code(bits), -largest_code(bits)
    weight.wide[0], weight.wide[1] = 127, -127
    assert torch.equal(sums(weight, codes, bits, backend).float(), exact(weight, codes).float())


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize("backend", ALL)
def test_scaled_products_agree_with_the_reference(backend: Backend, bits: int, dtype: torch.dtype) -> None:
    weight, codes = weight_of_widths((4, 8)), drawn_codes(17, bits, 7)
    token_scales = torch.rand(17, 1, generator=torch.Generator().manual_seed(2))
    product = make_product(weight, bits, backend)
    shifted = (codes.short() + product.offset).to(torch.uint8) if product.offset else codes
    outputs = product(shifted, token_scales, dtype)
    wanted = exact(weight, codes) * token_scales.double() * weight.scales.double().T
    assert outputs.dtype == dtype
    # bfloat16: the sum, the token's scale and their product may each be rounded to 8 bits.
    tolerance = 1e-6 if dtype == torch.float32 else 3.1 * 2**-8
    assert bool(((outputs - wanted).abs() <= tolerance * wanted.abs()).all())


@pytest.mark.parametrize("channel_bits", [0, 16])
@pytest.mark.parametrize("backend", ALL)
def test_a_weight_without_any_codes_has_a_product_of_no_rows(backend: Backend, channel_bits: int) -> None:
    weight = mixed_weight(torch.randn(6, COLUMNS), torch.full((6,), channel_bits, dtype=torch.uint8))
    assert sums(weight, drawn_codes(3, 4), 4, backend).shape == (3, 0)


@pytest.mark.skipif(exact_on_cpu(4) != "onednn", reason="this CPU's oneDNN saturates")
def test_a_cpu_whose_onednn_is_exact_uses_it() -> None:
    assert isinstance(make_product(weight_of_widths((4,)), 4, "auto"), OneDnn)


def test_float_sums_are_exact_beyond_what_float32_holds() -> None:
    weight = weight_of(torch.full((2, 11008), 127, dtype=torch.int8), 8)
    sums = FloatSums(weight, "cpu").accumulate(torch.full((1, 11008), -127, dtype=torch.int8))
    assert sums.tolist() == [[-11008 * 127**2] * 2]


def test_on_a_cpu_each_code_takes_a_byte() -> None:
    weight = weight_of_widths((4,))
    for backend in ON_CPU:
        assert make_product(weight, 4, backend).nbytes == ROWS * COLUMNS + ROWS * 4

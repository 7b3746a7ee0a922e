"""Walsh-Hadamard rotations: they change nothing in exact arithmetic, and spread outliers."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from sqap_vla_ros.vlm.lowbit.hadamard import block_size, hadamard, rotate

POWERS = [2**exponent for exponent in range(9)]


@st.composite
def blockwise(draw: st.DrawFn) -> tuple[Tensor, int]:
    """float64 (rows, channels), and a block that divides the channels."""
    block = draw(st.sampled_from(POWERS))
    shape = draw(st.integers(1, 5)), block * draw(st.integers(1, 5))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**32 - 1)))
    return torch.randn(shape, generator=generator, dtype=torch.float64), block


@pytest.mark.parametrize("size", [*POWERS, 1024])
def test_the_matrix_is_symmetric_and_orthonormal(size: int) -> None:
    matrix = hadamard(size).double()
    assert torch.equal(matrix, matrix.T)
    assert (matrix @ matrix - torch.eye(size)).abs().max() < 1e-6
    assert torch.allclose(matrix.abs(), torch.tensor(size**-0.5, dtype=torch.float64))


def test_the_matrix_is_in_sylvesters_order() -> None:
    signs = [[1, 1, 1, 1], [1, -1, 1, -1], [1, 1, -1, -1], [1, -1, -1, 1]]
    assert (2 * hadamard(4)).tolist() == signs


@given(blockwise())
def test_rotating_is_multiplying_each_block_by_the_matrix(case: tuple[Tensor, int]) -> None:
    values, block = case
    expected = values.unflatten(1, (-1, block)) @ hadamard(block).double()
    assert (rotate(values, block) - expected.flatten(1)).norm() < 1e-6 * values.norm()


@given(blockwise())
def test_rotating_twice_is_the_identity(case: tuple[Tensor, int]) -> None:
    values, block = case
    assert (rotate(rotate(values, block), block) - values).norm() < 1e-6 * values.norm()


@given(blockwise(), st.integers(0, 1000))
def test_a_product_of_two_rotated_operands_is_the_product(case: tuple[Tensor, int], seed: int) -> None:
    weight, block = case
    inputs = torch.randn(3, weight.shape[1], generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    product = rotate(inputs, block) @ rotate(weight, block).T
    # The matrix itself is float32.
    assert (product - inputs @ weight.T).norm() < 1e-6 * inputs.norm() * weight.norm()


@given(blockwise())
def test_magnitude_stays(case: tuple[Tensor, int]) -> None:
    values, block = case
    assert torch.allclose(rotate(values, block).norm(dim=1), values.norm(dim=1), rtol=1e-6)


@pytest.mark.parametrize("block", [2, 8, 32, 256, 4096])
def test_an_outlier_is_spread_evenly_over_its_block_alone(block: int) -> None:
    values = torch.zeros(1, 3 * block)
    values[0, block + block // 3] = 100.0
    before, inside, after = rotate(values, block).split(block, dim=1)
    assert not before.any() and not after.any()
    assert torch.allclose(inside.abs(), torch.tensor(100.0 / math.sqrt(block)))


@pytest.mark.parametrize(
    ("width", "largest", "expected"),
    [(11008, 4096, 256), (4304, 4096, 16), (4096, 4096, 4096), (4096, 128, 128), (1152, 4096, 128), (7, 4096, 1)],
)
def test_a_block_is_the_largest_power_of_two_that_divides_the_width(width: int, largest: int, expected: int) -> None:
    assert block_size(width, largest) == expected


@pytest.mark.parametrize("largest", [-4, 0, 3, 96])
def test_a_largest_block_that_is_no_power_of_two_is_refused(largest: int) -> None:
    with pytest.raises(ValueError, match=f"Hadamard block of {largest}: expected a power of two"):
        block_size(4096, largest)


@pytest.mark.parametrize("size", [-2, 0, 12])
def test_a_matrix_of_another_size_is_refused(size: int) -> None:
    with pytest.raises(ValueError, match=f"Hadamard matrix of {size} rows: expected a power of two"):
        hadamard(size)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_shape_and_number_format_stay(dtype: torch.dtype) -> None:
    values = torch.ones(2, 3, 24, dtype=dtype)
    rotated = rotate(values, 8)
    assert rotated.shape == values.shape and rotated.dtype == dtype


def test_a_matrix_that_inference_made_first_serves_training_too() -> None:
    hadamard.cache_clear()
    with torch.inference_mode():
        rotate(torch.ones(1, 8), 8)
    values = torch.ones(1, 8, requires_grad=True)
    (gradient,) = torch.autograd.grad(rotate(values, 8)[0, 0], values)
    assert torch.allclose(gradient, hadamard(8)[:1])

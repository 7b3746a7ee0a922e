"""GPTQ against its published form, and what it is for: less error of the output."""

import pytest
import torch
from torch import Tensor

from sqap_vla_ros.tools.compression.gptq import InputStatistics, RoundingError, gptq
from sqap_vla_ros.vlm.lowbit.integers import absmax_scales, largest_code, quantise, searched_scales


def generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def correlated_inputs(tokens: int, channels: int, seed: int = 0) -> Tensor:
    """Few common causes behind all channels, which are of very different power."""
    rng = generator(seed)
    causes = torch.randn(tokens, channels // 8, generator=rng) @ torch.randn(channels // 8, channels, generator=rng)
    noise = torch.randn(tokens, channels, generator=rng)
    return (causes + noise) * torch.randn(channels, generator=rng).exp()


def some_weight(rows: int, columns: int, seed: int = 1) -> Tensor:
    return torch.randn(rows, columns, generator=generator(seed))


def output_error(weight: Tensor, codes: Tensor, scales: Tensor, inputs: Tensor) -> float:
    return float(((codes * scales - weight) @ inputs.T).norm() / (weight @ inputs.T).norm())


def published_gptq(weight: Tensor, hessian: Tensor, scales: Tensor, bits: int, damping: float = 0.01) -> Tensor:
    """Column by column with the inverse of H, in float64, most powerful input first."""
    order = hessian.diagonal().argsort(stable=True).flip(0)
    rest = weight.double()[:, order]
    damped = hessian.double()[order][:, order]
    damped.diagonal().add_(damping * damped.diagonal().mean())
    factor = torch.linalg.cholesky(torch.linalg.inv(damped), upper=True)
    codes = torch.empty(weight.shape, dtype=torch.int8)
    for k, column in enumerate(order):
        codes[:, column] = quantise(rest[:, k : k + 1], scales.double(), bits).squeeze(1)
        error = (rest[:, k] - codes[:, column] * scales.squeeze(1)) / factor[k, k]
        rest[:, k:] -= torch.outer(error, factor[k, k:])
    return codes


@pytest.mark.parametrize("columns", [1, 7, 128, 300])
@pytest.mark.parametrize("bits", [4, 8])
def test_codes_are_those_of_the_published_column_by_column_form(columns: int, bits: int) -> None:
    weight = some_weight(16, columns)
    inputs = correlated_inputs(4 * columns, columns) if columns >= 8 else torch.randn(32, columns)
    hessian = inputs.T @ inputs
    scales = searched_scales(weight, bits)
    expected = published_gptq(weight, hessian, scales, bits)
    # A value halfway between two codes may fall to either side in float32.
    assert (gptq(weight, hessian, scales, bits) != expected).sum() <= 2


def test_the_output_errs_less_than_with_weights_rounded_to_nearest() -> None:
    weight = some_weight(64, 256)
    seen, unseen = correlated_inputs(1024, 256).chunk(2)
    scales = searched_scales(weight, 4)
    codes = gptq(weight, seen.T @ seen, scales, 4)
    nearest = output_error(weight, quantise(weight, scales, 4), scales, unseen)
    assert output_error(weight, codes, scales, unseen) < 0.5 * nearest


def test_inputs_that_are_independent_of_each_other_leave_rounding_to_nearest() -> None:
    weight = some_weight(32, 200)
    scales = absmax_scales(weight, 4)
    power = torch.rand(200, generator=generator(2)) + 0.1
    assert torch.equal(gptq(weight, power.diag(), scales, 4), quantise(weight, scales, 4))


def test_channels_that_carry_nothing_are_rounded_to_nearest_and_leave_the_others_alone() -> None:
    weight, inputs = some_weight(32, 160), correlated_inputs(640, 160)
    dead = torch.arange(0, 160, 5)
    inputs[:, dead] = 0
    scales = absmax_scales(weight, 4)
    codes = gptq(weight, inputs.T @ inputs, scales, 4)
    assert torch.equal(codes[:, dead], quantise(weight, scales, 4)[:, dead])
    changed = weight.clone()
    changed[:, dead] *= -1
    alive = torch.ones(160, dtype=torch.bool).index_fill(0, dead, False)
    assert torch.equal(gptq(changed, inputs.T @ inputs, scales, 4)[:, alive], codes[:, alive])


@pytest.mark.parametrize("bits", [2, 4, 8])
def test_codes_stay_in_range_where_errors_push_values_beyond_it(bits: int) -> None:
    weight, inputs = some_weight(32, 160), correlated_inputs(640, 160)
    codes = gptq(weight, inputs.T @ inputs, absmax_scales(weight, bits, clip=0.5), bits)
    assert int(codes.abs().max()) == largest_code(bits)


def test_rows_are_rounded_independently_of_each_other() -> None:
    weight, inputs = some_weight(64, 160), correlated_inputs(640, 160)
    hessian, scales = inputs.T @ inputs, searched_scales(weight, 4)
    order = torch.randperm(64, generator=generator(3))
    shuffled = gptq(weight[order], hessian, scales[order], 4)
    # The matrix products of other shapes or places may add up in another order.
    assert (shuffled != gptq(weight, hessian, scales, 4)[order]).sum() <= 2


def test_the_same_inputs_give_the_same_codes_and_are_left_as_they_were() -> None:
    weight, inputs = some_weight(64, 300), correlated_inputs(640, 300)
    hessian, scales = inputs.T @ inputs, searched_scales(weight, 4)
    before = weight.clone(), hessian.clone(), scales.clone()
    assert torch.equal(gptq(weight, hessian, scales, 4), gptq(weight, hessian, scales, 4))
    assert all(torch.equal(now, then) for now, then in zip((weight, hessian, scales), before, strict=True))


def test_fewer_tokens_than_channels_are_enough() -> None:
    weight, inputs = some_weight(64, 256), correlated_inputs(40, 256)
    scales = searched_scales(weight, 4)
    nearest = output_error(weight, quantise(weight, scales, 4), scales, inputs)
    assert output_error(weight, gptq(weight, inputs.T @ inputs, scales, 4), scales, inputs) < 0.5 * nearest


def test_damping_rises_where_the_matrix_is_not_positive_definite_with_the_papers() -> None:
    weight = some_weight(16, 64)
    basis = torch.linalg.qr(torch.randn(64, 64, generator=generator(4)))[0]
    powers = torch.linspace(0.5, 2, 64)
    powers[0] = -0.05
    hessian = basis @ powers.diag() @ basis.T
    scales = searched_scales(weight, 4)
    expected = published_gptq(weight, hessian, scales, 4, damping=0.1)
    assert (gptq(weight, hessian, scales, 4) != expected).sum() <= 2


def test_a_matrix_that_is_no_sum_of_squares_is_refused() -> None:
    weight = some_weight(4, 8)
    hessian = torch.full((8, 8), 100.0).fill_diagonal_(1.0)
    with pytest.raises(RoundingError, match="not positive definite, even with 1 of its mean power"):
        gptq(weight, hessian, absmax_scales(weight, 4), 4)


@pytest.mark.parametrize("value", [0.0, float("nan"), float("inf")])
def test_inputs_without_a_finite_power_are_refused(value: float) -> None:
    weight = some_weight(4, 8)
    with pytest.raises(RoundingError, match=f"mean power of {value:g}, expected a positive number"):
        gptq(weight, torch.full((8, 8), value), absmax_scales(weight, 4), 4)


@pytest.mark.parametrize("channels", [8, 1024, 1500])
def test_statistics_of_batches_are_those_of_all_inputs_together(channels: int) -> None:
    inputs = correlated_inputs(96, channels)
    statistics = InputStatistics(channels)
    for batch in inputs.view(2, 3, 16, channels).unbind():
        statistics.add(batch)
    assert statistics.tokens == 96
    assert torch.equal(statistics.absmax, inputs.abs().amax(0))
    exact = inputs.double().T @ inputs.double()
    assert (statistics.hessian - exact).norm() < 1e-6 * exact.norm()


def test_statistics_go_on_after_they_were_asked_for() -> None:
    inputs = correlated_inputs(64, 1200)
    statistics = InputStatistics(1200)
    for half in inputs.chunk(2):
        statistics.add(half)
        assert statistics.hessian.shape == (1200, 1200)
    exact = inputs.double().T @ inputs.double()
    assert (statistics.hessian - exact).norm() < 1e-6 * exact.norm()


def test_scales_searched_by_input_power_lower_the_output_error_where_few_channels_carry_most() -> None:
    weight, inputs = some_weight(64, 256), correlated_inputs(512, 256)
    inputs[:, :4] *= 100
    hessian = inputs.T @ inputs
    plain, weighted = searched_scales(weight, 4), searched_scales(weight, 4, hessian.diagonal())
    error = output_error(weight, gptq(weight, hessian, weighted, 4), weighted, inputs)
    assert error < 0.8 * output_error(weight, gptq(weight, hessian, plain, 4), plain, inputs)

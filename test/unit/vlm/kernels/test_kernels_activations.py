"""Norm, rotation and quantisation in one kernel, against the same in torch."""

import pytest
import torch
from torch import Tensor
from torch.nn.functional import rms_norm

from sqap_vla_ros.vlm.kernels.activations import rotate_quantise
from sqap_vla_ros.vlm.lowbit.hadamard import rotate
from sqap_vla_ros.vlm.lowbit.integers import absmax_scales, quantise

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
# Inputs of a layer of CogACT's LLM, of its down-projection, of the towers and of the three action heads.
WIDTHS_AND_BLOCKS = [(4096, 4096), (11008, 256), (1024, 1024), (1152, 128), (4304, 16), (384, 128), (768, 256)]
WIDTHS_AND_BLOCKS += [(3072, 64), (24, 8), (16, 2)]

pytestmark = pytest.mark.usefixtures("poisoned_memory")


def whole_numbers(tokens: int, channels: int) -> Tensor:
    """Inputs whose rotated sums are exact in any order of the additions."""
    return torch.randint(-60, 61, (tokens, channels), device=DEVICE).float()


def expected(values: Tensor, block: int, bits: int, clip: float) -> tuple[Tensor, Tensor]:
    rotated = rotate(values.float(), block)
    scales = absmax_scales(rotated, bits, clip)
    return quantise(rotated, scales, bits), scales


@pytest.mark.parametrize(("channels", "block"), [(4096, 4096), (11008, 256), (4304, 16), (768, 256), (48, 16)])
@pytest.mark.parametrize("bits", [4, 8])
def test_codes_and_scales_equal_the_reference_where_sums_are_exact(channels: int, block: int, bits: int) -> None:
    # With a power of 16 as block the reference's two factors, too, divide by a power of two.
    values = whole_numbers(3, channels)
    codes, scales = rotate_quantise(values, block, bits, 0.7)
    wanted, wanted_scales = expected(values, block, bits, 0.7)
    assert torch.equal(scales, wanted_scales)
    assert torch.equal(codes, wanted)


@pytest.mark.parametrize(("channels", "block"), WIDTHS_AND_BLOCKS)
def test_any_input_is_rotated_as_the_reference_rotates(channels: int, block: int) -> None:
    values = torch.randn(2, channels, device=DEVICE)
    codes, scales = rotate_quantise(values, block, 8)
    wanted, wanted_scales = expected(values, block, 8, 1.0)
    torch.testing.assert_close(scales, wanted_scales, rtol=1e-5, atol=0)
    # Where the orders of addition differ, a value near a half may round either way.
    assert (codes.int() - wanted.int()).abs().max() <= 1
    assert (codes != wanted).float().mean() < 1e-3


@pytest.mark.parametrize("channels", [4096, 11008, 30])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_without_a_rotation_any_number_format_gives_the_references_codes(channels: int, dtype: torch.dtype) -> None:
    values = torch.randn(17, channels, device=DEVICE).to(dtype)
    codes, scales = rotate_quantise(values, 1, 4, 0.65)
    wanted, wanted_scales = expected(values, 1, 4, 0.65)
    assert torch.equal(scales, wanted_scales)
    assert torch.equal(codes, wanted)


@pytest.mark.parametrize("tokens", [1, 17, 154])
def test_every_token_has_its_own_scale(tokens: int) -> None:
    values = torch.randn(tokens, 64, device=DEVICE) * torch.logspace(-3, 3, tokens, device=DEVICE)[:, None]
    codes, scales = rotate_quantise(values, 1, 4)
    assert torch.equal(scales[:, 0], values.abs().amax(1) * torch.tensor(1 / 7))
    assert (codes.abs().amax(1) == 7).all()


def test_halves_round_to_even() -> None:
    # The first value makes the scale 1.
    values = [7.0, 0.5, 1.5, 2.5, 3.5, 4.5, -0.5, -1.5, -2.5, -3.5, 0.49999997, 0.50000006]
    codes, _ = rotate_quantise(torch.tensor([values], device=DEVICE), 1, 4)
    assert codes.tolist() == [[7, 0, 2, 2, 4, 4, 0, -2, -2, -4, 0, 1]]


def test_values_beyond_the_clip_saturate() -> None:
    codes, scales = rotate_quantise(torch.tensor([[10.0, -10.0, 4.9, 1.0]], device=DEVICE), 1, 4, 0.5)
    assert codes.tolist() == [[7, -7, 7, 1]]
    torch.testing.assert_close(scales, torch.tensor([[5 / 7]], device=DEVICE))


def test_a_token_of_zeros_has_codes_of_zero_and_a_positive_scale() -> None:
    codes, scales = rotate_quantise(torch.zeros(2, 64, device=DEVICE), 16, 4)
    assert not codes.any()
    assert (scales > 0).all()


@pytest.mark.parametrize("block", [1, 16])
@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.filterwarnings("ignore:invalid value:RuntimeWarning")
def test_a_token_that_is_not_finite_cannot_pass_for_a_number(value: float, block: int) -> None:
    values = torch.ones(3, 64, device=DEVICE)
    values[1, 5] = value
    _, scales = rotate_quantise(values, block, 4)
    assert scales.isfinite().flatten().tolist() == [True, False, True]


@pytest.mark.parametrize(("channels", "block"), [(4096, 4096), (11008, 256)])
@pytest.mark.parametrize("with_gain", [False, True])
def test_an_rms_norm_before_it_is_the_same_as_torchs(channels: int, block: int, with_gain: bool) -> None:
    values = torch.randn(2, channels, device=DEVICE) * 30
    gain = torch.rand(channels, device=DEVICE) if with_gain else None
    codes, scales = rotate_quantise(values, block, 8, epsilon=1e-5, gain=gain)
    wanted, wanted_scales = expected(rms_norm(values, (channels,), gain, 1e-5), block, 8, 1.0)
    torch.testing.assert_close(scales, wanted_scales, rtol=1e-5, atol=0)
    assert (codes.int() - wanted.int()).abs().max() <= 1
    assert (codes != wanted).float().mean() < 1e-3


def test_the_epsilon_of_the_norm_counts() -> None:
    values = torch.full((1, 16), 1e-3, device=DEVICE)
    _, scales = rotate_quantise(values, 1, 8, epsilon=3e-6)
    torch.testing.assert_close(scales, torch.tensor([[0.5 / 127]], device=DEVICE))


def test_repeated_runs_are_identical() -> None:
    values = torch.randn(5, 11008, device=DEVICE)
    first, again = rotate_quantise(values, 256, 4), rotate_quantise(values, 256, 4)
    assert all(torch.equal(one, other) for one, other in zip(first, again, strict=True))


@pytest.mark.parametrize("block", [0, 3, 64, 8192])
def test_a_block_that_does_not_fit_is_refused(block: int) -> None:
    channels = 8192 if block == 8192 else 96
    with pytest.raises(ValueError, match=f"block of {block} for {channels} channels"):
        rotate_quantise(torch.ones(1, channels, device=DEVICE), block, 4)


def test_rows_that_are_not_contiguous_are_refused() -> None:
    with pytest.raises(ValueError, match="expected contiguous rows"):
        rotate_quantise(torch.ones(64, 4, device=DEVICE).T, 1, 4)


def test_a_gain_without_its_norm_is_refused() -> None:
    with pytest.raises(ValueError, match="epsilon None"):
        rotate_quantise(torch.ones(1, 64, device=DEVICE), 1, 4, gain=torch.ones(64, device=DEVICE))

"""The integer product's kernel against the same in 64-bit integers, with ragged edges and poisoned outputs."""

import pytest
import torch
from torch import Tensor

from sqap_vla_ros.policies.cogact.published import DINO, SIGLIP
from sqap_vla_ros.vlm.kernels.gemm import int8_gemm, pack_halves, packed_gemm, tile_for
from sqap_vla_ros.vlm.lowbit.integers import pack_nibbles, unpack_nibbles

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
LANGUAGE_SHAPES = [(12288, 4096), (4096, 4096), (22016, 4096), (4096, 11008)]
# (tokens, N, K): a down-projection, kept tokens at the LLM's width, one token, the towers' MLP (ragged everywhere), the
# action heads, and a shape of each other tile.
SHAPES = [(17, 64, 11008), (154, 130, 4096), (1, 70, 4096), (33, 100, 4304), (17, 72, 1152), (18, 64, 384)]
SHAPES += [(65, 2050, 64), (193, 2050, 64), (3, 5, 6)]
if DEVICE.type == "cuda":
    # All that CogACT has, fused: the language model's with all tokens, with those that stay, and with one.
    SHAPES += [(n, o, k) for n in (280, 178, 1) for o, k in LANGUAGE_SHAPES]
    SHAPES += [
        shape
        for tower, tokens in ((DINO, 261), (SIGLIP, 256))
        for shape in (
            (tokens, 3 * tower.width, tower.width),
            (tokens, tower.width, tower.width),
            (tokens, tower.hidden, tower.width),
            (tokens, tower.width, tower.hidden),
        )
    ]

pytestmark = pytest.mark.usefixtures("poisoned_memory")


def codes_of(bits: int, rows: int, columns: int) -> Tensor:
    """Random codes, the first row all at the largest magnitude."""
    limit = 2 ** (bits - 1) - 1
    codes = torch.randint(-limit, limit + 1, (rows, columns), dtype=torch.int8, device=DEVICE)
    codes[0] = limit
    return codes


def exact(codes: Tensor, weights: Tensor) -> Tensor:
    # Products of float64 are exact here: no sum exceeds 2^53.
    return (codes.double() @ weights.double().T).long()


def ones(rows: int) -> Tensor:
    return torch.ones(rows, 1, device=DEVICE)


@pytest.mark.parametrize(("tokens", "outputs", "channels"), SHAPES)
@pytest.mark.parametrize("bits", [4, 8])
def test_sums_of_packed_weights_are_exact(tokens: int, outputs: int, channels: int, bits: int) -> None:
    codes, weights = codes_of(bits, tokens, channels), codes_of(4, outputs, channels)
    halves = pack_halves(pack_nibbles(weights))
    sums = packed_gemm(codes, ones(tokens), halves, ones(outputs), out_dtype=torch.int32)
    assert torch.equal(sums.long(), exact(codes, weights))


@pytest.mark.parametrize(("tokens", "outputs", "channels"), SHAPES)
def test_sums_of_8_bit_weights_are_exact(tokens: int, outputs: int, channels: int) -> None:
    codes, weights = codes_of(8, tokens, channels), codes_of(8, outputs, channels)
    sums = int8_gemm(codes, ones(tokens), weights, ones(outputs), out_dtype=torch.int32)
    assert torch.equal(sums.long(), exact(codes, weights))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
@pytest.mark.parametrize("with_bias", [False, True])
@pytest.mark.parametrize("packed", [False, True])
def test_the_output_is_scaled_per_token_and_per_channel(dtype: torch.dtype, with_bias: bool, packed: bool) -> None:
    codes, weights = codes_of(4, 17, 96), codes_of(4, 70, 96)
    x_scales, w_scales = torch.rand(17, 1, device=DEVICE) + 0.1, torch.rand(70, 1, device=DEVICE) / 50 + 0.01
    bias = torch.randn(70, device=DEVICE) if with_bias else None
    if packed:
        output = packed_gemm(codes, x_scales, pack_halves(pack_nibbles(weights)), w_scales, bias, dtype)
    else:
        output = int8_gemm(codes, x_scales, weights, w_scales, bias, dtype)
    wanted = exact(codes, weights).float() * x_scales * w_scales.T + (0 if bias is None else bias)
    assert output.dtype == dtype
    torch.testing.assert_close(output, wanted.to(dtype), rtol=2 * torch.finfo(dtype).eps, atol=1e-6)


def test_repeated_runs_are_identical() -> None:
    codes, halves = codes_of(8, 154, 1152), pack_halves(pack_nibbles(codes_of(4, 130, 1152)))
    scales = torch.rand(154, 1, device=DEVICE), torch.rand(130, 1, device=DEVICE)
    first = packed_gemm(codes, scales[0], halves, scales[1], out_dtype=torch.float32)
    assert torch.equal(packed_gemm(codes, scales[0], halves, scales[1], out_dtype=torch.float32), first)


def test_halves_pair_channels_that_are_half_a_row_apart() -> None:
    codes = codes_of(4, 3, 64)
    pairs = unpack_nibbles(pack_halves(pack_nibbles(codes)))
    assert torch.equal(pairs, torch.stack((codes[:, :32], codes[:, 32:]), dim=2).flatten(1))


def test_halves_are_padded_with_zeros_to_whole_loads_of_16_bytes() -> None:
    pairs = unpack_nibbles(pack_halves(pack_nibbles(codes_of(4, 3, 40))))
    assert pairs.shape == (3, 64)
    assert not pairs[:, 1::2][:, 8:].any()


@pytest.mark.parametrize("tokens", [1, 16, 17, 64, 65, 154, 192, 193, 280])
def test_tiles_fit_tensor_cores(tokens: int) -> None:
    for outputs in (64, 1152, 4096, 22016):
        tile = tile_for(tokens, outputs)
        assert tile.tokens % 16 == 0 and tile.outputs % 64 == 0 and tile.reduced % 32 == 0


def test_scales_of_another_number_of_tokens_are_refused() -> None:
    with pytest.raises(ValueError, match=r"codes \(3, 64\) with 2 scales"):
        int8_gemm(codes_of(8, 3, 64), ones(2), codes_of(8, 4, 64), ones(4))


def test_weights_of_another_width_are_refused() -> None:
    with pytest.raises(ValueError, match=r"4-bit weights \(4, 64\)"):
        packed_gemm(codes_of(4, 3, 64), ones(3), codes_of(8, 4, 64).view(torch.uint8), ones(4))


def test_codes_with_an_offset_are_refused() -> None:
    with pytest.raises(ValueError, match="expected int8 codes"):
        int8_gemm(codes_of(8, 3, 64).view(torch.uint8), ones(3), codes_of(8, 4, 64), ones(4))


def test_operands_that_are_not_contiguous_are_refused() -> None:
    with pytest.raises(ValueError, match="all of them contiguous"):
        int8_gemm(codes_of(8, 3, 64), ones(1).expand(3, 1), codes_of(8, 4, 64), ones(4))


@pytest.mark.parametrize("packed", [False, True])
def test_a_residual_is_added_before_the_output_is_rounded(packed: bool) -> None:
    codes, weights = codes_of(4, 17, 96), codes_of(4, 70, 96)
    x_scales, w_scales = torch.rand(17, 1, device=DEVICE) + 0.1, torch.rand(70, 1, device=DEVICE) / 50 + 0.01
    bias, residual = torch.randn(70, device=DEVICE), torch.randn(17, 70, device=DEVICE).bfloat16()
    operand = pack_halves(pack_nibbles(weights)) if packed else weights
    gemm = packed_gemm if packed else int8_gemm
    output = gemm(codes, x_scales, operand, w_scales, bias, torch.bfloat16, residual)
    wanted = exact(codes, weights).float() * x_scales * w_scales.T + bias + residual
    torch.testing.assert_close(output, wanted.bfloat16(), rtol=2 * torch.finfo(torch.bfloat16).eps, atol=1e-6)


def test_a_residual_of_another_shape_is_refused() -> None:
    with pytest.raises(ValueError, match=r"residual of shape \(4, 3\)"):
        int8_gemm(codes_of(8, 3, 64), ones(3), codes_of(8, 4, 64), ones(4), residual=torch.ones(4, 3, device=DEVICE))

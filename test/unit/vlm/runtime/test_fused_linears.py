"""A fused linear layer is a norm or an activation function, a linear layer and a sum, one after the other."""

import pytest
import torch
from reference_codes import reference_codes
from torch import Tensor, nn
from torch.nn import functional

from sqap_vla_ros.vlm.kernels.gemm import pack_halves
from sqap_vla_ros.vlm.lowbit.integers import absmax_scales, pack_nibbles, quantise
from sqap_vla_ros.vlm.lowbit.linear import InputFormat
from sqap_vla_ros.vlm.runtime.fused_linears import GELU, NOTHING, SWIGLU, FloatLinear, IntegerLinear, Prologue

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
# Inputs of the language model's and of the towers' linear layers.
WIDTHS = [(4096, 1), (11008, 256), (1024, 1), (1152, 1), (4304, 1), (4304, 16), (40, 8)]


def prologues(channels: int) -> dict[str, Prologue]:
    gain, shift = torch.rand(channels, device=DEVICE) + 0.5, torch.randn(channels, device=DEVICE)
    return {
        "nothing": NOTHING,
        "rms": Prologue(1e-5, gain),
        "rms without gain": Prologue(1e-5),
        "layer norm": Prologue(1e-6, gain, shift),
        "gelu": GELU,
        "swiglu": SWIGLU,
    }


@pytest.mark.parametrize(("channels", "block"), WIDTHS)
@pytest.mark.parametrize("name", prologues(1))
def test_codes_are_those_of_the_same_in_torch(channels: int, block: int, name: str) -> None:
    prologue, form = prologues(channels)[name], InputFormat(8, block, 0.9)
    values = 2 * torch.randn(3, channels * (2 if name == "swiglu" else 1), device=DEVICE) + 1
    layer = IntegerLinear(torch.zeros(1, channels, dtype=torch.int8), torch.ones(1, 1), None, form)
    codes, scales = layer.quantise_input(values, prologue)
    wanted, wanted_scales = reference_codes(values, prologue, form)
    torch.testing.assert_close(scales, wanted_scales, rtol=1e-5, atol=0)
    # Where the last digit of a function differs, a value near a half may round either way.
    assert (codes.int() - wanted.int()).abs().max() <= 1
    assert (codes != wanted).float().mean() < 1e-3


def test_a_layer_norm_of_equal_values_is_its_shift() -> None:
    gain, shift = torch.ones(40, device=DEVICE), torch.arange(40.0, device=DEVICE)
    layer = IntegerLinear(torch.zeros(1, 40, dtype=torch.int8), torch.ones(1, 1), None, InputFormat(8))
    codes, scales = layer.quantise_input(torch.full((1, 40), 5.0, device=DEVICE), Prologue(1e-6, gain, shift))
    torch.testing.assert_close((codes * scales)[0], shift, rtol=0, atol=39 / 127 / 2 + 1e-6)


def integer_linear(bits: int, rows: int, columns: int) -> tuple[IntegerLinear, Tensor]:
    """A layer, and the matrix that its codes stand for."""
    weight = torch.randn(rows, columns, device=DEVICE)
    scales = absmax_scales(weight, bits)
    codes = quantise(weight, scales, bits)
    stored = pack_halves(pack_nibbles(codes)) if bits == 4 else codes
    return IntegerLinear(stored, scales, torch.randn(rows, device=DEVICE), InputFormat(bits)), codes * scales


@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize("name", ["rms", "layer norm", "gelu", "swiglu"])
def test_an_integer_layer_multiplies_what_the_codes_stand_for(bits: int, name: str) -> None:
    layer, matrix = integer_linear(bits, 70, 96)
    prologue = prologues(96)[name]
    values = torch.randn(1, 5, 96 * (2 if name == "swiglu" else 1), device=DEVICE)
    residual = torch.randn(1, 5, 70, device=DEVICE)
    codes, scales = layer.quantise_input(values, prologue)
    wanted = (codes * scales) @ matrix.T + layer.bias + residual[0]
    torch.testing.assert_close(layer(values, prologue, residual)[0], wanted, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("with_bias", [False, True])
def test_a_float_layer_is_the_linear_layers_side_by_side(with_bias: bool) -> None:
    linears = [nn.Linear(24, rows, with_bias) for rows in (8, 16)]
    values, residual = torch.randn(1, 5, 24), torch.randn(1, 5, 24)
    with torch.no_grad():
        wanted = torch.cat([linear(functional.gelu(values)) for linear in linears], dim=-1)
        torch.testing.assert_close(FloatLinear(linears)(values, GELU), wanted)
        torch.testing.assert_close(FloatLinear(linears)(values, GELU, residual), wanted + residual)


def test_a_layer_scale_is_applied_before_the_residual() -> None:
    linear, values, residual, scale = nn.Linear(24, 8), torch.randn(1, 5, 24), torch.randn(1, 5, 8), torch.rand(8)
    with torch.no_grad():
        found = FloatLinear([linear], scale)(values, NOTHING, residual)
        torch.testing.assert_close(found, residual + scale * linear(values))

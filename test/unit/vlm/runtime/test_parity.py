"""Given equal inputs, every fused quantised layer computes the plain one's integers."""

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from sqap_vla_ros.policies.cogact.model import CogACT
from sqap_vla_ros.vlm.kernels.gemm import int8_gemm, packed_gemm
from sqap_vla_ros.vlm.language import EPSILON
from sqap_vla_ros.vlm.lowbit.hadamard import block_size, rotate
from sqap_vla_ros.vlm.lowbit.layer import ATTENTION_OUTPUT, LINEARS, MLP_OUTPUT, NORMS, QuantDecoderLayer
from sqap_vla_ros.vlm.lowbit.linear import InputFormat, QuantLinear, StoredLinear
from sqap_vla_ros.vlm.lowbit.weight import round_to_nearest
from sqap_vla_ros.vlm.runtime.fuse import fuse
from sqap_vla_ros.vlm.runtime.fused_blocks import FusedDecoderLayer
from sqap_vla_ros.vlm.runtime.fused_linears import NOTHING, SWIGLU, IntegerLinear, Prologue

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")


def quantised_layer(model: CogACT, bits: int) -> QuantDecoderLayer:
    """A random layer of the model's shape, online rotations where the recipe w4a4 has them."""
    shape, linears = model.language.shape, {}
    for name in LINEARS:
        rows = shape.width if name in (MLP_OUTPUT, ATTENTION_OUTPUT) else shape.heads * shape.head_width
        rows = shape.hidden if name in ("mlp.gate_proj", "mlp.up_proj") else rows
        columns = shape.hidden if name == MLP_OUTPUT else shape.width
        block = block_size(columns, 4096) if name in (MLP_OUTPUT, ATTENTION_OUTPUT) else 1
        weight = round_to_nearest(torch.randn(rows, columns) / columns**0.5, bits)
        linears[name] = StoredLinear(weight, InputFormat(bits, block, 0.8))
    gains = dict.fromkeys(NORMS, torch.rand(shape.width) + 0.5)
    return QuantDecoderLayer(linears, gains, backend="triton", device=DEVICE).eval()


@pytest.fixture(params=[4, 8])
def layers(random_model: CogACT, request: pytest.FixtureRequest) -> list[tuple[QuantDecoderLayer, FusedDecoderLayer]]:
    """The layers of a model, plain and fused."""
    torch.manual_seed(request.param)
    model = random_model.to(DEVICE)
    shape = model.language.shape
    assert shape.heads == shape.kv_heads
    plain = [quantised_layer(model, request.param) for _ in model.language.layers]
    model.language.layers = nn.ModuleList(plain)
    fuse(model.language, model.vision)
    pairs = []
    for layer, fused in zip(plain, model.language.layers, strict=True):
        assert isinstance(fused, FusedDecoderLayer)
        pairs.append((layer, fused))
    return pairs


def normed(values: Tensor, gain: Tensor | None) -> Tensor:
    return functional.rms_norm(values, values.shape[-1:], gain, EPSILON)


def plain_and_fused_inputs(
    layer: QuantDecoderLayer, fused: FusedDecoderLayer
) -> list[tuple[QuantLinear, IntegerLinear, Tensor, Tensor, Prologue]]:
    """Of each product: both linear layers, what the plain one gets, and what the fused one gets and does with it."""
    hidden = torch.randn(9, fused.rows[0], device=DEVICE)
    gated = torch.randn(9, 2 * layer.mlp_output.parts[0].columns, device=DEVICE)
    inputs = [
        (normed(hidden, layer.input_layernorm), hidden, fused.norms[0]),
        (hidden, hidden, NOTHING),
        (normed(hidden, layer.post_attention_layernorm), hidden, fused.norms[1]),
        (SWIGLU(gated.clone()), gated, SWIGLU),
    ]
    names = ("attention_input", "attention_output", "mlp_input", "mlp_output")
    return [
        (getattr(layer, name).parts[0], getattr(fused, name), *values)
        for name, values in zip(names, inputs, strict=True)
    ]


def test_codes_and_sums_are_the_plain_layers(layers: list[tuple[QuantDecoderLayer, FusedDecoderLayer]]) -> None:
    for layer, fused in layers:
        for linear, integer, prepared, values, prologue in plain_and_fused_inputs(layer, fused):
            wanted, _ = linear.quantise_input(rotate(prepared, linear.input_format.block))
            codes, scales = integer.quantise_input(values, prologue)
            assert torch.equal(codes, wanted)
            gemm = packed_gemm if integer.weights.dtype == torch.uint8 else int8_gemm
            sums = gemm(codes, scales, integer.weights, integer.scales, None, torch.int32)
            assert torch.equal(sums, linear.product.accumulate(wanted))


def test_a_layers_answer_is_the_plain_layers(layers: list[tuple[QuantDecoderLayer, FusedDecoderLayer]]) -> None:
    for layer, fused in layers:
        hidden = torch.randn(1, 9, fused.rows[0], device=DEVICE)
        for found, wanted in zip(fused.project(hidden), layer.project(hidden), strict=True):
            torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-5)
        mixed = torch.randn_like(hidden)
        torch.testing.assert_close(
            fused.add_attention(hidden, mixed), layer.add_attention(hidden, mixed), rtol=1e-4, atol=1e-5
        )

"""The action head's linear layer in one launch, against norm, linear layer, activation and sum in torch."""

import pytest
import torch
from torch.nn.functional import gelu, layer_norm, linear

from sqap_vla_ros.policies.cogact.published import HEADS
from sqap_vla_ros.vlm.kernels.few_rows import few_rows_linear

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
# Widths of the three action heads, ragged ones, and more tokens than a program takes.
SHAPES = [(34, 64, 384), (34, 70, 768), (34, 48, 1024), (34, 32, 3072), (1, 5, 40), (70, 20, 96)]
# Triton's interpreter multiplies bfloat16 numbers by their bits, as integers.
DTYPES = [torch.float16]
if DEVICE.type == "cuda":
    DTYPES += [torch.bfloat16]
    SHAPES += [(34, rows * head.width, head.width) for head in HEADS.values() for rows in (1, 3, 4)]
    SHAPES += [(34, head.width, head.hidden) for head in HEADS.values()]

pytestmark = [
    pytest.mark.usefixtures("poisoned_memory"),
    pytest.mark.filterwarnings("ignore:overflow encountered in exp:RuntimeWarning"),  # numpy's, of the interpreter
]


@pytest.mark.slow
@pytest.mark.parametrize(("tokens", "outputs", "channels"), SHAPES)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("epsilon", [None, 1e-6])
@pytest.mark.parametrize("ending", ["", "gelu", "residual"])
def test_it_is_the_same_in_torch(
    tokens: int, outputs: int, channels: int, dtype: torch.dtype, epsilon: float | None, ending: str
) -> None:
    values = (3 * torch.randn(tokens, channels, device=DEVICE) + 1).to(dtype)
    weight = (torch.randn(outputs, channels, device=DEVICE) / channels**0.5).to(dtype)
    bias, added = torch.randn(outputs, device=DEVICE).to(dtype), torch.randn(tokens, outputs, device=DEVICE).to(dtype)
    residual = added if ending == "residual" else None
    found = few_rows_linear(values, weight, bias, epsilon=epsilon, gelu=ending == "gelu", residual=residual)
    normed = values.float() if epsilon is None else layer_norm(values.float(), (channels,), eps=epsilon)
    wanted = linear(normed, weight.float(), bias.float())
    wanted = gelu(wanted, approximate="tanh") if ending == "gelu" else wanted
    wanted = wanted if residual is None else wanted + residual.float()
    assert found.dtype == dtype
    assert (found.float() - wanted).norm() <= 1e-2 * wanted.norm()


def test_large_values_pass_through_gelu() -> None:
    values = torch.tensor([[200.0, 0.0], [-200.0, 0.0]], device=DEVICE).half()
    weight, bias = torch.eye(2, device=DEVICE).half(), torch.zeros(2, device=DEVICE).half()
    assert few_rows_linear(values, weight, bias, gelu=True).tolist() == [[200.0, 0.0], [0.0, 0.0]]


def test_repeated_runs_are_identical() -> None:
    values, weight = (torch.randn(34, 768, device=DEVICE).half() for _ in range(2))
    bias = torch.zeros(34, device=DEVICE).half()
    first = few_rows_linear(values, weight, bias, epsilon=1e-6)
    assert torch.equal(few_rows_linear(values, weight, bias, epsilon=1e-6), first)


def test_a_bias_of_another_length_is_refused() -> None:
    with pytest.raises(ValueError, match=r"bias \(3,\)"):
        few_rows_linear(torch.ones(2, 16).half(), torch.ones(4, 16).half(), torch.ones(3).half())


def test_a_residual_of_another_shape_is_refused() -> None:
    values, weight, bias = torch.ones(2, 16).half(), torch.ones(4, 16).half(), torch.ones(4).half()
    with pytest.raises(ValueError, match=r"residual of shape \(4, 2\)"):
        few_rows_linear(values, weight, bias, residual=torch.ones(4, 2).half())

"""The choice of visual tokens in kernels: attention as in torch, and for its scores the tokens that numpy chooses."""

import numpy as np
import pytest
import torch
from torch import Tensor

from sqap_vla_ros.vlm.attention import attention_rows
from sqap_vla_ros.vlm.kernels.selection import choose_tokens, row_attention
from sqap_vla_ros.vlm.pruning.on_device import select_on_device
from sqap_vla_ros.vlm.pruning.sqap import select_tokens

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
# The interpreter takes up to two seconds per choice; a GPU's thousands take none.
CASES = 4000 if DEVICE.type == "cuda" else 4

pytestmark = pytest.mark.usefixtures("poisoned_memory")


def queries_and_keys(
    heads: int, kv_heads: int, positions: int, width: int, dtype: torch.dtype
) -> tuple[Tensor, Tensor]:
    # As the rotation leaves them, and keys as a slice of something larger.
    queries = torch.randn(2, heads, positions, width, device=DEVICE).to(dtype)
    keys = torch.randn(2, positions, kv_heads, 2 * width, device=DEVICE).to(dtype)[..., :width].transpose(1, 2)
    return queries, keys


@pytest.mark.slow
@pytest.mark.parametrize(
    ("heads", "kv_heads", "positions", "width"), [(32, 32, 280, 128), (4, 2, 264, 32), (4, 4, 257, 16)]
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_one_rows_attention_is_torchs(
    heads: int, kv_heads: int, positions: int, width: int, dtype: torch.dtype
) -> None:
    queries, keys = queries_and_keys(heads, kv_heads, positions, width, dtype)
    last = torch.tensor([positions - 1, 256], device=DEVICE)
    found = row_attention(queries, keys, last, 256)
    for sample in range(2):
        asking = last[sample : sample + 1]
        wanted = attention_rows(queries[sample].index_select(1, asking), keys[sample], asking)[0, 1:257]
        torch.testing.assert_close(found[sample].mean(0), wanted, rtol=1e-4, atol=1e-7)


def attention_of(kind: str, heads: int) -> Tensor:
    if kind == "ties":
        return torch.randint(0, 4, (CASES, heads, 256), device=DEVICE).float()
    return torch.rand(CASES, heads, 256, device=DEVICE)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["random", "ties"])
@pytest.mark.parametrize(("keep", "top_k", "radius"), [(154, 31, 2), (60, 0, 3)])
def test_choices_for_the_same_scores_equal_numpys(kind: str, keep: int, top_k: int, radius: int) -> None:
    centres = torch.randint(0, 16, (CASES, 2), dtype=torch.int32, device=DEVICE)
    valid = torch.rand(CASES, device=DEVICE) < 0.7
    settings = {"keep": keep, "top_k": top_k, "radius": radius}
    attention = attention_of(kind, 4)
    scores, indices, reasons = choose_tokens(attention, centres, valid, **settings)
    torch.testing.assert_close(scores, attention.mean(1))
    row, column = np.divmod(np.arange(256), 16)
    for case in range(CASES):
        away = np.maximum(abs(column - centres[case, 0].item()), abs(row - centres[case, 1].item()))
        ring = np.flatnonzero((away <= radius) & valid[case].item())
        wanted = select_tokens(scores[case].cpu().numpy(), ring, keep, top_k)
        np.testing.assert_array_equal(indices[case].cpu(), wanted.indices)
        np.testing.assert_array_equal(reasons[case].cpu(), wanted.reasons)


def test_scores_that_are_no_numbers_choose_as_in_torch() -> None:
    attention = torch.rand(2, 1, 256, device=DEVICE)
    attention[:, :, ::3] = torch.nan
    centre = torch.tensor([[0, 0], [15, 3]], dtype=torch.int32, device=DEVICE)
    valid = torch.tensor([True, False], device=DEVICE)
    settings = {"keep": 154, "top_k": 31, "radius": 2}
    _, indices, reasons = choose_tokens(attention, centre, valid, **settings)
    wanted, wanted_reasons = select_on_device(attention[:, 0], centre, valid, **settings)
    assert torch.equal(indices, wanted)
    assert torch.equal(reasons, wanted_reasons)


def test_repeated_runs_are_identical() -> None:
    queries, keys = queries_and_keys(4, 4, 280, 32, torch.bfloat16)
    last = torch.tensor([279, 270], device=DEVICE)
    first = row_attention(queries, keys, last, 256)
    assert torch.equal(row_attention(queries, keys, last, 256), first)


def test_a_grid_that_is_no_power_of_two_is_refused() -> None:
    centre, valid = torch.zeros(1, 2, dtype=torch.int32), torch.zeros(1, dtype=torch.bool)
    with pytest.raises(ValueError, match="a power of two of patches"):
        choose_tokens(torch.rand(1, 4, 225), centre, valid, keep=9, top_k=3, radius=1, rows=15, columns=15)


def test_heads_of_an_odd_width_are_refused() -> None:
    queries, keys = queries_and_keys(2, 2, 260, 24, torch.float32)
    with pytest.raises(ValueError, match="heads of 24 channels"):
        row_attention(queries, keys, torch.tensor([1, 1]), 256)

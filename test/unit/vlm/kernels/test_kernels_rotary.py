"""Rotary positions in one kernel, against the same in torch."""

import pytest
import torch

from sqap_vla_ros.vlm import attention
from sqap_vla_ros.vlm.attention import rotary_tables
from sqap_vla_ros.vlm.kernels.rotary import rotate_heads

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")

pytestmark = pytest.mark.usefixtures("poisoned_memory")


@pytest.mark.parametrize(("heads", "kv_heads", "width"), [(32, 32, 128), (8, 2, 64), (3, 3, 24)])
@pytest.mark.parametrize("tables", [1, 2])
def test_queries_and_keys_of_a_fused_projection_are_turned_as_in_torch(
    heads: int, kv_heads: int, width: int, tables: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    fused = torch.randn(2, 5, (heads + 2 * kv_heads) * width, device=DEVICE)
    rows = (heads * width, kv_heads * width, kv_heads * width)
    queries, keys, _ = (part.view(2, 5, -1, width).transpose(1, 2) for part in fused.split(rows, dim=-1))
    positions = torch.tensor([[0, 1, 7, 100, 279], [0, 2, 8, 200, 280]], device=DEVICE)[:tables]
    rotations = rotary_tables(positions, width, torch.float32)
    found = rotate_heads(queries, keys, *rotations)
    monkeypatch.setattr(attention, "kernels_run_on", lambda device: False)
    for one, wanted in zip(found, attention.rotate_heads(queries, keys, rotations), strict=True):
        torch.testing.assert_close(one, wanted, rtol=1e-6, atol=1e-6)


def test_half_precision_is_turned_in_float32() -> None:
    queries = torch.randn(1, 4, 3, 32, device=DEVICE).bfloat16()
    cos, sin = rotary_tables(torch.tensor([[0, 5, 9]], device=DEVICE), 32, torch.bfloat16)
    found, _ = rotate_heads(queries, queries, cos, sin)
    wanted, _ = rotate_heads(queries.float(), queries.float(), cos, sin)
    torch.testing.assert_close(found.float(), wanted, rtol=torch.finfo(torch.bfloat16).eps, atol=0)


def test_channels_that_are_apart_are_refused() -> None:
    queries = torch.randn(1, 4, 32, 3, device=DEVICE).transpose(2, 3)
    cos, sin = rotary_tables(torch.tensor([[0, 5, 9]], device=DEVICE), 32, torch.float32)
    with pytest.raises(ValueError, match="channels next to each other"):
        rotate_heads(queries, queries, cos, sin)

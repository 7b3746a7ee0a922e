"""SQAP-VLA's choice of visual tokens on the device of the scores: `sqap.select_tokens` without a way back to the host.

Every shape is static and nothing waits for the device, so that a CUDA graph can contain it. There are two backends,
torch and Triton (`kernels.selection`); for the same scores both choose what `sqap.select_tokens` does, ties included.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from sqap_vla_ros.config.pruning import SqapConfig
from sqap_vla_ros.core.token_selection import Reason
from sqap_vla_ros.vlm.attention import attention_rows
from sqap_vla_ros.vlm.kernels import kernels_run_on

# Larger than any squared distance on a grid.
_FAR = 1 << 20


class DeviceSelection(NamedTuple):
    """The choice for a batch.

    Attributes:
        scores: float32 (batch, visual), attention that the choice was made from.
        indices: int64 (batch, keep), the tokens that stay, ascending.
        reasons: uint8 (batch, visual), a `Reason` per token.
    """

    scores: Tensor
    indices: Tensor
    reasons: Tensor


class DeviceRing(NamedTuple):
    """Where the ring is.

    Attributes:
        centre: int32 (batch, 2), column and row of the patch with the tool.
        valid: bool (batch,), whether there is a ring.
    """

    centre: Tensor
    valid: Tensor


SelectOnDevice = Callable[[SqapConfig, Tensor, Tensor, Tensor, DeviceRing, int], DeviceSelection]
"""A selector on the device; arguments as in `select_sqap_on_device`."""


def select_sqap_on_device(
    config: SqapConfig, queries: Tensor, keys: Tensor, last: Tensor, ring: DeviceRing, grid: int
) -> DeviceSelection:
    """Choose the visual tokens of one sample from its attention.

    Args:
        config: Settings of the method.
        queries: (1, heads, positions, head width), rotated.
        keys: (1, key-value heads, positions, head width), rotated.
        last: int64 (1,), the last position, whose attention counts.
        ring: Where the ring is.
        grid: Patches along each side of the model image.
    """
    settings = {
        "keep": config.keep,
        "top_k": config.top_k,
        "radius": config.ring_radius,
        "rows": grid,
        "columns": grid,
    }
    visual = grid**2
    if kernels_run_on(queries.device):
        from sqap_vla_ros.vlm.kernels.selection import choose_tokens, row_attention

        return DeviceSelection(
            *choose_tokens(row_attention(queries, keys, last, visual), ring.centre, ring.valid, **settings)
        )
    attention = attention_rows(queries[0].index_select(1, last), keys[0], last)
    scores = attention[:, 1 : 1 + visual]
    return DeviceSelection(scores, *select_on_device(scores, ring.centre, ring.valid, **settings))


def select_on_device(
    scores: Tensor,
    ring_centre: Tensor,
    ring_valid: Tensor,
    *,
    keep: int,
    top_k: int,
    radius: int,
    rows: int = 16,
    columns: int = 16,
) -> tuple[Tensor, Tensor]:
    """Choose exactly `keep` tokens of each sample.

    Args:
        scores: float32 (batch, rows * columns), attention of the last position. A score that is NaN is never chosen by
            attention, and the caller rejects the plan.
        ring_centre: int32 (batch, 2), column and row of the patch with the tool.
        ring_valid: bool (batch,), whether there is a ring.
        keep: Number of tokens that stay; at least `top_k` plus the tokens of a whole ring.
        top_k: Number of tokens chosen by score.
        radius: Radius of the ring, patches in the maximum norm.
        rows: Rows of the patch grid.
        columns: Columns of the patch grid.

    Returns:
        int64 (batch, keep), ascending indices, and a `Reason` per token, uint8 (batch, rows * columns).
    """
    batch, count = scores.shape
    token = torch.arange(count, device=scores.device, dtype=torch.int32)
    row, column = token // columns, token % columns
    distances = (row[:, None] - row) ** 2 + (column[:, None] - column) ** 2

    ranked = torch.argsort(scores.nan_to_num(nan=-torch.inf), dim=1, descending=True, stable=True)
    by_attention = torch.zeros(batch, count, dtype=torch.bool, device=scores.device)
    by_attention.scatter_(1, ranked[:, :top_k], True)
    from_column, from_row = (ring_centre[:, axis, None] for axis in (0, 1))
    in_ring = torch.maximum((column - from_column).abs(), (row - from_row).abs()) <= radius
    in_ring &= ring_valid[:, None]
    kept = by_attention | in_ring

    # Where nothing is kept yet, the distances fall off from the centre: the first pick is the patch nearest to it.
    from_centre = (2 * row - (rows - 1)) ** 2 + (2 * column - (columns - 1)) ** 2
    nearest = torch.where(kept[:, :, None], distances, _FAR - from_centre).amin(1)
    spatial = torch.zeros_like(kept)
    for _ in range(keep - top_k):
        wanted = (kept | spatial).sum(1, keepdim=True) < keep
        picked = nearest.argmax(1, keepdim=True)
        spatial |= (token == picked) & wanted
        nearest = torch.minimum(nearest, distances[picked[:, 0]])
    reasons = by_attention * Reason.ATTENTION.value + in_ring * Reason.RING.value + spatial * Reason.SPATIAL.value
    chosen = (kept | spatial).to(torch.uint8)
    indices = torch.argsort(chosen, dim=1, descending=True, stable=True)[:, :keep]
    return indices, reasons.to(torch.uint8)

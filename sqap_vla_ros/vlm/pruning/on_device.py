"""SQAP-VLA's choice of visual tokens where the scores are: `sqap.select_tokens` without a way back to the host.

Every shape is fixed and nothing waits for the device, so that a CUDA graph can contain it. For the same scores the
choice is that of `sqap.select_tokens`, ties included.
"""

import torch
from torch import Tensor

from sqap_vla_ros.core.token_selection import Reason

# Larger than any squared distance on a grid.
_FAR = 1 << 20


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
        scores: float32 (batch, rows * columns), attention of the task query; what is not a number is never chosen by
            it, and the caller refuses the plan for it.
        ring_centre: int32 (batch, 2), column and row of the patch with the tool.
        ring_valid: bool (batch,), whether there is a ring.
        keep: Tokens that stay; at least `top_k` and the tokens of a whole ring.
        top_k: Tokens chosen by score.
        radius: Of the ring, patches in the maximum norm.
        rows: Of the patch grid.
        columns: Of the patch grid.

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

    # Where nothing is kept yet the field falls off from the centre, so that the first pick is the patch nearest to it.
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

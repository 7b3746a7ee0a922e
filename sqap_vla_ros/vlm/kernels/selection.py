"""SQAP-VLA's choice of visual tokens on a GPU, in two launches: one row of attention, and the choice from it.

The attention needs memory bandwidth, so it has a program per head. The choice is a chain of a few hundred maxima over
256 tokens, which one warp holds in registers, so that neither barriers nor memory separate them.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

from sqap_vla_ros.vlm.kernels.launch import launch

# Above any squared distance on the grid; see `pruning.on_device`.
_FAR = tl.constexpr(1 << 20)
_CHANNELS = 16  # of all keys that a program holds at a time


def row_attention(queries: Tensor, keys: Tensor, last: Tensor, visual_tokens: int) -> Tensor:
    """Attention probabilities of one position to the visual tokens, per head.

    Args:
        queries: (batch, heads, positions, head width), rotated.
        keys: (batch, key-value heads, positions, head width), rotated.
        last: int64 (batch,), the position of the query; it sees the keys up to its own.
        visual_tokens: Number of visual tokens behind the first position.

    Returns:
        float32 (batch, heads, visual).

    Raises:
        ValueError: The head width is not a multiple of 16, or channels are not adjacent.
    """
    batch, heads, positions, head_width = queries.shape
    if head_width % _CHANNELS or queries.stride(3) != 1 or keys.stride(3) != 1:
        raise ValueError(
            f"heads of {head_width} channels with strides {queries.stride(3)} and {keys.stride(3)}: "
            f"expected a multiple of {_CHANNELS}, next to each other"
        )
    out = torch.empty(batch, heads, visual_tokens, dtype=torch.float32, device=queries.device)
    launch(
        row_attention_kernel,
        (batch, heads),
        queries,
        keys,
        last,
        out,
        positions,
        visual_tokens,
        *queries.stride()[:3],
        *keys.stride()[:3],
        head_width**-0.5,
        group=heads // keys.shape[1],
        head_width=head_width,
        block=triton.next_power_of_2(positions),
        step=_CHANNELS,
        num_warps=8,
    )
    return out


@triton.jit(do_not_specialize=["positions"])
def row_attention_kernel(
    queries: tl.tensor,
    keys: tl.tensor,
    last: tl.tensor,
    out: tl.tensor,
    positions: tl.tensor,
    visual: tl.tensor,
    query_sample: tl.tensor,
    query_head: tl.tensor,
    query_position: tl.tensor,
    key_sample: tl.tensor,
    key_head: tl.tensor,
    key_position: tl.tensor,
    factor: tl.tensor,
    group: tl.constexpr,
    head_width: tl.constexpr,
    block: tl.constexpr,
    step: tl.constexpr,
) -> None:
    sample, head = tl.program_id(0), tl.program_id(1)
    asking = tl.load(last + sample)
    query = queries + sample * query_sample + head * query_head + asking * query_position
    key = keys + sample * key_sample + head // group * key_head
    position = tl.arange(0, block)
    # Rows beyond the edge repeat the first ones; their logits are not used.
    rows = key + (position % positions)[:, None] * key_position
    logits = tl.zeros((block,), dtype=tl.float32)
    for start in tl.static_range(0, head_width, step):
        channel = start + tl.arange(0, step)
        part = tl.load(rows + channel[None, :]).to(tl.float32) * tl.load(query + channel).to(tl.float32)[None, :]
        logits += tl.sum(part, axis=1)
    logits = tl.where((position <= asking) & (position < positions), logits * factor, -float("inf"))
    weights = tl.exp(logits - tl.max(logits, axis=0))
    weights /= tl.sum(weights, axis=0)
    here = (position >= 1) & (position <= visual)
    tl.store(out + (sample * tl.num_programs(1) + head) * visual + position - 1, weights, mask=here)


def choose_tokens(
    attention: Tensor,
    ring_centre: Tensor,
    ring_valid: Tensor,
    *,
    keep: int,
    top_k: int,
    radius: int,
    rows: int = 16,
    columns: int = 16,
) -> tuple[Tensor, Tensor, Tensor]:
    """Mean over heads, top-k, ring and farthest-point sampling; arguments as `pruning.on_device.select_on_device`.

    Args:
        attention: float32 (batch, heads, rows * columns), contiguous.
        ring_centre: int32 (batch, 2).
        ring_valid: bool (batch,).
        keep: Number of tokens that stay.
        top_k: Number of tokens chosen by score.
        radius: Radius of the ring.
        rows: Rows of the patch grid; rows times columns is a power of two.
        columns: Columns of the patch grid.

    Returns:
        The scores float32 (batch, rows * columns), and the two results of `select_on_device` for them.
    """
    batch, heads, count = attention.shape
    if count != rows * columns or count & (count - 1) or not attention.is_contiguous():
        raise ValueError(
            f"attention of shape {tuple(attention.shape)} for {rows} x {columns} patches: expected contiguous "
            "probabilities, one per patch, and a power of two of patches"
        )
    device = attention.device
    scores = torch.empty(batch, count, dtype=torch.float32, device=device)
    indices = torch.empty(batch, keep, dtype=torch.int64, device=device)
    reasons = torch.empty(batch, count, dtype=torch.uint8, device=device)
    launch(
        choose_tokens_kernel,
        (batch,),
        attention,
        ring_centre,
        ring_valid,
        scores,
        indices,
        reasons,
        heads=heads,
        keep=keep,
        top_k=top_k,
        radius=radius,
        rows=rows,
        columns=columns,
        count=count,
        num_warps=1,
    )
    return scores, indices, reasons


@triton.jit
def choose_tokens_kernel(
    attention: tl.tensor,
    ring_centre: tl.tensor,
    ring_valid: tl.tensor,
    scores: tl.tensor,
    indices: tl.tensor,
    reasons: tl.tensor,
    heads: tl.constexpr,
    keep: tl.constexpr,
    top_k: tl.constexpr,
    radius: tl.constexpr,
    rows: tl.constexpr,
    columns: tl.constexpr,
    count: tl.constexpr,
) -> None:
    sample = tl.program_id(0)
    token = tl.arange(0, count)
    row, column = token // columns, token % columns
    score = tl.zeros((count,), dtype=tl.float32)
    for head in tl.static_range(heads):
        score += tl.load(attention + (sample * heads + head) * count + token)
    score /= heads
    tl.store(scores + sample * count + token, score)

    # Where nothing is kept yet, the distances fall off from the centre: the first pick is the patch nearest to it.
    to_row, to_column = 2 * row - (rows - 1), 2 * column - (columns - 1)
    nearest = _FAR - (to_row * to_row + to_column * to_column)
    left = tl.where(score == score, score, -float("inf"))
    reason = tl.zeros((count,), dtype=tl.int32)
    for _ in range(top_k):
        picked = tl.argmax(left, axis=0, tie_break_left=True)
        reason = tl.where(token == picked, 1, reason)
        left = tl.where(token == picked, -float("inf"), left)
        nearest = tl.minimum(nearest, _squared_distance(row, column, picked, columns))

    centre_column = tl.load(ring_centre + 2 * sample)
    centre_row = tl.load(ring_centre + 2 * sample + 1)
    valid = tl.load(ring_valid + sample) != 0
    in_ring = (tl.maximum(tl.abs(row - centre_row), tl.abs(column - centre_column)) <= radius) & valid
    reason += tl.where(in_ring, 2, 0)
    # The distance to the ring is that to a rectangle, cut off at the image's edge.
    away_row = _outside(row, tl.maximum(centre_row - radius, 0), tl.minimum(centre_row + radius, rows - 1))
    away_column = _outside(
        column, tl.maximum(centre_column - radius, 0), tl.minimum(centre_column + radius, columns - 1)
    )
    to_ring = away_row * away_row + away_column * away_column
    nearest = tl.where(valid, tl.minimum(nearest, to_ring), nearest)

    for _ in range(keep - tl.sum((reason != 0).to(tl.int32), axis=0)):
        picked = tl.argmax(nearest, axis=0, tie_break_left=True)
        reason = tl.where(token == picked, 4, reason)
        nearest = tl.minimum(nearest, _squared_distance(row, column, picked, columns))

    tl.store(reasons + sample * count + token, reason.to(tl.uint8))
    chosen = reason != 0
    place = tl.cumsum(chosen.to(tl.int32), axis=0) - 1
    tl.store(indices + sample * keep + place, token.to(tl.int64), mask=chosen & (place < keep))


@triton.jit
def _squared_distance(row: tl.tensor, column: tl.tensor, picked: tl.tensor, columns: tl.constexpr) -> tl.tensor:
    down, across = row - picked // columns, column - picked % columns
    return down * down + across * across


@triton.jit
def _outside(line: tl.tensor, first: tl.tensor, last: tl.tensor) -> tl.tensor:
    """How far a line lies outside a range of lines; 0 within."""
    return tl.maximum(tl.maximum(first - line, line - last), 0)

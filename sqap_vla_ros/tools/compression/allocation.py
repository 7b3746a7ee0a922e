"""Bits per output channel from what rounding it costs: QVLA's greedy allocation.

All channels start at 16 bits; the channel with the least cost per bit saved is lowered, to whichever of its lower
widths makes that least, until the mean is reached. The widths that a channel passes are then the corners of its cost
curve's lower convex hull, and what they cost per bit never falls from one to the next: all steps of all channels in one
sorted list are the greedy's sequence. By Everett's theorem (Operations Research 11, 1963) no other allocation of as few
bits costs less.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

WIDTHS = (16, 8, 4, 2, 0)


class AllocationError(ValueError):
    """Costs by which bits cannot be allocated; the message says why, and what to do."""


@dataclass(frozen=True)
class ChannelCosts:
    """The cost of rounding each output channel of one linear layer.

    Attributes:
        costs: float32 (rows, 5), of each row at each of `WIDTHS`: mean squared change of the action chunk.
        columns: Weights of a row.
    """

    costs: Tensor
    columns: int


def allocate_layers(
    layers: Mapping[str, ChannelCosts], target_bits: float, *, as_released: bool = False
) -> dict[str, Tensor]:
    """Allocate the bits of each output channel, uint8 (rows,) by linear layer.

    Args:
        layers: Costs by linear layer.
        target_bits: See `allocate`.
        as_released: Whether by `allocate_as_released`.
    """
    rows = [len(layer.costs) for layer in layers.values()]
    costs = torch.cat([layer.costs for layer in layers.values()]).double().numpy(force=True)
    weights = np.repeat([layer.columns for layer in layers.values()], rows)
    chosen = allocate_as_released(costs, target_bits) if as_released else allocate(costs, weights, target_bits)
    bits = torch.from_numpy(chosen)
    return dict(zip(layers, bits.split(rows), strict=True))


def allocate(costs: NDArray[np.float64], weights: NDArray[np.int64], target_bits: float) -> NDArray[np.uint8]:
    """Allocate the bits of each channel.

    Args:
        costs: (channels, 5), at each of `WIDTHS`. A cost below that of a larger width counts as much as that.
        weights: (channels,), number of weights in a channel.
        target_bits: Largest mean of bits per weight. The mean falls below it by at most what the last step saves.

    Returns:
        uint8 (channels,), each one of `WIDTHS`.

    Raises:
        AllocationError: A cost is NaN or infinite.
    """
    _check_finite(costs)
    corners, prices, saved = _hull_steps(np.maximum.accumulate(costs, axis=1), weights)
    excess = (WIDTHS[0] - target_bits) * weights.sum()
    # By corner, then by channel: where prices tie, a channel's steps stay in order.
    order = np.argsort(prices.T, axis=None, kind="stable")
    order = order[: np.count_nonzero(prices < np.inf)]
    progress = np.cumsum(saved.T.ravel()[order])
    taken = np.zeros(prices.size, dtype=bool)
    taken[order[: np.searchsorted(progress, excess) + 1 if excess > 0 else 0]] = True
    bits = np.full(len(costs), WIDTHS[0], dtype=np.uint8)
    for step, channels in enumerate(taken.reshape(len(WIDTHS) - 1, -1)):
        bits[channels] = np.array(WIDTHS, dtype=np.uint8)[corners[channels, step]]
    return bits


def _check_finite(costs: NDArray[np.float64]) -> None:
    if not np.isfinite(costs).all():
        count = int((~np.isfinite(costs).all(axis=1)).sum())
        raise AllocationError(
            f"the action sensitivity of {count} channels is NaN or infinite; look at the weights and the calibration "
            "frames, or use a recipe without mixed precision"
        )


def allocate_as_released(costs: NDArray[np.float64], target_bits: float) -> NDArray[np.uint8]:
    """Allocate the bits of each channel as the code does that QVLA's authors published.

    A step goes to the next lower width, and its price is the whole cost at that width per bit saved; one that becomes
    possible is taken at once if it is the cheapest. Every channel counts alike, whatever its length.

    Args:
        costs: (channels, 5), at each of `WIDTHS`.
        target_bits: Largest mean of bits per channel.

    Returns:
        uint8 (channels,), each one of `WIDTHS`.

    Raises:
        AllocationError: A cost is NaN or infinite.
    """
    _check_finite(costs)
    saved = -np.diff(np.array(WIDTHS))
    # A step is possible after those before it, so it is taken no earlier than the dearest of them.
    prices = np.maximum.accumulate(costs[:, 1:] / saved, axis=1)
    order = np.argsort(prices.T, axis=None, kind="stable")
    progress = np.cumsum(np.repeat(saved, len(costs))[order])
    excess = (WIDTHS[0] - target_bits) * len(costs)
    taken = np.zeros(prices.size, dtype=bool)
    taken[order[: np.searchsorted(progress, excess) + 1 if excess > 0 else 0]] = True
    steps = taken.reshape(len(saved), -1).sum(axis=0)
    return np.array(WIDTHS, dtype=np.uint8)[steps]


def _hull_steps(
    costs: NDArray[np.float64], weights: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.int64]]:
    """Compute the steps from corner to corner of each channel's hull, (channels, 4) each, in order.

    Returns:
        Which width a step ends at; its cost per bit saved, infinite where there is no further step; and the bits that
        it saves over all weights of the channel.
    """
    channels = np.arange(len(costs))
    widths = np.array(WIDTHS)
    at = np.zeros(len(costs), dtype=np.int64)
    corners, prices, saved = [], [], []
    price = np.zeros(len(costs))
    for _ in WIDTHS[1:]:
        lower = widths[at][:, None] - widths
        with np.errstate(divide="ignore", invalid="ignore"):
            slopes = (costs - costs[channels, at][:, None]) / (lower * weights[:, None])
        slopes[lower <= 0] = np.inf
        # Of equal slopes the furthest, because their corners are on one line.
        to = len(WIDTHS) - 1 - np.argmin(slopes[:, ::-1], axis=1)
        # Rounding may let equal prices fall.
        price = np.maximum(price, slopes[channels, to])
        corners.append(to)
        prices.append(price)
        saved.append(lower[channels, to] * weights)
        at = to
    return np.stack(corners, 1), np.stack(prices, 1), np.stack(saved, 1)

"""Statistics of the training data, by which actions and the robot's state are normalised.

OpenVLA-OFT normalises by quantiles or by extremes, which its directory does not say; CogACT and OpenVLA always by
quantiles (`vlm.statistics`).
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from sqap_vla_ros.core.types import Array
from sqap_vla_ros.vlm.statistics import STATISTICS_FILE
from sqap_vla_ros.vlm.weights import CheckpointError

Normalisation = Literal["bounds", "bounds_q99"]
# What keeps the span of a constant from being zero.
GUARD = 1e-8

_NAMES: Mapping[str, tuple[str, str]] = {"bounds": ("min", "max"), "bounds_q99": ("q01", "q99")}


@dataclass(frozen=True)
class Bounds:
    """What is mapped to ±1.

    Attributes:
        low: float64 (n,), maps to −1.
        high: float64 (n,), maps to 1.
        mask: bool (n,), which numbers are normalised; the others stay as they are.
    """

    low: Array
    high: Array
    mask: NDArray[np.bool_]


@dataclass(frozen=True)
class DatasetStatistics:
    """Statistics of one data set.

    Attributes:
        key: Name of the data set.
        place: File and key, for messages.
        content: The statistics as they are in the file.
    """

    key: str
    place: str
    content: Mapping[str, Any]

    def bounds(self, quantity: Literal["action", "proprio"], normalisation: Normalisation) -> Bounds:
        """The bounds of a quantity.

        Raises:
            CheckpointError: The file has none, or they are not finite numbers of one length.
        """
        low_name, high_name = _NAMES[normalisation]
        where = f"{self.place}: {quantity}"
        try:
            entry = self.content[quantity]
            low, high = (np.array(entry[name], dtype=np.float64) for name in (low_name, high_name))
            mask = np.array(entry.get("mask", np.ones(low.shape)), dtype=bool)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise CheckpointError(
                f"{where}: expected number lists '{low_name}' and '{high_name}' for normalisation = {normalisation}: "
                f"{error!r}"
            ) from None
        if low.ndim != 1 or len(low) == 0 or not low.shape == high.shape == mask.shape:
            raise CheckpointError(
                f"{where}: {low_name} {low.shape}, {high_name} {high.shape} and mask {mask.shape} must be of one length"
            )
        if not (np.isfinite(low).all() and np.isfinite(high).all()):
            raise CheckpointError(f"{where}: {low_name} or {high_name} is not finite")
        return Bounds(low, high, mask)


def read_dataset_statistics(directory: Path, config: Mapping[str, Any]) -> dict[str, DatasetStatistics]:
    """Statistics by data set: those of `dataset_statistics.json`, else `norm_stats` of the configuration.

    Raises:
        CheckpointError: There are none, or they cannot be read.
    """
    path = directory / STATISTICS_FILE
    if path.exists():
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise CheckpointError(f"{path}: cannot be read as JSON: {error}") from None
    else:
        path, content = directory / "config.json", config.get("norm_stats")
    if not isinstance(content, dict) or not content or not all(isinstance(entry, dict) for entry in content.values()):
        raise CheckpointError(
            f"{path}: expected data set keys with their statistics; copy the {STATISTICS_FILE} that belongs to the "
            f"weights into {directory}"
        )
    return {key: DatasetStatistics(key, f"{path}: {key}", entry) for key, entry in content.items()}


def denormalise(normalised: NDArray[np.floating], bounds: Bounds, guard: float = GUARD) -> Array:
    """Actions in the units of the data set; nothing is clipped.

    Args:
        normalised: float (..., n): float32 of a head, or float64 centres of bins.
        bounds: Bounds of the actions.
        guard: Added to the span: 1e-8 in OpenVLA-OFT, 0 in OpenVLA.

    Returns:
        float64 (..., n).
    """
    span = bounds.high - bounds.low + guard
    return np.where(bounds.mask, 0.5 * (normalised + 1) * span + bounds.low, normalised)


def normalise_state(state: Array, bounds: Bounds) -> Array:
    """The robot's state, normalised and clipped to ±1: float64 (..., n), the same shape."""
    span = bounds.high - bounds.low + GUARD
    return np.clip(np.where(bounds.mask, 2 * (state - bounds.low) / span - 1, state), -1, 1)

"""Converts the sampler's output to actions in metres and radians, by the training data's statistics."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sqap_vla_ros.vlm.weights import CheckpointError

GRIPPER = 6
STATISTICS_FILE = "dataset_statistics.json"


@dataclass(frozen=True)
class ActionStatistics:
    """Normalisation of the actions of one data set.

    Attributes:
        key: Name of the data set.
        q01: float64 (7,), 1 % quantiles, which map to −1.
        q99: float64 (7,), 99 % quantiles, which map to 1.
        mask: bool (7,), which numbers are normalised; the gripper usually is not.
    """

    key: str
    q01: NDArray[np.float64]
    q99: NDArray[np.float64]
    mask: NDArray[np.bool_]


def read_statistics(path: Path) -> dict[str, ActionStatistics]:
    """Read `dataset_statistics.json`.

    Returns:
        Statistics by data set key.

    Raises:
        CheckpointError: The file is missing, not JSON, or lacks finite `action` quantiles of one length.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise CheckpointError(
            f"{path}: no such file; it belongs to the checkpoint, copy it into the run directory"
        ) from None
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{path}: cannot be read as JSON: {error}") from None
    if not isinstance(content, dict) or not content:
        raise CheckpointError(f"{path}: expected data set keys with their statistics, found {type(content).__name__}")
    return {str(key): _parse(f"{path}: {key}", key, entry) for key, entry in content.items()}


def _parse(place: str, key: str, entry: Mapping[str, Mapping[str, list[float]]]) -> ActionStatistics:
    try:
        action = entry["action"]
        q01, q99 = (np.array(action[name], dtype=np.float64) for name in ("q01", "q99"))
        mask = np.array(action.get("mask", np.ones(q01.shape)), dtype=bool)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise CheckpointError(f"{place}: expected 'action' with number lists 'q01' and 'q99': {error!r}") from None
    if q01.ndim != 1 or len(q01) == 0 or not q01.shape == q99.shape == mask.shape:
        raise CheckpointError(f"{place}: q01 {q01.shape}, q99 {q99.shape} and mask {mask.shape} must be of one length")
    if not (np.isfinite(q01).all() and np.isfinite(q99).all()):
        raise CheckpointError(f"{place}: q01 or q99 is not finite")
    return ActionStatistics(key, q01, q99, mask)


def choose_statistics(statistics: Mapping[str, ActionStatistics], key: str | None) -> ActionStatistics:
    """The statistics of one data set.

    Args:
        statistics: The statistics, by key.
        key: The data set whose actions are like the robot's; None when the checkpoint has exactly one.

    Raises:
        ValueError: There is no such key, or it is None and there are several; the message lists the keys.
    """
    keys = ", ".join(statistics)
    if key is None:
        if len(statistics) != 1:
            raise ValueError(f"the checkpoint has statistics of {len(statistics)} data sets; choose one of: {keys}")
        return next(iter(statistics.values()))
    if key not in statistics:
        raise ValueError(f"statistics key '{key}' is not in the checkpoint; choose one of: {keys}")
    return statistics[key]


def normalised_actions(samples: NDArray[np.float32]) -> NDArray[np.float32]:
    """Clip to ±1, and set the gripper to 0 or 1 (0.5 becomes 1).

    Args:
        samples: float32 (..., horizon, 7), the sampler's output.

    Raises:
        ValueError: A sample is not finite (comparing it would give an open gripper).
    """
    if not np.isfinite(samples).all():
        raise ValueError("the action head's samples are not finite; the weights or their dtype are at fault")
    actions = np.clip(samples, -1, 1)
    actions[..., GRIPPER] = actions[..., GRIPPER] >= 0.5
    return actions


def denormalise(normalised: NDArray[np.float32], statistics: ActionStatistics) -> NDArray[np.float64]:
    """Convert normalised actions to the units of the data set.

    Args:
        normalised: float32 (..., horizon, 7), from `normalised_actions`.
        statistics: Statistics of the data set.

    Returns:
        float64 (..., horizon, 7): translation (m), rotation (rad), gripper.

    Raises:
        ValueError: The statistics are for actions of another length.
    """
    if normalised.shape[-1] != len(statistics.q01):
        length = len(statistics.q01)
        raise ValueError(f"statistics '{statistics.key}' have {length} numbers, the actions {normalised.shape[-1]}")
    span = statistics.q99 - statistics.q01
    return np.where(statistics.mask, 0.5 * (normalised + 1) * span + statistics.q01, normalised)


def normalise(actions: NDArray[np.float64], statistics: ActionStatistics) -> NDArray[np.float64]:
    """Normalise actions: the inverse of `denormalise`, clipped to ±1.

    Args:
        actions: float64 (..., horizon, 7) in the data set's units.
        statistics: Statistics of the data set.

    Returns:
        float64 (..., horizon, 7); 0 where all of the data set's actions are the same.
    """
    span = statistics.q99 - statistics.q01
    share = np.divide(actions - statistics.q01, span, out=np.full_like(actions, 0.5), where=span > 0)
    return np.clip(np.where(statistics.mask, 2 * share - 1, actions), -1, 1)

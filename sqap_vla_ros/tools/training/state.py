"""What a training resumes from: weights, optimisers and learning curve after the last step that was saved."""

import io
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch

from sqap_vla_ros.core.errors import in_one_line
from sqap_vla_ros.core.files import write_whole
from sqap_vla_ros.tools.training.curves import CurvePoint
from sqap_vla_ros.tools.training.held_out import HeldOutErrors
from sqap_vla_ros.tools.training.settings import TrainingError

STATE = "training.pt"


@dataclass(frozen=True)
class TrainingState:
    """A training after some steps.

    Attributes:
        step: Optimiser steps so far.
        seconds: Time spent on them (s).
        learner: State of the network and its auxiliary heads.
        averaged: State of the averaged weights.
        optimisers: State of the optimisers.
        curve: A point for each save.
    """

    step: int
    seconds: float
    learner: dict[str, Any]
    averaged: dict[str, Any]
    optimisers: dict[str, Any]
    curve: list[CurvePoint]

    def write(self, directory: Path) -> None:
        """Write the state into a run directory."""
        content = io.BytesIO()
        torch.save({**vars(self), "curve": [asdict(point) for point in self.curve]}, content)
        write_whole(directory / STATE, content.getvalue())


def read_state(directory: Path, device: torch.device) -> TrainingState | None:
    """The state in a run directory; None where no training has begun.

    Raises:
        TrainingError: The state cannot be read, or there is a model without a state.
    """
    path = directory / STATE
    if not path.is_file():
        if any(directory.glob("checkpoints/*")):
            raise TrainingError(f"{directory}: holds a model, but no {STATE} to resume from; choose another --out")
        return None
    try:
        state: dict[str, Any] = torch.load(path, map_location=device, weights_only=True)
    except (OSError, RuntimeError, EOFError, UnpicklingError) as error:
        raise TrainingError(
            f"{path}: cannot be read ({in_one_line(error)}); remove the directory or choose another --out"
        ) from None
    curve = [replace(CurvePoint(**point), held_out=HeldOutErrors(**point["held_out"])) for point in state.pop("curve")]
    return TrainingState(**state, curve=curve)


def read_averaged_weights(directory: Path, device: torch.device) -> dict[str, Any]:
    """State of the averaged weights of a training.

    Raises:
        OSError, RuntimeError: There is none, or it cannot be read.
    """
    state: dict[str, Any] = torch.load(directory / STATE, map_location=device, weights_only=True)
    averaged: dict[str, Any] = state["averaged"]
    return averaged

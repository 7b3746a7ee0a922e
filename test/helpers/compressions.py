"""Small compressions for the tests: recipes, frames, and runs that are stopped."""

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from sqap_vla_ros.config.files import named_file, read_yaml
from sqap_vla_ros.config.recipe import Recipe
from sqap_vla_ros.config.settings import validate
from sqap_vla_ros.policies.cogact.store import Manifest
from sqap_vla_ros.tools.compression.calibration import CalibrationFrame, CalibrationFrames
from sqap_vla_ros.tools.compression.compress import compress
from sqap_vla_ros.tools.compression.run import Step
from sqap_vla_ros.vlm.checkpoint import COMPRESSED, UNFINISHED, open_checkpoint

INSTRUCTION = "open the top drawer"


def named_recipe(name: str, **changes: Any) -> Recipe:
    """A recipe file, with other values in some places."""
    return validate(Recipe, {**read_yaml(named_file("recipes", name)), **changes}, name)


def drawn_frames(count: int = 2, seed: int = 0) -> CalibrationFrames:
    """Frames of coarse noise."""
    generator = np.random.default_rng(seed)
    coarse = generator.integers(0, 256, (count, 8, 8, 3), np.uint8)
    frames = (CalibrationFrame(image.repeat(8, 0).repeat(8, 1), INSTRUCTION) for image in coarse)
    return CalibrationFrames((f"noise {seed}",), tuple(frames))


def compressed(run: Path, recipe: Recipe, directory: Path, **options: Any) -> Manifest:
    """Compress a run directory."""
    return compress(open_checkpoint(run), recipe, directory, **options)


class Stopped(Exception):
    """A run that was stopped on purpose."""


def stop_before(index: int) -> Callable[[Step], None]:
    """An `on_step` that stops the run before its step of this number."""
    steps = iter(range(index, -1, -1))

    def on_step(step: Step) -> None:
        if not next(steps):
            raise Stopped(step.name)

    return on_step


def hashes(directory: Path) -> dict[str, str]:
    """Of all files in a directory but the JSON of the compression."""
    files = [path for path in directory.rglob("*") if path.is_file() and path.name not in (COMPRESSED, UNFINISHED)]
    return {str(path.relative_to(directory)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}

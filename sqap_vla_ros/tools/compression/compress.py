"""From a checkpoint to a compressed one: what is asked for, what is refused, and what is resumed."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from sqap_vla_ros.config.recipe import Recipe
from sqap_vla_ros.config.settings import Group
from sqap_vla_ros.core.files import disk_problem, is_full, write_whole
from sqap_vla_ros.core.run_directory import RunDirectory, difference
from sqap_vla_ros.tools.compression.calibration import CalibrationFrames
from sqap_vla_ros.tools.compression.companions import hashes
from sqap_vla_ros.tools.compression.family import CogActFamily, Family
from sqap_vla_ros.tools.compression.run import Compression, Step
from sqap_vla_ros.vlm.checkpoint import COMPRESSED, UNFINISHED, Checkpoint
from sqap_vla_ros.vlm.lowbit.store import (
    Calibration,
    Identity,
    Origin,
    StoredManifest,
    read_manifest_as,
    write_manifest,
)

# Measured with the recipe w4a4-residual on SmolLM2-135M-Instruct, without calibration and with it.
_UNCALIBRATED_COST = (
    "; on a trained language model that made the perplexity of W4A4 171 in place of 55, where float has 27: give "
    "--calibration for anything but a trial"
)


class CompressionError(Exception):
    """A compression that cannot be done; the message says why and what to do."""


def compress(
    checkpoint: Checkpoint | Family,
    recipe: Recipe,
    directory: Path,
    *,
    frames: CalibrationFrames | None = None,
    tokenizer: Path | None = None,
    device: torch.device | str = "cpu",
    on_step: Callable[[Step], None] = lambda step: None,
    on_note: Callable[[str], None] = lambda note: None,
) -> StoredManifest[Any]:
    """Compress a checkpoint into a directory that loads and runs without the original.

    Args:
        checkpoint: Checkpoint to compress: of CogACT, or another family's.
        recipe: How it is compressed.
        directory: Directory to make. An unfinished compression with the same settings in it is resumed.
        frames: Calibration frames for GPTQ, smoothing and mixed precision; None: nothing is calibrated or smoothed,
            and a note says so.
        tokenizer: Directory of the Llama-2 tokenizer; None: the checkpoint's directory.
        device: Where rounding computes.
        on_step: Called before each part, and at the end.
        on_note: Called with each sentence about where the result differs from the recipe.

    Raises:
        CompressionError: The directory is in use for something else, the recipe needs frames, or the disk is full.
        DirectoryInUse: Another process compresses into it.
        CheckpointError: The checkpoint cannot be used, or has NaN weights.
        TokenizerError: There is no tokenizer.
    """
    if recipe.needs_frames and frames is None:
        raise CompressionError(f"recipe {recipe.name}: {recipe.needs_frames} needs camera frames; give --calibration")
    if isinstance(checkpoint, Checkpoint) and checkpoint.is_compressed:
        raise CompressionError(f"{checkpoint.directory}: is compressed already; give the original checkpoint")
    refuse_other_use(directory)
    family: Family = CogActFamily(checkpoint) if isinstance(checkpoint, Checkpoint) else checkpoint
    companions = family.companions(tokenizer)
    shapes = family.shapes
    on_note(f"hashing {family.source.name}")
    identity = Identity(
        recipe=recipe,
        source=Origin(name=family.source.name, sha256=family.sha256()),
        beside=hashes(companions),
        calibration=frames and Calibration(sources=frames.sources, frames=len(frames.frames), sha256=frames.sha256),
    )
    manifest = _resumed(family.manifest, directory, identity, shapes) or family.manifest(
        identity=identity, shapes=shapes, notes=_notes(recipe, frames)
    )
    for note in manifest.notes:
        on_note(f"warning: {note}")
    try:
        directory.mkdir(parents=True, exist_ok=True)
        with RunDirectory(directory, resumed=(directory / UNFINISHED).exists()).lock():
            # The manifest comes first: it tells a directory of ours from others.
            write_manifest(directory, manifest, UNFINISHED)
            for name, content in companions.items():
                write_whole(directory / name, content)
            run = Compression(family, directory, manifest, torch.device(device), on_step)
            return run.run(frames)
    except OSError as error:
        if not is_full(error):
            problem = disk_problem(error) or f"{directory}: {error}"
            raise CompressionError(f"{problem}. What is done stays: run the same command again then") from None
        raise CompressionError(
            f"{error} ({_free_gib(directory):.2f} GiB free in {directory}). What is done stays: make room if that "
            "is what is missing, and run the same command again"
        ) from None


def refuse_other_use(directory: Path) -> None:
    """Refuse a directory that is neither new nor an unfinished compression.

    Raises:
        CompressionError: It holds something else.
    """
    if (directory / COMPRESSED).exists():
        raise CompressionError(f"{directory}: holds a complete compressed checkpoint; choose another directory")
    if (directory / UNFINISHED).exists():
        return
    if directory.exists() and (not directory.is_dir() or any(directory.iterdir())):
        raise CompressionError(f"{directory}: not empty, and not an unfinished compression; choose another directory")


def _resumed(
    kind: type[StoredManifest[Any]], directory: Path, identity: Identity, shapes: Group
) -> StoredManifest[Any] | None:
    """Return the manifest of an unfinished compression with the same settings; None where nothing was begun."""
    if not (directory / UNFINISHED).exists():
        return None
    manifest = read_manifest_as(kind, directory, UNFINISHED)
    if found := difference(_settings(manifest.identity, manifest.shapes), _settings(identity, shapes)):
        raise CompressionError(
            f"{directory}: holds an unfinished compression with another {found}; remove it or choose another directory"
        )
    return manifest


def _settings(identity: Identity, shapes: Group) -> dict[str, Any]:
    """What two runs of one compression have in common, by the names that a user reads."""
    asked = identity.model_dump(mode="json")
    return {
        "checkpoint": asked["source"]["sha256"],
        "recipe": asked["recipe"],
        "configuration, statistics or tokenizer": asked["beside"],
        "calibration": asked["calibration"],
        "network": shapes.model_dump(mode="json"),
    }


def _notes(recipe: Recipe, frames: CalibrationFrames | None) -> tuple[str, ...]:
    if frames is not None:
        return frames.notes
    left_out = recipe.left_out_without_frames
    if not left_out:
        return ()
    cost = _UNCALIBRATED_COST if 4 in (recipe.weights.bits, recipe.activations.bits) else ""
    return (f"no calibration frames: {left_out}{cost}",)


def _free_gib(directory: Path) -> float:
    there = next(path for path in (directory, *directory.absolute().parents) if path.exists())
    return shutil.disk_usage(there).free / 2**30

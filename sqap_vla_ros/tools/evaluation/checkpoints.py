"""The compressed checkpoints that an evaluation needs, made once."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from sqap_vla_ros.config.recipe import Recipe
from sqap_vla_ros.core.run_directory import RunDirectoryError
from sqap_vla_ros.core.worker_pool import run_jobs
from sqap_vla_ros.policies.cogact.checkpoint import COMPRESSED, Checkpoint
from sqap_vla_ros.policies.cogact.store import read_manifest
from sqap_vla_ros.simulation.tasks import Task
from sqap_vla_ros.tools.compression.calibration import CalibrationFrames, read_frames
from sqap_vla_ros.tools.compression.compress import Step, compress, hashes_beside

RECORDED = ("demonstrations recorded for it",)
"""What `recorded_frames` names as its source, wherever its directory is moved to."""

_EPISODES = 4  # per task


def compressed_with(
    recipe: Recipe,
    checkpoint: Checkpoint,
    directory: Path,
    frames: Callable[[], CalibrationFrames],
    *,
    sources: Sequence[str],
    count: int,
    tokenizer: Path | None,
    on_step: Callable[[Step], None],
    on_note: Callable[[str], None],
) -> Path:
    """The checkpoint compressed with a recipe, as `sqap-vla compress` makes it; one that is there already is used.

    Args:
        recipe: How.
        checkpoint: What.
        directory: Where to.
        frames: Gives the calibration frames when they are needed.
        sources: Where they come from.
        count: How many are asked for.
        tokenizer: Directory of the Llama-2 tokenizer; None: beside the checkpoint.
        on_step: Told before each part.
        on_note: Told in words where the result differs from the recipe.

    Raises:
        RunDirectoryError: What is there was made from another checkpoint, with another recipe, or calibrated on
            something else.
        CompressionError: It cannot be compressed.
        CheckpointError: The checkpoint cannot be used.
    """
    if not (directory / COMPRESSED).exists():
        compress(checkpoint, recipe, directory, frames=frames(), tokenizer=tokenizer, on_step=on_step, on_note=on_note)
        return directory
    made_of = read_manifest(directory).identity
    if made_of.source.sha256 != checkpoint.sha256() or made_of.beside != hashes_beside(checkpoint, tokenizer):
        raise RunDirectoryError(
            f"{directory}: was made from another checkpoint ({made_of.source.name}); remove it, or choose another "
            "directory for the evaluation"
        )
    if made_of.recipe != recipe:
        raise RunDirectoryError(f"{directory}: was made with another recipe of that name; remove it, or rename yours")
    seen = made_of.calibration
    if seen is not None and (seen.frames > count or tuple(seen.sources) != tuple(sources)):
        raise RunDirectoryError(
            f"{directory}: was calibrated on {seen.frames} frames of {', '.join(seen.sources)}, now {count} of "
            f"{', '.join(sources)} are asked for; give the same --calibration and --frames, or choose another directory"
        )
    return directory


def recorded_frames(tasks: Sequence[Task], robot: str, directory: Path, count: int, workers: int) -> CalibrationFrames:
    """What the camera sees while the experts do the tasks, recoveries included; no initial state is an evaluated one.

    Args:
        tasks: The tasks.
        robot: Name of its settings.
        directory: Where the demonstrations go; those that are there are used.
        count: How many frames in all.
        workers: Episodes at a time.

    Raises:
        RunDirectoryError: The directory holds other demonstrations.
        CalibrationError: No expert succeeded.
    """
    from sqap_vla_ros.simulation.demonstrate import all_jobs, missing_jobs, record_job, reserve_demonstrations

    with reserve_demonstrations(directory, robot, policy="").lock():
        jobs = missing_jobs(all_jobs(directory, tuple(tasks), _EPISODES, robot))
        for _ in run_jobs(record_job, jobs, workers=workers):
            pass
    return replace(read_frames([str(directory)], count), sources=RECORDED)

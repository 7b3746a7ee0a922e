"""The compressed checkpoints that an evaluation needs, made once."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from sqap_vla_ros.config.recipe import Recipe
from sqap_vla_ros.core.run_directory import RunDirectoryError
from sqap_vla_ros.core.worker_pool import run_jobs
from sqap_vla_ros.policies.cogact.store import read_manifest
from sqap_vla_ros.simulation.tasks import Task
from sqap_vla_ros.tools.compression.calibration import CalibrationFrames, read_frames
from sqap_vla_ros.tools.compression.companions import companion_hashes
from sqap_vla_ros.tools.compression.compress import compress
from sqap_vla_ros.tools.compression.run import Step
from sqap_vla_ros.vlm.checkpoint import COMPRESSED, Checkpoint

RECORDED = ("demonstrations recorded for it",)
"""The source that frames of `recorded_frames` name, wherever their directory is moved to."""

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
    """Compress a checkpoint as `sqap-vla compress` does, or take the compressed one that exists already.

    Args:
        recipe: The recipe.
        checkpoint: The float checkpoint.
        directory: Directory of the compressed checkpoint.
        frames: Gives the calibration frames when they are needed.
        sources: Where the frames come from.
        count: Number of frames that are asked for.
        tokenizer: Directory of the Llama-2 tokenizer; None: that of the checkpoint.
        on_step: Called before each part.
        on_note: Called with a sentence where the result differs from the recipe.

    Returns:
        The directory.

    Raises:
        RunDirectoryError: The compressed checkpoint that exists was made from another one, with another recipe, or
            calibrated on something else.
        CompressionError: It cannot be compressed.
        CheckpointError: The checkpoint cannot be used.
    """
    if not (directory / COMPRESSED).exists():
        compress(checkpoint, recipe, directory, frames=frames(), tokenizer=tokenizer, on_step=on_step, on_note=on_note)
        return directory
    made_of = read_manifest(directory).identity
    if made_of.source.sha256 != checkpoint.sha256() or made_of.beside != companion_hashes(checkpoint, tokenizer):
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
    """Record what the camera sees while the experts do the tasks, recoveries included.

    No initial state is one that an evaluation plays.

    Args:
        tasks: The tasks.
        robot: Name of the robot's settings.
        directory: Directory of the demonstrations; those that exist are used.
        count: Number of frames in all.
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

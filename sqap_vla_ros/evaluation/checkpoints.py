"""The compressed checkpoints that an evaluation needs, made once."""

from collections.abc import Callable, Sequence
from pathlib import Path

from sqap_vla_ros.cogact.checkpoint import COMPRESSED, Checkpoint
from sqap_vla_ros.evaluation.records import EvaluationError
from sqap_vla_ros.quantization.calibration import CalibrationFrame, CalibrationFrames
from sqap_vla_ros.quantization.compress import Step, compress, hashes_beside
from sqap_vla_ros.quantization.recipe import Recipe
from sqap_vla_ros.quantization.store import read_manifest
from sqap_vla_ros.simulation.tasks import Task

_DRAWN = "drawn:"


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
        EvaluationError: What is there was made from another checkpoint, with another recipe, or calibrated on
            something else.
        CompressionError: It cannot be compressed.
        CheckpointError: The checkpoint cannot be used.
    """
    if not (directory / COMPRESSED).exists():
        compress(checkpoint, recipe, directory, frames=frames(), tokenizer=tokenizer, on_step=on_step, on_note=on_note)
        return directory
    made_of = read_manifest(directory).identity
    if made_of.source.sha256 != checkpoint.sha256() or made_of.beside != hashes_beside(checkpoint, tokenizer):
        raise EvaluationError(
            f"{directory}: was made from another checkpoint ({made_of.source.name}); remove it, or choose another "
            "directory for the evaluation"
        )
    if made_of.recipe != recipe:
        raise EvaluationError(f"{directory}: was made with another recipe of that name; remove it, or rename yours")
    seen = made_of.calibration
    # Frames that were drawn for other tasks will do: tasks may be added to an evaluation.
    drawn = seen is not None and all(source.startswith(_DRAWN) for source in (*seen.sources, *sources))
    if seen is not None and (seen.frames > count or not (drawn or tuple(seen.sources) == tuple(sources))):
        raise EvaluationError(
            f"{directory}: was calibrated on {seen.frames} frames of {', '.join(seen.sources)}, now {count} of "
            f"{', '.join(sources)} are asked for; give the same --calibration and --frames, or choose another directory"
        )
    return directory


def drawn_sources(tasks: Sequence[Task]) -> tuple[str, ...]:
    """What `drawn_frames` of these tasks names as its sources."""
    return tuple(f"{_DRAWN}{task.name}" for task in tasks)


def drawn_frames(tasks: Sequence[Task], count: int) -> CalibrationFrames:
    """What the camera sees at the start of the tasks, with initial states drawn afresh: none that is evaluated."""
    from sqap_vla_ros.simulation.libero import LiberoScene

    frames = []
    for index, task in enumerate(tasks):
        share = (index + 1) * count // len(tasks) - index * count // len(tasks)
        scene = LiberoScene(task.suite, task.index, initial_state=None)
        try:
            for seed in range(share):
                scene.reset(None, seed)
                frames.append(CalibrationFrame(scene.render(), scene.instruction))
        finally:
            scene.close()
    return CalibrationFrames(drawn_sources(tasks), tuple(frames))

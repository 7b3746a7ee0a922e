"""The compressed checkpoints that an evaluation needs, made once."""

from collections.abc import Callable, Sequence
from pathlib import Path

from sqap_vla_ros.cogact.checkpoint import COMPRESSED, Checkpoint
from sqap_vla_ros.config import validate
from sqap_vla_ros.config_files import named_file, read_yaml
from sqap_vla_ros.evaluation.records import EvaluationError
from sqap_vla_ros.quantization.calibration import CalibrationFrame, CalibrationFrames
from sqap_vla_ros.quantization.compress import Step, compress
from sqap_vla_ros.quantization.recipe import Recipe
from sqap_vla_ros.quantization.store import read_manifest
from sqap_vla_ros.simulation.tasks import Task


def read_recipe(name: str) -> Recipe:
    """A recipe by its short name or path.

    Raises:
        ConfigurationError: There is none, or it cannot be used.
    """
    path = named_file("recipes", name)
    return validate(Recipe, read_yaml(path), str(path))


def compressed_with(
    recipe: Recipe,
    checkpoint: Checkpoint,
    directory: Path,
    frames: Callable[[], CalibrationFrames],
    *,
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
        tokenizer: Directory of the Llama-2 tokenizer; None: beside the checkpoint.
        on_step: Told before each part.
        on_note: Told in words where the result differs from the recipe.

    Raises:
        EvaluationError: What is there was made from another checkpoint or with another recipe.
        CompressionError: It cannot be compressed.
        CheckpointError: The checkpoint cannot be used.
    """
    if not (directory / COMPRESSED).exists():
        compress(checkpoint, recipe, directory, frames=frames(), tokenizer=tokenizer, on_step=on_step, on_note=on_note)
        return directory
    made_of = read_manifest(directory).identity
    if made_of.source.sha256 != checkpoint.sha256():
        raise EvaluationError(
            f"{directory}: was made from another checkpoint ({made_of.source.name}); remove it, or choose another "
            "directory for the evaluation"
        )
    if made_of.recipe != recipe:
        raise EvaluationError(f"{directory}: was made with another recipe of that name; remove it, or rename yours")
    return directory


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
    return CalibrationFrames(tuple(f"drawn:{task.name}" for task in tasks), tuple(frames))

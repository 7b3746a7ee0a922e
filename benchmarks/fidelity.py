"""How close each recipe stays to float: a small model on simulator frames, and attention under strong outlier channels.

The model's weights are random: they have no outlier channels and no taste for a task. Its figures compare recipes and
say nothing about a trained checkpoint, for which there is `sqap-vla fidelity`. Nothing depends on the time, and on the
machine no more than the order of floating-point sums.
"""

import tempfile
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import tyro
from rich.console import Console
from rich.table import Table

from benchmarks.outliers import (
    CALIBRATION_FRAMES,
    CASES,
    EVALUATION_FRAMES,
    FACTOR,
    LOGIT_DEVIATION,
    OUTLIERS,
    POSITIONS,
    WIDTH,
    Measured,
    study,
)
from benchmarks.results import RESULTS, write_results
from sqap_vla_ros.config.recipe import Recipe, read_recipe
from sqap_vla_ros.testing.random_checkpoint import write_random_checkpoint
from sqap_vla_ros.tools.compression.agreement import TOP_K
from sqap_vla_ros.tools.compression.calibration import CalibrationFrames, read_frames
from sqap_vla_ros.tools.compression.compress import compress
from sqap_vla_ros.tools.compression.fidelity import FidelityReport, report
from sqap_vla_ros.tools.compression.fidelity_report import fidelity_table
from sqap_vla_ros.vlm.checkpoint import open_checkpoint

# Initial states of a simulated suite, by turns for calibration and for evaluation: never the same state for both.
SOURCE, FRAMES = "libero:libero_object", 40
# Without rtn-w4a4 and rotated-w4a4, which are there for `benchmarks.planted_outliers`.
RECIPES = (
    "qvla",
    "smoothquant-w4a4",
    "smoothquant-w8a8",
    "qvla-rotated",
    "w4a4",
    "w4a4-online",
    "qk-rotation",
    "w4a4-residual",
)


def variants(recipes: Mapping[str, Recipe]) -> dict[str, Recipe]:
    """Changes of one thing each, for the outliers in the residual stream."""

    def vary(recipe: Recipe, **activations: Any) -> Recipe:
        return recipe.model_copy(update={"activations": recipe.activations.model_copy(update=activations)})

    sqap, plain = recipes["w4a4-residual"], nearest()
    named = {
        f"{name}, queries and keys A8": recipes[name]
        for name in recipes
        if name in ("w4a4", "w4a4-online", "qk-rotation", "w4a4-residual")
    }
    return {
        **{name: vary(recipe, scoring_bits=8) for name, recipe in named.items()},
        "w4a4-residual, one scale per tensor": vary(sqap, granularity="tensor"),
        "w4a4-residual, static scale per channel": vary(sqap, granularity="channel"),
        "w4a4-residual, blocks of 128": sqap.model_copy(update={"hadamard_block": 128}),
        "nearest, static scale per channel": vary(plain, granularity="channel"),
    }


def nearest() -> Recipe:
    """Four bits by rounding alone, which every recipe has to beat."""
    return Recipe.model_validate({"name": "nearest", "weights": {"rounding": "nearest"}})


def ask_small_model(recipes: Mapping[str, Recipe], on_progress: Callable[[str], None]) -> FidelityReport:
    """The report of the small random model."""
    on_progress(f"rendering {FRAMES} frames")
    frames = read_frames([SOURCE], FRAMES)
    calibration, evaluation = (CalibrationFrames(frames.sources, frames.frames[turn::2]) for turn in (0, 1))
    with tempfile.TemporaryDirectory() as directory:
        checkpoint = open_checkpoint(write_random_checkpoint(Path(directory) / "run"))
        compressed = [Path(directory) / name for name in recipes]
        for recipe, out in zip(recipes.values(), compressed, strict=True):
            on_progress(f"compressing the small model by {recipe.name}")
            compress(checkpoint, recipe, out, frames=calibration)
        return report(checkpoint, compressed, evaluation, on_progress=on_progress)


def outlier_table(words: str, results: Mapping[str, Measured]) -> Table:
    """One row per recipe."""
    table = Table(title=f"{OUTLIERS} of {WIDTH} channels ×{FACTOR:g}, {words}")
    table.add_column("recipe")
    for heading in ("probability error", *(f"top {k}" for k in TOP_K)):
        table.add_column(heading, justify="right")
    for name, found in results.items():
        overlaps = (f"{100 * share:.0f} %" for share in found.topk_overlap.values())
        table.add_row(name, f"{found.probability_error:.3f}", *overlaps)
    return table


def main(out: Path = RESULTS) -> None:
    """Measure and write `fidelity.json`.

    Example: python -m benchmarks.fidelity --out out/benchmarks

    Args:
        out: Directory of the result file; any other than the default leaves the published results alone.
    """
    console = Console(width=160)
    recipes = {name: read_recipe(name) for name in RECIPES}
    small = ask_small_model(recipes, console.print)
    everywhere = {"nearest": nearest(), **recipes}
    outliers = {
        case.name: study(case, everywhere | (variants(recipes) if case is CASES[0] else {}), console.print)
        for case in CASES
    }
    console.print(fidelity_table(small))
    for case in CASES:
        console.print(outlier_table(case.words, outliers[case.name]))
    figures = {
        "topk32_overlap_shuffled": 100 * small.shuffled_topk_overlap[32],
        "kept_overlap_shuffled": 100 * small.shuffled_kept_overlap,
    }
    for model in small.models:
        figures |= {
            f"topk32_overlap_{model.name}": 100 * model.topk_overlap[32],
            f"kept_overlap_{model.name}": 100 * model.kept_overlap,
            f"cognition_error_{model.name}": model.cognition_error,
            f"action_error_{model.name}": model.action_error,
        }
    for name in everywhere:
        found = outliers[CASES[0].name][name]
        figures[f"outlier_probability_error_{name}"] = found.probability_error
        figures[f"outlier_topk32_overlap_{name}"] = 100 * found.topk_overlap[32]
    write_results(
        "fidelity",
        figures,
        out,
        model="small CogACT with random weights: recipes can be compared, a trained checkpoint cannot be judged by it",
        units="overlaps in %, errors relative",
        small_model=asdict(small),
        outlier_inputs={
            "channels": WIDTH,
            "outlier_channels": OUTLIERS,
            "outlier_factor": FACTOR,
            "positions": POSITIONS,
            "calibration_frames": CALIBRATION_FRAMES,
            "evaluation_frames": EVALUATION_FRAMES,
            "logit_standard_deviation": LOGIT_DEVIATION,
            "cases": {case.name: case.words for case in CASES},
        },
        outliers={case: {name: asdict(found) for name, found in results.items()} for case, results in outliers.items()},
    )


if __name__ == "__main__":
    tyro.cli(main)

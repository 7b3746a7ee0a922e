"""Success in closed loop, the paper's rows: `python -m benchmarks.closed_loop`. Goes on where it stopped.

The float model and SQAP-VLA play more episodes than the other rows, since their difference is what matters most. All
rows play the same episodes, so that the first ones of those two are compared with every other row.
"""

from dataclasses import replace
from pathlib import Path

import tyro
from rich.console import Console

from benchmarks.results import RESULTS, command_line, write_results
from sqap_vla_ros.evaluation.plots import plot_success
from sqap_vla_ros.evaluation.report import Row
from sqap_vla_ros.evaluation.run import Evaluation, trained_tasks
from sqap_vla_ros.evaluation.session import run_evaluation
from sqap_vla_ros.evaluation.statistics import Estimate
from sqap_vla_ros.evaluation.variants import Variant
from sqap_vla_ros.simulation.tasks import chosen_tasks

# Name in the figures -> policy file, and recipe of the weights.
ROWS = {
    "fp16": Variant("fp16"),
    "sqap": Variant("sqap", "sqap-w4a4"),
    "w4a4": Variant("dense", "sqap-w4a4"),
    "w4a4_topk": Variant("topk", "sqap-w4a4"),
    "w4a4_topk_ring": Variant("topk-ring", "sqap-w4a4"),
    "sqap_ratio_0.3": Variant("sqap-0.3", "sqap-w4a4"),
    "sqap_ratio_0.5": Variant("sqap-0.5", "sqap-w4a4"),
    "sqap_ratio_0.6": Variant("sqap-0.6", "sqap-w4a4"),
    "random": Variant("random"),
    "fastv": Variant("fastv"),
    "vla_cache": Variant("vla_cache"),
    "efficientvla": Variant("efficientvla"),
    "qvla": Variant("dense", "qvla"),
    "smoothquant_w4a4": Variant("dense", "smoothquant-w4a4"),
}
COMPARED = ("fp16", "sqap")
SHIPPED = "config/checkpoints/libero_small"


def main(
    checkpoint: tyro.conf.Positional[str] = SHIPPED,
    tasks: tuple[str, ...] = (),
    episodes: int = 100,
    other_episodes: int = 25,
    calibration: tuple[str, ...] = (),
    frames: int = 128,
    workers: int = 2,
    out: Path = Path("out/closed_loop"),
) -> None:
    """Play, write `results/closed_loop.json` and `docs/closed_loop.png`: first of two rows, then of all.

    Args:
        checkpoint: CogACT run directory of the trained small model.
        tasks: Names of tasks; empty: those that the checkpoint was trained on.
        episodes: Per task, of the float model and SQAP-VLA.
        other_episodes: Per task, of the other rows.
        calibration: What compression looks at, as in `sqap-vla compress`; empty: demonstrations recorded for it.
        frames: How many of them.
        workers: Episodes at a time.
        out: Directory for episodes and compressed checkpoints; kept for the next time.
    """
    console = Console()
    all_rows = Evaluation(
        checkpoint=checkpoint,
        out=out,
        tasks=chosen_tasks(tasks or trained_tasks(checkpoint)),
        variants=tuple(ROWS.values()),
        episodes=other_episodes,
        calibration=calibration,
        calibration_frames=frames,
        workers=workers,
    )
    compared = replace(all_rows, variants=tuple(ROWS[name] for name in COMPARED), episodes=episodes)
    found: dict[str, Row] = {}
    for evaluation, videos in ((compared, 0), (all_rows, 2)):
        rows = {row.policy: row for row in run_evaluation(evaluation, console, command_line(), videos)}
        found = merged(found, {name: rows[str(variant)] for name, variant in ROWS.items() if str(variant) in rows})
        names = [task.name for task in evaluation.tasks]
        write_results(
            "closed_loop", figures(found) | {"episodes_per_task": episodes, "tasks": len(names)}, task_names=names
        )
        plot_success(list(found.values()), RESULTS.parents[1] / "docs" / "closed_loop.png")


def merged(before: dict[str, Row], now: dict[str, Row]) -> dict[str, Row]:
    """Rows by name, in the order of the latter: of those in both, the one with more episodes."""
    return {
        name: before[name] if name in before and before[name].mean.count > row.mean.count else row
        for name, row in now.items()
    }


def success_figures(name: str, row: Row) -> dict[str, float]:
    """Success in per cent with its interval, and the difference to the float model in points."""
    found = with_interval(f"success_{name}", row.mean)
    if row.difference is not None:
        found |= with_interval(f"paired_difference_{name}", row.difference)
    return found


def with_interval(name: str, share: Estimate) -> dict[str, float]:
    """A share, or a difference of shares, times 100, with its interval."""
    return {name: 100 * share.value, f"{name}_low": 100 * share.low, f"{name}_high": 100 * share.high}


def figures(rows: dict[str, Row]) -> dict[str, float]:
    """Success in per cent with its interval, and differences to the float model in points, by row."""
    found: dict[str, float] = {}
    for name, row in rows.items():
        found |= success_figures(name, row)
        found[f"played_{name}"] = row.mean.count
        found[f"seconds_{name}"] = row.seconds
        found[f"jerk_{name}"] = row.jerk_rad_s3
        found[f"path_m_{name}"] = row.path_m
        found |= {f"task_{task}_{name}": 100 * rate.value for task, rate in row.tasks.items()}
    return found


if __name__ == "__main__":
    tyro.cli(main)

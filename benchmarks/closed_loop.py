"""Success in closed loop, the paper's rows: `python -m benchmarks.closed_loop`. Goes on where it stopped.

The float model and SQAP-VLA play more episodes than the other rows, since their difference is what matters most. All
rows play the same episodes, so that the first ones of those two are compared with every other row. Rows that are not
named stay as they were measured before.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import tyro
from rich.console import Console

from benchmarks.kept_episodes import kept_episodes
from benchmarks.results import RESULTS, command_line, commit, read_results, today, write_results
from sqap_vla_ros.policies.cogact.checkpoint import open_checkpoint
from sqap_vla_ros.reporting.statistics import Estimate
from sqap_vla_ros.simulation.tasks import chosen_tasks
from sqap_vla_ros.tools.evaluation.plots import Bar, plot_success
from sqap_vla_ros.tools.evaluation.report import Row
from sqap_vla_ros.tools.evaluation.run import Evaluation, trained_tasks
from sqap_vla_ros.tools.evaluation.session import run_evaluation
from sqap_vla_ros.tools.evaluation.variants import Variant

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
REFERENCE = "fp16"
COMPARED = (REFERENCE, "sqap")
SHIPPED = "config/checkpoints/libero_small"


def main(
    checkpoint: tyro.conf.Positional[str] = SHIPPED,
    rows: tuple[str, ...] = tuple(ROWS),
    tasks: tuple[str, ...] = (),
    episodes: int = 100,
    other_episodes: int = 25,
    calibration: tuple[str, ...] = (),
    frames: int = 128,
    videos: int = 2,
    workers: int = 2,
    out: Path = Path("out/closed_loop"),
) -> None:
    """Play, write `results/closed_loop.json` and `docs/closed_loop.png`: first the float model and SQAP-VLA, then all.

    Args:
        checkpoint: CogACT run directory of the trained small model.
        rows: Names of rows; the others stay as they were measured, if with the same checkpoint and tasks.
        tasks: Names of tasks; empty: those that the checkpoint was trained on.
        episodes: Per task, of the float model and SQAP-VLA.
        other_episodes: Per task, of the other rows.
        calibration: What compression looks at, as in `sqap-vla compress`; empty: demonstrations recorded for it.
        frames: How many of them.
        videos: Failures per row that are filmed.
        workers: Episodes at a time.
        out: Directory for episodes and compressed checkpoints; kept for the next time.
    """
    if unknown := set(rows) - set(ROWS):
        raise SystemExit(f"rows: no row {', '.join(sorted(unknown))}; there are: {', '.join(ROWS)}")
    console = Console()
    # The float model plays in any case: the others are compared with it.
    variants = {name: ROWS[name] for name in ROWS if name == REFERENCE or name in rows}
    all_rows = Evaluation(
        checkpoint=checkpoint,
        out=out,
        tasks=chosen_tasks(tasks or trained_tasks(checkpoint)),
        variants=tuple(variants.values()),
        episodes=other_episodes,
        calibration=calibration,
        calibration_frames=frames,
        workers=workers,
    )
    compared = tuple(ROWS[name] for name in COMPARED if name in rows)
    parts = [(all_rows, videos)]
    if compared:
        parts.insert(0, (replace(all_rows, variants=compared, episodes=episodes), 0))
    task_names = [task.name for task in all_rows.tasks]
    weights = open_checkpoint(checkpoint).sha256()
    found: dict[str, Row] = {}
    for evaluation, filmed in parts:
        with kept_episodes("closed_loop", out):
            played = {row.policy: row for row in run_evaluation(evaluation, console, command_line(), filmed)}
        found = merged(
            found, {name: played[str(variant)] for name, variant in variants.items() if str(variant) in played}
        )
        before = measured_before(weights, task_names)
        measured = before.get("measured", {})
        now = {name: row for name, row in found.items() if name in rows or name not in measured}
        shown = before.get("figures", {}) | figures(now)
        shown |= {"episodes_per_task": shown[f"played_{REFERENCE}"] / len(task_names), "tasks": len(task_names)}
        write_results(
            "closed_loop",
            shown,
            task_names=task_names,
            weights_sha256=weights,
            measured=measured | dict.fromkeys(now, f"{commit()}, {today()}"),
        )
        plot_success(bars(shown, task_names), RESULTS.parents[1] / "docs" / "closed_loop.png")


def measured_before(weights_sha256: str, task_names: Sequence[str]) -> dict[str, Any]:
    """What the results hold already; nothing where it is of other weights or tasks."""
    content = read_results("closed_loop")
    same = content.get("weights_sha256") == weights_sha256 and content.get("task_names") == list(task_names)
    return content if same else {}


def merged(before: dict[str, Row], now: dict[str, Row]) -> dict[str, Row]:
    """Rows by name, in the order of the latter: of those in both, the one with more episodes."""
    return {
        name: before[name] if name in before and before[name].mean.count > row.mean.count else row
        for name, row in now.items()
    }


def bars(figures: Mapping[str, float], task_names: Sequence[str]) -> list[Bar]:
    """What is drawn: a bar for each row that was measured, in the order of `ROWS`."""
    return [
        Bar(
            name,
            Estimate(
                *(figures[f"success_{name}{end}"] / 100 for end in ("", "_low", "_high")),
                count=round(figures[f"played_{name}"]),
            ),
            {task: figures[key] / 100 for task in task_names if (key := f"task_{task}_{name}") in figures},
        )
        for name in ROWS
        if f"played_{name}" in figures
    ]


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

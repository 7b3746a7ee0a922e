"""Success in closed loop, the rows of the paper: `python -m benchmarks.closed_loop`. It resumes where it stopped.

The float model and SQAP-VLA play more episodes than the other rows, since their difference is what matters most. All
rows play the same episodes, so that the first ones of those two are compared with every other row. Rows that are not
named stay as they were measured before.
"""

from dataclasses import replace
from pathlib import Path

import tyro
from rich.console import Console

from benchmarks.results import EPISODES, command_line, commit, read_results, today, write_results
from sqap_vla_ros.simulation.tasks import chosen_tasks
from sqap_vla_ros.tools.evaluation.cached_episodes import cached_episodes
from sqap_vla_ros.tools.evaluation.comparison import (
    COMPARED,
    REFERENCE,
    ROWS,
    comparable_results,
    figures,
    merged,
)
from sqap_vla_ros.tools.evaluation.report import Row
from sqap_vla_ros.tools.evaluation.run import Evaluation, trained_tasks
from sqap_vla_ros.tools.evaluation.session import run_evaluation
from sqap_vla_ros.vlm.checkpoint import open_checkpoint

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
    """Play and write `results/closed_loop.json`: first the float model and SQAP-VLA, then all.

    Args:
        checkpoint: CogACT run directory of the trained small model.
        rows: Names of rows; the others stay as they were measured, if with the same checkpoint and tasks.
        tasks: Names of tasks; empty: those that the checkpoint was trained on.
        episodes: Episodes per task of the float model and SQAP-VLA.
        other_episodes: Episodes per task of the other rows.
        calibration: What compression looks at, as in `sqap-vla compress`; empty: demonstrations recorded for it.
        frames: Number of calibration frames.
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
        with cached_episodes(EPISODES / "closed_loop", out):
            played = {row.policy: row for row in run_evaluation(evaluation, console, command_line(), filmed)}
        found = merged(
            found, {name: played[str(variant)] for name, variant in variants.items() if str(variant) in played}
        )
        before = comparable_results(read_results("closed_loop"), weights, task_names)
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


if __name__ == "__main__":
    tyro.cli(main)

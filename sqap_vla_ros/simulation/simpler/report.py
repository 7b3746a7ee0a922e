"""Success rates in SIMPLER in the shape of the published tables: a row per policy, a column per task."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from sqap_vla_ros.core.files import write_whole
from sqap_vla_ros.reporting.statistics import Estimate, success_rate
from sqap_vla_ros.reporting.tables import markdown_table
from sqap_vla_ros.simulation.simpler.episode import TASKS
from sqap_vla_ros.simulation.simpler.evaluation import EpisodeResult

_HEADINGS = {"visual_matching": "visual matching", "variant_aggregation": "variant aggregation"}


@dataclass(frozen=True)
class Row:
    """A policy in a setting.

    Attributes:
        robot: Name of the robot's set-up.
        setting: Visual matching or variant aggregation.
        policy: Id of the policy.
        weights: "float", or the recipe that compressed them.
        tasks: Task -> success rate over all its scenes.
        environments: Gymnasium id -> success rate; opening and closing drawers apart.
        mean: Mean of the tasks' rates; None while a task has no episode.
        seconds_per_plan: Mean wall time of a plan (s).
        share_without_ring: Share of the plans where the tool could not be located in the image.
    """

    robot: str
    setting: str
    policy: str
    weights: str
    tasks: dict[str, Estimate]
    environments: dict[str, Estimate]
    mean: float | None
    seconds_per_plan: float
    share_without_ring: float


def summarise(results: Sequence[EpisodeResult]) -> list[Row]:
    """Rows by robot and setting, with policies in the order in which they first ran."""
    rows = []
    policies = list(dict.fromkeys((result.policy, result.weights) for result in results))
    for robot, tasks in TASKS.items():
        for setting in _HEADINGS:
            for policy, weights in policies:
                mine = [
                    result
                    for result in results
                    if (result.policy, result.weights, result.setting) == (policy, weights, setting)
                    and result.task in tasks
                ]
                if mine:
                    rows.append(_row(robot, setting, policy, weights, tasks, mine))
    return rows


def markdown(rows: Sequence[Row]) -> str:
    """A Markdown table for each robot and setting: per cent, 95 % Wilson interval, episodes."""
    parts = []
    for robot, setting in dict.fromkeys((row.robot, row.setting) for row in rows):
        tasks = TASKS[robot]
        heading = ["policy", "weights", *(task.replace("_", " ") for task in tasks), "mean", "s per plan"]
        title = f"Success in SIMPLER, {robot}, {_HEADINGS[setting]} [%] (95 % Wilson interval; episodes)"
        shown = [row for row in rows if (row.robot, row.setting) == (robot, setting)]
        parts.append(f"{title}\n\n{markdown_table(heading, (_cells(row, tasks) for row in shown))}\n")
    return "\n".join(parts)


def write_report(results: Sequence[EpisodeResult], out: Path) -> str:
    """Write `results.json` and `results.md`.

    Returns:
        The Markdown.
    """
    rows = summarise(results)
    text = markdown(rows)
    write_whole(out / "results.json", (json.dumps([asdict(row) for row in rows], indent=2) + "\n").encode())
    write_whole(out / "results.md", text.encode())
    return text


def _row(
    robot: str, setting: str, policy: str, weights: str, tasks: Iterable[str], results: Sequence[EpisodeResult]
) -> Row:
    by_task = {task: [result.success for result in results if result.task == task] for task in tasks}
    environments = dict.fromkeys(result.environment for result in results)
    rates = {task: success_rate(outcomes) for task, outcomes in by_task.items() if outcomes}
    steps = sum(result.steps for result in results)
    return Row(
        robot,
        setting,
        policy,
        weights,
        rates,
        {name: success_rate([r.success for r in results if r.environment == name]) for name in environments},
        sum(rate.value for rate in rates.values()) / len(rates) if len(rates) == len(by_task) else None,
        sum(result.seconds_per_plan * result.steps for result in results) / steps,
        sum(sum(result.without_ring.values()) for result in results) / steps,
    )


def _cells(row: Row, tasks: Sequence[str]) -> list[str]:
    cells = [_cell(row.tasks[task]) if task in row.tasks else "" for task in tasks]
    mean = "" if row.mean is None else f"{100 * row.mean:.1f}"
    return [row.policy, row.weights, *cells, mean, f"{row.seconds_per_plan:.3f}"]


def _cell(rate: Estimate) -> str:
    return f"{100 * rate.value:.1f} ({100 * rate.low:.0f}–{100 * rate.high:.0f}; {rate.count})"

"""The report of an evaluation: success rates, differences over the same episodes, and how the arm moved."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import fmean, median

from sqap_vla_ros.core.files import write_whole
from sqap_vla_ros.reporting.statistics import Estimate, paired_difference, success_rate
from sqap_vla_ros.reporting.tables import markdown_table
from sqap_vla_ros.tools.evaluation.episodes import EpisodeResult


@dataclass(frozen=True)
class Row:
    """A policy under one condition.

    Attributes:
        policy: Policy and recipe, as the user named them.
        disturbance: The disturbance, as the user named it; empty: none.
        tasks: Success rate by task.
        mean: Success rate over the episodes of all tasks.
        compared_with: The undisturbed policy that the row is compared with; empty: none.
        difference: Difference of success rates over the episodes that both played; None: there are none.
        seconds: Mean simulated time of an episode.
        jerk_rad_s3: Mean jerk of the joints (rad/s^3).
        path_m: Mean length of the tool's path (m).
        planning_p50_s: Median over episodes of the wall time of a plan (s).
        refused_share: Share of the plans that led to no command.
    """

    policy: str
    disturbance: str
    tasks: Mapping[str, Estimate]
    mean: Estimate
    compared_with: str
    difference: Estimate | None
    seconds: float
    jerk_rad_s3: float
    path_m: float
    planning_p50_s: float
    refused_share: float


def summarise(results: Iterable[EpisodeResult], policies: Sequence[str], tasks: Sequence[str]) -> list[Row]:
    """The rows of a report in the order of the policies, each undisturbed first and then disturbed.

    Args:
        results: All episodes.
        policies: The first one is the reference of the others where nothing disturbs; a disturbed policy is compared
            with itself undisturbed.
        tasks: The tasks that count.
    """
    groups: dict[tuple[str, str], list[EpisodeResult]] = {}
    for result in results:
        if result.task in tasks:
            groups.setdefault((result.variant, result.disturbance), []).append(result)
    disturbances = dict.fromkeys(("", *(disturbance for _, disturbance in groups)))
    rows = []
    for policy in policies:
        for disturbance in disturbances:
            episodes = groups.get((policy, disturbance), [])
            reference = (policy, "") if disturbance else (policies[0], "")
            if episodes:
                is_reference = reference == (policy, disturbance)
                rows.append(_row(episodes, tasks, [] if is_reference else groups.get(reference, []), reference))
    return rows


def _row(
    episodes: Sequence[EpisodeResult],
    tasks: Sequence[str],
    others: Sequence[EpisodeResult],
    reference: tuple[str, str],
) -> Row:
    theirs = {(other.task, other.episode): other.success for other in others}
    pairs = [
        (mine.success, theirs[mine.task, mine.episode]) for mine in episodes if (mine.task, mine.episode) in theirs
    ]
    of_task = {task: [result.success for result in episodes if result.task == task] for task in tasks}
    plans = sum(result.plans for result in episodes)
    return Row(
        policy=episodes[0].variant,
        disturbance=episodes[0].disturbance,
        tasks={task: success_rate(outcomes) for task, outcomes in of_task.items() if outcomes},
        mean=success_rate([result.success for result in episodes]),
        compared_with=reference[0] if others else "",
        difference=paired_difference(*map(list, zip(*pairs, strict=True))) if pairs else None,
        seconds=fmean(result.seconds for result in episodes),
        jerk_rad_s3=fmean(result.jerk_rad_s3 for result in episodes),
        path_m=fmean(result.path_m for result in episodes),
        planning_p50_s=median(result.planning_p50_s for result in episodes),
        refused_share=sum(sum(result.refusals.values()) for result in episodes) / max(plans, 1),
    )


def write_report(rows: Sequence[Row], tasks: Sequence[str], directory: Path, command: str) -> None:
    """Write `results.json` and `results.md`."""
    content = {"command": command, "tasks": list(tasks), "rows": [asdict(row) for row in rows]}
    write_whole(directory / "results.json", (json.dumps(content, indent=1) + "\n").encode())
    write_whole(directory / "results.md", markdown(rows, tasks, command).encode())


def markdown(rows: Sequence[Row], tasks: Sequence[str], command: str) -> str:
    """The tables as Markdown: one without disturbance, and one with, where there is any."""
    parts = []
    for title, disturbed in (("Success in closed loop", False), ("Success against disturbance", True)):
        chosen = [row for row in rows if bool(row.disturbance) == disturbed]
        if not chosen:
            continue
        heading = [
            "policy",
            *(["disturbance"] if disturbed else []),
            *(task.replace("_", " ") for task in tasks),
            "all [95 %]",
            f"difference to {'itself undisturbed' if disturbed else chosen[0].policy} [95 %]",
            "episodes",
            "s",
            "jerk, rad/s³",
            "path, m",
            "plan, ms",
            "plans refused",
        ]
        table = markdown_table(heading, (_cells(row, tasks, disturbed) for row in chosen))
        parts.append(f"## {title}\n\n{table}")
    parts.append(
        "Success in % of the episodes with Wilson's interval; differences in points over the same episodes with "
        f"Newcombe's (method 10). `{command}`"
    )
    return "\n\n".join(parts) + "\n"


def _cells(row: Row, tasks: Sequence[str], disturbed: bool) -> list[str]:
    return [
        row.policy,
        *([row.disturbance] if disturbed else []),
        *(f"{100 * row.tasks[task].value:.0f}" if task in row.tasks else "" for task in tasks),
        # A mean over fewer tasks than the other rows' would mislead.
        in_percent(row.mean) if len(row.tasks) == len(tasks) else "",
        _difference(row.difference, row.mean.count) if row.difference else "",
        str(row.mean.count),
        f"{row.seconds:.1f}",
        f"{row.jerk_rad_s3:.0f}",
        f"{row.path_m:.2f}",
        f"{1e3 * row.planning_p50_s:.0f}",
        f"{100 * row.refused_share:.1f} %",
    ]


def _difference(difference: Estimate, episodes: int) -> str:
    """A difference in points, with the number of pairs where it is not that of the row's episodes."""
    return in_percent(difference, "+") + (f" of {difference.count}" if difference.count != episodes else "")


def in_percent(estimate: Estimate, sign: str = "") -> str:
    """An estimate with its interval, in per cent or points."""
    return f"{100 * estimate.value:{sign}.1f} [{100 * estimate.low:{sign}.1f}, {100 * estimate.high:{sign}.1f}]"

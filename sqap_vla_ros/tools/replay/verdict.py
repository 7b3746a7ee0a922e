"""The verdict on replays that had a baseline: one bag or a folder of them, one table, one line."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import isfinite
from typing import Any

import numpy as np
from rich.table import Table
from rich.text import Text

from sqap_vla_ros.tools.replay.judgement import (
    QUANTITIES,
    Distances,
    Finding,
    Outcome,
    Values,
    judge,
    sentence,
    verdict_of,
)
from sqap_vla_ros.tools.replay.results_reader import Run

# Of `ticks.parquet`: displacement, rotation and gripper between two plans, by what is compared with what.
_COLUMNS = {
    "displacement": "{}_mean_displacement_m",
    "rotation": "{}_rotation_rad",
    "gripper": "{}_gripper_agreement",
}


@dataclass(frozen=True)
class Verdict:
    """What is said of a replay.

    Attributes:
        outcome: PASS, FAIL or UNDECIDED; its value is the exit code.
        sentence: One line that begins with it.
        findings: One for each quantity.
    """

    outcome: Outcome
    sentence: str
    findings: Sequence[Finding]

    def as_json(self) -> dict[str, Any]:
        """For `summary.json`: SI units, shares from 0 to 1, None where there is no figure."""
        quantities = {
            name: {
                "outcome": finding.outcome.name if finding.outcome else "not judged",
                "mean": _or_none(finding.value),
                "noise_floor": _or_none(finding.floor),
                "above_the_floor_95": [_or_none(end) for end in finding.interval],
            }
            for name, finding in zip(QUANTITIES, self.findings, strict=True)
        }
        return {"outcome": self.outcome.name, "sentence": self.sentence, "quantities": quantities}


def verdict_on(runs: Sequence[Run], failed_bags: Sequence[str] = ()) -> Verdict | None:
    """The verdict on the policy of some replays against their baseline; None without a baseline and its noise floor.

    Args:
        runs: Results of the bags.
        failed_bags: Names of bags that could not be replayed.
    """
    if not runs or any(run.summary.get("noise_floor_of") != "baseline" for run in runs):
        return None
    distances = [distances_to_baseline(run) for run in runs if run.planned.any()]
    problems = [f"bags failed: {', '.join(failed_bags)}"] if failed_bags else []
    if empty := [run.name for run in runs if not run.planned.any()]:
        problems.append(f"nothing was planned on {', '.join(empty)}")
    return make_verdict(judge(distances, {}), problems, distances)


def make_verdict(findings: Sequence[Finding], problems: Sequence[str], distances: Sequence[Distances]) -> Verdict:
    """Put findings and other problems into one verdict."""
    ticks = sum(len(bag.values["displacement"]) for bag in distances)
    over = f"{ticks} ticks of {len(distances)} bag{'s' if len(distances) != 1 else ''}"
    return Verdict(verdict_of(findings, problems), sentence(findings, problems, over), findings)


def distances_to_baseline(run: Run) -> Distances:
    """How far the plans of a replay are from those of its baseline."""
    return Distances(_columns(run, "baseline"), noise_floor(run), ticks_per_horizon(run))


def noise_floor(run: Run) -> dict[str, Values] | None:
    """The noise floor of a replay at its planned ticks, as in `Distances`; None if it was not measured."""
    return _columns(run, "noise") if run.summary.get("noise_floor_of") else None


def ticks_per_horizon(run: Run) -> int:
    """Number of ticks whose plans cover the same time."""
    planned = np.flatnonzero(run.planned)
    if len(planned) < 2:
        return 1
    row = run.row(int(planned[0]))
    horizon_s = row["time_step_s"] * len(row["path_m"]) / 3
    apart_s = float(np.median(np.abs(np.diff(run.stamps_ns[planned])))) * 1e-9
    return max(round(horizon_s / apart_s), 1) if apart_s > 0 else 1


def verdict_table(verdict: Verdict) -> Table:
    """What was judged, with its floor and interval."""
    heading, rows = verdict_rows(verdict)
    table = Table(*heading, title="Verdict", title_justify="left")
    for row in rows:
        table.add_row(*map(Text, row))
    return table


def verdict_rows(verdict: Verdict) -> tuple[list[str], list[list[str]]]:
    """Heading and rows of a table of the findings."""
    heading = ["mean over the ticks", "outcome", "to the reference", "noise floor", "difference, 95 % interval"]
    rows = []
    for finding in verdict.findings:
        form, (low, high) = finding.quantity.format, finding.interval
        rows.append(
            [
                finding.quantity.name,
                finding.outcome.name if finding.outcome else "not judged",
                form(finding.value) if isfinite(finding.value) else "–",
                form(finding.floor) if isfinite(finding.floor) else "–",
                f"{finding.quantity.number(low)} to {form(high)}" if isfinite(low) else "–",
            ]
        )
    return heading, rows


def _columns(run: Run, reference: str) -> dict[str, Values]:
    columns = {name: run.column(column.format(reference))[run.planned] for name, column in _COLUMNS.items()}
    columns["gripper"] = 1 - columns["gripper"]
    return columns


def _or_none(value: float) -> float | None:
    return value if isfinite(value) else None

"""Tables of a report."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from sqap_vla_ros.tools.replay.columns import AGAINST, METRIC_NAMES, bad_tail, with_unit
from sqap_vla_ros.tools.replay.results_reader import Run
from sqap_vla_ros.tools.replay.verdict import Verdict, verdict_rows


@dataclass(frozen=True)
class Cell:
    """A cell of a table; `target` is its link."""

    words: str
    target: str = ""


@dataclass(frozen=True)
class Table:
    """A table; `words`: it holds text rather than numbers, `remarks`: its last column does."""

    title: str
    heading: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    words: bool = False
    remarks: bool = False


def bag_table(runs: Sequence[Run], report: str = "") -> Table:
    """Make a table with one row per bag; each row links to `report` in the bag's directory, if given."""
    heading = [
        "bag", "length", "planned", "rejected", "ring used", "from baseline", "from truth", "noise floor",
        "median plan", "remarks",
    ]  # fmt: skip
    columns = [*(column for column, _ in AGAINST.values()), "noise_mean_displacement_m"]
    rows = []
    for run in runs:
        summary = run.summary
        planned = summary["ticks_planned"]
        plan = summary["seconds"].get("policy", {}).get("total")
        rows.append(
            [
                Cell(run.directory.name, f"{quote(run.directory.name)}/{report}") if report else Cell(run.name),
                Cell(f"{summary.get('bag_seconds', float('nan')):.1f} s"),
                Cell(str(planned)),
                Cell(str(summary["ticks_refused"])),
                Cell(f"{100 * summary['ring_coverage']['used'] / planned:.0f} %" if planned else "–"),
                *(Cell(with_unit(column, run.mean(column))) for column in columns),
                Cell(f"{1e3 * plan['p50']:.0f} ms" if plan else "–"),
                Cell("; ".join(remarks(summary)) or "–"),
            ]
        )
    return Table("Bags", heading, rows, remarks=True)


def remarks(summary: Mapping[str, Any]) -> list[str]:
    """What a line about a bag has to add: the damage, and why most of the rejected ticks were rejected."""
    refusals = [f"{count} rejected: {reason}" for reason, count in summary["refusals"].items()]
    refusals += ["nothing was planned"] * (not summary["ticks_planned"] and not refusals)
    return [*filter(None, [summary["bag_damage"]]), *summary.get("notes", []), *refusals[:1]]


def verdict_tables(verdict: Verdict | None) -> list[Table]:
    """Make a table of what was judged, if anything was."""
    if verdict is None:
        return []
    heading, rows = verdict_rows(verdict)
    return [Table("Verdict", heading, [[Cell(words) for words in row] for row in rows])]


def metric_table(run: Run, shown: Sequence[int]) -> list[Table]:
    """Make a table of all metrics of the run, if it has any. Worst ticks that are `shown` on the page are linked."""
    rows = []
    at = {int(run.stamps_ns[tick]): tick for tick in shown}
    for column, values in run.summary["metrics"].items():
        worst_s = (values["worst_stamp_ns"] - run.begin_ns) * 1e-9
        tick = at.get(values["worst_stamp_ns"])
        rows.append(
            [
                Cell(METRIC_NAMES[column]),
                *(Cell(with_unit(column, values[name])) for name in ("mean", "p50")),
                Cell(bad_tail(column, values)),
                Cell(with_unit(column, values["worst"])),
                Cell(f"{worst_s:.2f} s", "" if tick is None else f"#tick-{tick}"),
            ]
        )
    return [Table("Metrics", ("", "mean", "median", "bad tail", "worst", "at"), rows)] if rows else []


def reason_table(title: str, heading: Sequence[str], reasons: Mapping[str, Any]) -> list[Table]:
    """Make a table of reasons and their values, if there are any."""
    rows = [[Cell(words), Cell(str(value))] for words, value in reasons.items()]
    return [Table(title, heading, rows, words=True)] if rows else []

"""The page of a report: one HTML file that needs neither network nor scripts, and shows the video that lies next to it.

For one bag it has the verdict, plots, the worst ticks with their pictures, the metrics and the settings. For several
bags it has their verdict, a table of them and their common figures; each bag has its own report in its own directory.
"""

from collections.abc import Mapping, Sequence
from itertools import zip_longest
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment, PackageLoader
from markupsafe import Markup

from sqap_vla_ros.config.files import flatten
from sqap_vla_ros.core.files import write_whole
from sqap_vla_ros.core.reasons import ReasonCounter
from sqap_vla_ros.tools.replay.annotate import ANNOTATED
from sqap_vla_ros.tools.replay.columns import AGAINST, with_unit
from sqap_vla_ros.tools.replay.provenance import name_in
from sqap_vla_ros.tools.replay.report import svg
from sqap_vla_ros.tools.replay.report.plots import Plot, motion_of_run, plots_of_run, ring_plot
from sqap_vla_ros.tools.replay.report.tables import bag_table, metric_table, reason_table, verdict_tables
from sqap_vla_ros.tools.replay.report.ticks import ticks_to_look_at, worst_ticks
from sqap_vla_ros.tools.replay.results_reader import Run, find_runs, read_summary
from sqap_vla_ros.tools.replay.verdict import verdict_on
from sqap_vla_ros.tools.replay.video import OVERLAY

REPORT = "report.html"  # in the directory of a run
_NOT_SETTINGS = (
    "metrics", "seconds", "settings", "refusals", "ring_coverage", "bag_damage", "recorded", "policy_name",
    "baseline_name", "date", "machine", "device", "version", "notes",
)  # fmt: skip


def write_report(directory: Path) -> Path:
    """Write `report.html` of a replay of one bag, or of several.

    Args:
        directory: Output directory of `sqap-vla replay`.

    Raises:
        RunError: It holds no complete results.
    """
    runs = find_runs(directory)
    one = runs[0].directory == directory
    content = _of_one(runs[0]) if one else _of_several(directory, runs)
    # Only the page's own markup is used: everything that comes from a bag is escaped.
    template = Environment(
        loader=PackageLoader("sqap_vla_ros.tools.replay.report", ""), autoescape=True, trim_blocks=True
    )
    path = directory / REPORT
    write_whole(path, template.get_template(REPORT).render(content).encode())
    return path


def _of_one(run: Run) -> dict[str, Any]:
    summary = run.summary
    against = [name for name, (column, _) in AGAINST.items() if np.isfinite(run.mean(column))]
    chosen = worst_ticks(run, [AGAINST[name][0] for name in against])
    ranked = zip_longest(*chosen.values())  # the worst tick of each metric first, then the second worst
    ticks = list(dict.fromkeys(tick for rank in ranked for tick in rank if tick is not None))
    planned = np.flatnonzero(run.planned)
    if not ticks:
        ticks = [int(tick) for tick in planned[np.linspace(0, len(planned) - 1, 4).astype(int)]] if planned.size else []
    verdict = verdict_on([run])
    with_files = (("overlay video", OVERLAY), ("annotated recording (MCAP)", ANNOTATED))
    return {
        "title": f"{name_in(summary)} on {run.name}",
        "subtitle": _subtitle(summary),
        "provenance": _provenance(summary),
        "notes": [*filter(None, [summary["bag_damage"]]), *summary.get("notes", [])],
        "verdict": verdict,
        "video": OVERLAY if (run.directory / OVERLAY).exists() else "",
        "links": [(words, name) for words, name in with_files if (run.directory / name).exists()],
        "tiles": _tiles(run),
        "motion": motion_of_run(run, against),
        "plots": plots_of_run(run, against, chosen),
        "ticks_title": "Worst ticks" if against else "Ticks",
        "path_legend": "The plan leads from yellow to red"
        + ("; cyan: the recorded motion" if "truth" in against else "")
        + ("; violet: the baseline's plan" if "baseline" in against else "")
        + ". Kept patches: orange by attention, green in the ring, blue by farthest points; dark patches are pruned.",
        "ticks": ticks_to_look_at(run, ticks, chosen),
        "first_tables": verdict_tables(verdict),
        "tables": [
            bag_table([run]),
            *metric_table(run, ticks),
            *reason_table("Rejected ticks", ("reason", "ticks"), summary["refusals"]),
        ],
        "settings": _settings(summary),
    }


def _of_several(directory: Path, runs: Sequence[Run]) -> dict[str, Any]:
    summary = read_summary(directory)
    failed: Mapping[str, str] = summary.get("failed", {})
    unused = ReasonCounter()
    for run in runs:
        for reason, count in run.summary["ring_coverage"]["reasons"].items():
            unused.add(reason, count)
    shown = []
    for name, (column, words) in AGAINST.items():
        means = np.array([run.mean(column) for run in runs])
        if np.isfinite(means).any():
            drawing = svg.per_bag(f"bags-{name}", [run.directory.name for run in runs], means)
            shown.append(Plot(f"Displacement from {words}, mean of each bag", Markup(drawing)))
    used = sum(run.summary["ring_coverage"]["used"] for run in runs)
    shown.append(ring_plot(used, unused.most_common()))
    damaged = [run.directory.name for run in runs if run.summary["bag_damage"]]
    planned = sum(run.summary["ticks_planned"] for run in runs)
    first = runs[0].summary
    verdict = verdict_on(runs, list(failed))
    return {
        "title": f"{name_in(first)} on {len(runs)} bag{'s' if len(runs) > 1 else ''}",
        "subtitle": _subtitle(first),
        "provenance": _provenance(first),
        "verdict": verdict,
        "notes": [f"damaged, read up to the damage: {', '.join(damaged)}"] if damaged else [],
        "tiles": [
            (str(len(runs)), "bags replayed"),
            (str(len(failed)), "bags failed"),
            (str(planned), "ticks planned"),
            (str(sum(run.summary["ticks_refused"] for run in runs)), "ticks rejected"),
        ],
        "plots": shown,
        "first_tables": verdict_tables(verdict),
        "tables": [
            bag_table(runs, REPORT),
            *reason_table("Failed bags", ("bag", "error"), failed),
        ],
        "settings": _settings({name: value for name, value in first.items() if not name.startswith(("bag", "ticks"))}),
    }


def _subtitle(summary: Mapping[str, Any]) -> str:
    baseline = f"compared with {name_in(summary, 'baseline')}" if summary["baseline"] else "no baseline"
    return " · ".join((baseline, f"robot: {summary.get('robot', '?')}"))


def _provenance(summary: Mapping[str, Any]) -> str:
    if "date" not in summary:
        return ""
    when = summary["date"].replace("T", " ").replace("+00:00", " UTC")
    return f"{when} · sqap_vla {summary['version']} · {summary['machine']}, on {summary['device']}"


def _tiles(run: Run) -> list[tuple[str, str]]:
    summary = run.summary
    planned = summary["ticks_planned"]
    tiles = [(str(planned), "ticks planned"), (str(summary["ticks_refused"]), "ticks rejected")]
    if planned:
        tiles.append((f"{100 * summary['ring_coverage']['used'] / planned:.0f} %", "of the plans used the ring"))
    for column, words in AGAINST.values():
        if np.isfinite(run.mean(column)):
            tiles.append((with_unit(column, run.mean(column)), f"mean displacement from {words}"))
    if overlap := summary["metrics"].get("kept_overlap"):
        tiles.append((f"{100 * overlap['mean']:.0f} %", "of the baseline's kept tokens, kept by the policy too"))
    seconds = {policy: stages["total"]["p50"] for policy, stages in summary["seconds"].items() if "total" in stages}
    if "policy" in seconds:
        tiles.append((f"{1e3 * seconds['policy']:.0f} ms", "median plan"))
    if seconds.get("policy") and "baseline" in seconds:
        tiles.append((f"{seconds['baseline'] / seconds['policy']:.2f} ×", "as fast as the baseline"))
    if recorded := summary.get("recorded"):
        same = f"{recorded['identical_bit_for_bit']} of {recorded['compared']}"
        tiles.append((same, "chunks same as recorded, bit for bit"))
    return tiles


def _settings(summary: Mapping[str, Any]) -> list[tuple[str, str]]:
    of_run = {name: value for name, value in summary.items() if name not in _NOT_SETTINGS}
    return [(name, str(value)) for name, value in (of_run | flatten(summary.get("settings", {}))).items()]

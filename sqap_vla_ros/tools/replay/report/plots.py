"""Plots of a report, from the results of a replay."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import isqrt

import numpy as np
from markupsafe import Markup

from sqap_vla_ros.core.token_selection import Reason
from sqap_vla_ros.reporting.overlay import REASON_NAMES
from sqap_vla_ros.tools.replay.columns import AGAINST
from sqap_vla_ros.tools.replay.report import svg
from sqap_vla_ros.tools.replay.report.motion import motion
from sqap_vla_ros.tools.replay.report.svg import Values
from sqap_vla_ros.tools.replay.results_reader import Run


@dataclass(frozen=True)
class Plot:
    """A plot of the page; `svg` is its inline element."""

    title: str
    svg: Markup
    caption: str = ""


def plots_of_run(run: Run, against: Sequence[str], chosen: Mapping[str, Sequence[int]]) -> list[Plot]:
    """Draw all plots for which the run has figures.

    Args:
        run: The results of one bag.
        against: References that its plans are measured against.
        chosen: The ticks that the page shows, by column.
    """
    times_s = np.asarray((run.stamps_ns - run.begin_ns) * 1e-9, np.float64)
    shown = []
    for name in against:
        column, words = AGAINST[name]
        values = 1e3 * run.column(column)
        series = {"policy": (values, svg.POLICY)}
        steps = {"policy": (_distances(run, "path_m", f"{name}_path_m"), svg.POLICY)}
        # The baseline's own distance from the truth: a compressed policy need not be nearer than its original.
        if name == "truth" and "baseline" in against:
            series["baseline"] = 1e3 * run.column("baseline_truth_mean_displacement_m"), svg.BASELINE
            steps["baseline"] = _distances(run, "baseline_path_m", "truth_path_m"), svg.BASELINE
        marks = [(float(times_s[tick]), float(values[tick]), f"tick-{tick}") for tick in chosen[column]]
        drawing = svg.over_time(f"displacement-{name}", times_s, series, "mean over the horizon [mm]", marks)
        shown.append(Plot(f"Displacement from {words}", Markup(drawing), "Circles: the ticks shown below."))
        drawing = svg.per_step(f"steps-{name}", steps, float(np.nanmedian(run.column("time_step_s"))))
        caption = "Line: median over the ticks; band: up to 95 %."
        shown.append(Plot(f"Per step, from {words}", Markup(drawing), caption))
    if run.summary["seconds"]:
        shown.append(Plot("Where the time goes", Markup(svg.latency("latency", run.summary["seconds"]))))
    if run.planned.any():
        counts, kept, share = _kept(run)
        drawing = svg.kept_by_reason("kept-by-reason", times_s[run.planned], counts, kept)
        shown.append(Plot("Kept tokens", Markup(drawing), "A token may be kept for several reasons."))
        shown.append(Plot("Where tokens were kept", Markup(svg.kept_tokens("kept-tokens", share))))
        coverage = run.summary["ring_coverage"]
        shown.append(ring_plot(coverage["used"], coverage["reasons"]))
    return shown


def motion_of_run(run: Run, against: Sequence[str]) -> list[Plot]:
    """Draw some plans of a run along the recorded motion, if it has any; arguments as for `plots_of_run`."""
    if not run.planned.any():
        return []
    caption = "Black or white: the recorded motion; blue: plans, each from where the tool was"
    caption += "; pink: the baseline's plans." if "baseline" in against else "."
    return [Plot("Plans and recorded motion", Markup(motion("motion", run)), caption)]


def ring_plot(used: int, reasons: Mapping[str, int]) -> Plot:
    """Draw the number of ticks with ring, and the reasons why others have none."""
    drawing = svg.ring_coverage("ring", {"ring used": used, **reasons})
    return Plot("Ring around the tool", Markup(drawing), "Number of ticks with ring, and reasons for those without.")


def _distances(run: Run, column: str, other_column: str) -> Values:
    """Distances between two paths per tick and step, float64 (ticks, horizon), metres."""
    parts = [
        np.linalg.norm((path - other).reshape(len(path), path.shape[1] // 3, 3), axis=2)
        for path, other in run.lists(column, other_column)
    ]
    return np.concatenate(parts)


def _kept(run: Run) -> tuple[dict[Reason, Values], Values, Values]:
    """Kept tokens per planned tick, by reason and in all, (ticks,), and the share of ticks that keep each patch."""
    counts: dict[Reason, list[Values]] = {reason: [] for reason in REASON_NAMES}
    kept: list[Values] = []
    of_patch: Values = np.zeros(1)
    for (part,) in run.lists("token_reasons"):
        reasons = part[np.isfinite(part).all(axis=1)].astype(np.uint8)
        for reason, parts in counts.items():
            parts.append(((reasons & reason) > 0).sum(axis=1))
        kept.append((reasons > 0).sum(axis=1))
        of_patch = of_patch + (reasons > 0).sum(axis=0)
    share = of_patch.reshape(isqrt(of_patch.size), -1) / run.planned.sum()
    return {reason: np.concatenate(parts) for reason, parts in counts.items()}, np.concatenate(kept), share

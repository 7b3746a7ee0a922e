"""A fidelity report as a table, as JSON and as a plot."""

import json
import re
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

from matplotlib.figure import Figure
from rich import box
from rich.table import Table

from sqap_vla_ros.core.files import whole_file, write_whole
from sqap_vla_ros.tools.compression.agreement import TOP_K
from sqap_vla_ros.tools.compression.fidelity import FidelityReport

SHUFFLED = "shuffled scores"


def fidelity_table(report: FidelityReport) -> Table:
    """Make a table with one row per model and one for shuffled scores; it fits a terminal of 80 columns."""
    title = f"compared with float, {report.frames} frames of {', '.join(report.sources)}"
    caption = "top and kept: visual tokens in common [%]"
    table = Table(title=title, caption=caption, box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    table.add_column("\nrecipe", min_width=16, overflow="fold")
    for heading in ("cognition\nerror", "action\nerror", *(f"top\n{k}" for k in TOP_K), "\nkept", "layer\nerror"):
        table.add_column(heading, justify="right")
    for model in report.models:
        errors = tuple(model.layer_errors.values())
        layers = f"{sum(errors) / len(errors):.3f}" if errors else "–"
        overlaps = _percents(model.topk_overlap, model.kept_overlap)
        table.add_row(model.name, f"{model.cognition_error:.3f}", f"{model.action_error:.3f}", *overlaps, layers)
    table.add_section()
    table.add_row(SHUFFLED, "–", "–", *_percents(report.shuffled_topk_overlap, report.shuffled_kept_overlap), "–")
    return table


def write_json(report: FidelityReport, path: Path) -> None:
    """Write all figures and the error of each layer."""
    write_whole(path, (json.dumps(asdict(report), indent=2) + "\n").encode())


def write_plot(report: FidelityReport, path: Path) -> None:
    """Draw errors of the outputs, overlaps of the attention, and errors of the layers, side by side (PNG)."""
    figure = Figure(figsize=(14, 3.6), layout="constrained")
    outputs, overlaps, layers = figure.subplots(1, 3)
    names = [model.name for model in report.models]
    places = range(len(names))
    outputs.barh(places, [model.cognition_error for model in report.models], -0.4, align="edge", label="cognition")
    outputs.barh(places, [model.action_error for model in report.models], 0.4, align="edge", label="actions")
    outputs.set_yticks(places, names)
    outputs.invert_yaxis()
    outputs.set(title="relative error", xlim=(0, None))
    outputs.legend()
    for model in report.models:
        overlaps.plot(TOP_K, [100 * model.topk_overlap[k] for k in TOP_K], marker="o", label=model.name)
        errors = _by_depth(model.layer_errors)
        layers.plot(list(errors), list(errors.values()), marker="o", label=model.name)
    chance = [100 * report.shuffled_topk_overlap[k] for k in TOP_K]
    overlaps.plot(TOP_K, chance, color="grey", linestyle=":", label=SHUFFLED)
    overlaps.set_xscale("log", base=2)
    overlaps.set_xticks(TOP_K, [str(k) for k in TOP_K])
    overlaps.set(title="most attended visual tokens in common", xlabel="k", ylabel="%", ylim=(0, 100))
    layers.set(title="output error by rounded weights", xlabel="decoder layer", ylim=(0, None))
    layers.xaxis.get_major_locator().set_params(integer=True)
    figure.legend(*overlaps.get_legend_handles_labels(), loc="outside right upper", fontsize="small")
    with whole_file(path) as part:
        figure.savefig(part, dpi=70, format="png")


def _by_depth(errors: Mapping[str, float]) -> dict[int, float]:
    """Mean over the linear layers of each decoder layer."""
    found: dict[int, list[float]] = defaultdict(list)
    for name, error in errors.items():
        found[int(re.match(r"\d+", name)[0])].append(error)  # type: ignore[index]
    return {index: sum(values) / len(values) for index, values in sorted(found.items())}


def _percents(topk: Mapping[int, float], kept: float) -> tuple[str, ...]:
    return tuple(f"{100 * share:.1f}" for share in (*(topk[k] for k in TOP_K), kept))

"""The plots of the pages of results, drawn from `benchmarks/results/` on white, for a column of 830 pixels."""

import io
from collections.abc import Callable, Mapping

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from scipy.stats import binomtest

from benchmarks.columns import TABLES
from benchmarks.tables import read

_WIDTH_INCHES = 8.3
_DPI = 200
_FLOAT, _BOTH = "#0072B2", "#D55E00"  # colour-blind safe (Okabe and Ito 2008)
_DISTURBANCES = {
    "tf_offset": "base → camera transform off by, m",
    "camera_rotation": "camera turned by, degrees",
    "camera_translation": "camera moved by, m",
    "image_noise": "pixel noise, grey levels",
    "drop_frames": "share of the frames lost",
    "delay": "image to command delayed by, s",
}


def pictures() -> dict[str, bytes]:
    """All plots, by their place in the site."""
    drawn: Mapping[str, Callable[[], Figure]] = {
        "closed_loop": lambda: success("closed_loop"),
        "planted_outliers": lambda: success("planted_outliers"),
        "robustness": robustness,
        "cpu_speed": cpu_speed,
        "fidelity": fidelity,
        "outliers": outliers,
    }
    with matplotlib.rc_context({"font.size": 9, "axes.spines.top": False, "axes.spines.right": False}):
        return {f"results/plots/{name}.png": _png(draw()) for name, draw in drawn.items()}


def success(stem: str) -> Figure:
    """Success per row with its interval, and a mark per task where the results have one."""
    figures, labels = read(stem)["figures"], TABLES[stem].labels
    rows = [row for row in labels if f"success_{row}" in figures]
    figure = Figure(figsize=(_WIDTH_INCHES, 1.3 + 0.32 * len(rows)), layout="constrained")
    axes = figure.subplots()
    means = np.array([figures[f"success_{row}"] for row in rows])
    low, high = (np.array([figures[f"success_{row}_{end}"] for row in rows]) for end in ("low", "high"))
    axes.barh(range(len(rows)), means, xerr=(means - low, high - means), color="#B7C9DD", capsize=3)
    tasks = ("pick_can", "move_near", "close_drawer", "place_in_drawer", "bowl_on_plate")
    for task, marker in zip(tasks, "o^sDv", strict=True):
        found = {place: figures.get(f"task_{task}_{row}") for place, row in enumerate(rows)}
        shown = {place: value for place, value in found.items() if value is not None}
        if shown:
            label = task.replace("_", " ")
            axes.scatter(list(shown.values()), list(shown), s=20, marker=marker, label=label, zorder=3)
    counts = [f" ({figures[f'played_{row}']:.0f})" if f"played_{row}" in figures else "" for row in rows]
    names = [labels[row].replace("`", "") + count for row, count in zip(rows, counts, strict=True)]
    axes.set_yticks(range(len(rows)), names)
    axes.invert_yaxis()
    axes.set(xlabel="success, % (bar: all tasks, with its 95 % interval)", xlim=(0, 102))
    axes.grid(axis="x", alpha=0.3)
    if axes.get_legend_handles_labels()[0]:
        figure.legend(loc="outside upper center", ncols=5)
    return figure


def robustness() -> Figure:
    """Success against the size of each disturbance, float and pruned, with Wilson's intervals."""
    result = read("robustness")
    count = result["episodes_per_task"] * len(result["task_names"])
    figure = Figure(figsize=(_WIDTH_INCHES, 5.4), layout="constrained")
    panels = figure.subplots(2, 3, sharey=True)
    for panel, (kind, words) in zip(panels.flat, _DISTURBANCES.items(), strict=True):
        for policy, label, colour in (("fp16", "float", _FLOAT), ("sqap", "both (pruning + W4A4)", _BOTH)):
            found = {0.0: result["figures"][f"success_{policy}_none"]}
            start = f"success_{policy}_{kind}_"
            found |= {float(k.removeprefix(start)): v for k, v in result["figures"].items() if k.startswith(start)}
            sizes, rates = list(found), np.array(list(found.values()))
            ends = [binomtest(round(r * count / 100), count).proportion_ci(method="wilson") for r in rates]
            spread = (rates - [100 * end.low for end in ends], [100 * end.high for end in ends] - rates)
            panel.errorbar(sizes, rates, spread, marker="o", capsize=3, label=label, color=colour)
        panel.set(xlabel=words, ylim=(-3, 103))
        panel.grid(alpha=0.3)
    for panel in panels[:, 0]:
        panel.set_ylabel("success, %")
    figure.legend(*panels[0, 0].get_legend_handles_labels(), loc="outside upper center", ncols=2)
    return figure


def cpu_speed() -> Figure:
    """Seconds per plan and stage."""
    medians = read("cpu_speed")["medians_s"]
    rows = [row for row in TABLES["cpu_speed"].labels if row in medians]
    stages = [stage for stage in medians[rows[0]] if stage != "total"]
    figure = Figure(figsize=(_WIDTH_INCHES, 4), layout="constrained")
    axes = figure.subplots()
    left = np.zeros(len(rows))
    for stage in stages:
        seconds = np.array([medians[row].get(stage, 0.0) for row in rows])
        axes.barh(range(len(rows)), seconds, left=left, label=stage.replace("_", " "))
        left += seconds
    axes.set_yticks(range(len(rows)), [TABLES["cpu_speed"].labels[row].replace("`", "") for row in rows])
    axes.invert_yaxis()
    axes.set_xlabel("seconds per plan, median")
    figure.legend(loc="outside upper center", ncols=len(stages))
    return figure


def fidelity() -> Figure:
    """Errors of the recipes on a small random model, and overlap of what they look at."""
    figures = read("fidelity")["figures"]
    start = "cognition_error_"
    recipes = [name.removeprefix(start) for name in figures if name.startswith(start)]
    recipes.sort(key=lambda recipe: figures[start + recipe])
    panels = {
        start: "error of the cognition\nfeature, relative",
        "action_error_": "error of the actions,\nrelative",
        "topk32_overlap_": "top-32 tokens\nin common, %",
    }
    figure = Figure(figsize=(_WIDTH_INCHES, 3), layout="constrained")
    for axes, (name, words) in zip(figure.subplots(1, 3, sharey=True), panels.items(), strict=True):
        axes.barh(recipes, [figures[name + recipe] for recipe in recipes], color=_FLOAT)
        axes.set_xlabel(words)
        axes.invert_yaxis()
    return figure


def outliers() -> Figure:
    """Error of attention per recipe, for each place where outliers may arise."""
    cases = read("fidelity")["outliers"]
    titles = {"stream": "in the residual stream", "gain": "by the norm's gain", "dominant": "most of queries and keys"}
    recipes = sorted(cases["gain"], key=lambda recipe: cases["stream"][recipe]["probability_error"])
    figure = Figure(figsize=(_WIDTH_INCHES, 3.2), layout="constrained")
    for axes, (case, title) in zip(figure.subplots(1, 3, sharex=True, sharey=True), titles.items(), strict=True):
        axes.barh(recipes, [cases[case][recipe]["probability_error"] for recipe in recipes], color=_FLOAT)
        axes.set(xlabel="error of attention, relative")
        axes.set_title(f"outliers {title}", fontsize=9)
    axes.invert_yaxis()
    return figure


def _png(figure: Figure) -> bytes:
    stream = io.BytesIO()
    figure.savefig(stream, format="png", dpi=_DPI, metadata={"Software": None})
    return stream.getvalue()

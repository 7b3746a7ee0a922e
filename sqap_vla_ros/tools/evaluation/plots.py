"""Plots of success rates."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from sqap_vla_ros.core.files import whole_file
from sqap_vla_ros.reporting.statistics import Estimate
from sqap_vla_ros.tools.evaluation.report import Row
from sqap_vla_ros.tools.evaluation.variants import DISTURBANCES


@dataclass(frozen=True)
class Bar:
    """Success of one policy.

    Attributes:
        label: Name of the policy in the plot.
        mean: Success rate over the episodes of all tasks.
        tasks: Success rate by task.
    """

    label: str
    mean: Estimate
    tasks: Mapping[str, float]

    @classmethod
    def of(cls, row: Row) -> "Bar":
        """The bar of a row of a report."""
        return cls(row.policy, row.mean, {task: rate.value for task, rate in row.tasks.items()})


def plot_success(bars: Sequence[Bar], path: Path) -> None:
    """Plot a bar per policy with its interval, and a mark per task."""
    figure = Figure(figsize=(9, 1.6 + 0.38 * len(bars)), layout="constrained")
    axes = figure.subplots()
    places = np.arange(len(bars))
    means = [bar.mean for bar in bars]
    axes.barh(places, [100 * mean.value for mean in means], xerr=_whiskers(means), color="#B7C9DD", capsize=3)
    tasks = dict.fromkeys(task for bar in bars for task in bar.tasks)
    for task, marker in zip(tasks, "os^DvP*X", strict=False):
        found = {place: 100 * bar.tasks[task] for place, bar in enumerate(bars) if task in bar.tasks}
        axes.scatter(list(found.values()), list(found), s=22, marker=marker, label=task.replace("_", " "), zorder=3)
    axes.set_yticks(places, [f"{bar.label}  ({bar.mean.count})" for bar in bars])
    axes.invert_yaxis()
    axes.set(xlabel="success, % (bar: all tasks, 95 % interval; number of episodes)", xlim=(0, 102))
    axes.grid(axis="x", alpha=0.3)
    figure.legend(loc="outside upper center", ncols=min(len(tasks), 6), fontsize="small")
    with whole_file(path) as part:
        figure.savefig(part, dpi=80, format="png")


def plot_robustness(rows: Sequence[Row], path: Path) -> None:
    """Plot success against the size of each disturbance, a line per policy that starts undisturbed."""
    kinds = list(dict.fromkeys(row.disturbance.partition("=")[0] for row in rows if row.disturbance))
    figure = Figure(figsize=(3.1 * len(kinds) + 0.6, 3.4), layout="constrained")
    for panel, kind in zip(figure.subplots(1, len(kinds), sharey=True, squeeze=False)[0], kinds, strict=True):
        for policy in dict.fromkeys(row.policy for row in rows):
            found = {
                float(row.disturbance.partition("=")[2] or 0): row.mean
                for row in rows
                if row.policy == policy and row.disturbance.partition("=")[0] in ("", kind)
            }
            sizes = sorted(found)
            means = [found[size] for size in sizes]
            rates = [100 * mean.value for mean in means]
            panel.errorbar(sizes, rates, yerr=_whiskers(means), marker="o", capsize=3, label=policy)
        panel.set(xlabel=f"{kind.replace('_', ' ')} [{DISTURBANCES[kind][1]}]", ylim=(-3, 103))
        panel.grid(alpha=0.3)
    figure.axes[0].set_ylabel("success, %")
    figure.legend(*figure.axes[0].get_legend_handles_labels(), loc="outside upper center", ncols=4, fontsize="small")
    with whole_file(path) as part:
        figure.savefig(part, dpi=80, format="png")


def _whiskers(estimates: Sequence[Estimate]) -> np.ndarray:
    """Distances from each value to the ends of its interval, float64 (2, n), in per cent."""
    ends = [(estimate.value - estimate.low, estimate.high - estimate.value) for estimate in estimates]
    return 100 * np.array(ends).T.clip(min=0)

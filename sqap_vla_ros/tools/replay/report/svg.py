"""Drawing of plots as inline SVG: scalable, with selectable text, in the page's own colours.

Lines and text take the page's colour, so that they can be read on white and on black; figures are small, so that they
fit a phone.
"""

import io
import re
import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from sqap_vla_ros.core.token_selection import Reason
from sqap_vla_ros.reporting.overlay import REASON_COLOURS, REASON_NAMES

# After Okabe and Ito; distinguishable on white and on black.
POLICY, BASELINE, GOOD, BAD = "#2E86C8", "#CC79A7", "#009E73", "#D55E00"
INK = "#010203"  # placeholder for the page's text colour
STYLE: Any = {
    "svg.fonttype": "none",
    "svg.hashsalt": "sqap_vla",
    "font.size": 9,
    "figure.constrained_layout.w_pad": 0.09,  # room for a page's font that is larger than the one measured with
    "axes.spines.top": False,
    "axes.spines.right": False,
    "legend.frameon": False,
    "legend.fontsize": 8,
    "figure.facecolor": "none",
    "axes.facecolor": "none",
    **{
        name: INK
        for name in ("text.color", "axes.edgecolor", "axes.labelcolor", "axes.titlecolor", "xtick.color", "ytick.color")
    },
}
_BINS = 240  # largest number of points of a line: about its width in pixels on a phone

Values = NDArray[np.float64]


def _figure(height_in: float = 2.5) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(4.4, height_in), layout="constrained")
    return figure, figure.subplots()


def as_svg(figure: Figure, name: str) -> str:
    """Write a figure as an `<svg>` element whose ids are unique in a page with several."""
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    text = buffer.getvalue()
    text = text[text.index("<svg") :].replace(INK, "currentColor")
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    # Links to the page's own anchors are kept.
    text = re.sub(r'(\bid="|url\(#|href="#)(?!tick-)', rf"\g<1>{name}-", text)
    return text.replace("<svg", f'<svg role="img" data-plot="{name}"', 1)


def binned(times: Values, values: Values) -> tuple[Values, Values, Values, Values]:
    """Summarise a series in at most `_BINS` parts: time, median, least and largest value. NaN values are left out."""
    known = np.isfinite(values)
    times, values = times[known], values[known]
    parts = np.array_split(np.arange(len(values)), min(_BINS, len(values)) or 1)
    statistics = [
        (times[part].mean(), np.median(values[part]), values[part].min(), values[part].max())
        for part in parts
        if part.size
    ]
    return tuple(np.array(statistics, np.float64).reshape(-1, 4).T)  # type: ignore[return-value]


def over_time(
    name: str,
    times_s: Values,
    series: Mapping[str, tuple[Values, str]],
    ylabel: str,
    marks: Sequence[tuple[float, float, str]] = (),
) -> str:
    """Draw lines over the time of the bag: medians, in a band from the least to the largest value.

    Args:
        name: Name of the plot.
        times_s: float64 (ticks,).
        series: Values, float64 (ticks,), and colour by label.
        ylabel: Label of the axis, with its unit.
        marks: Time, value and anchor of ticks that link to a place in the page.
    """
    with mpl.rc_context(STYLE):
        figure, axes = _figure()
        for label, (values, colour) in reversed(list(series.items())):  # the first one is drawn on top
            at_s, median, least, largest = binned(times_s, values)
            axes.plot(at_s, median, color=colour, label=label, linewidth=1.3)
            if len(at_s) < np.isfinite(values).sum():
                axes.fill_between(at_s, least, largest, color=colour, alpha=0.25, linewidth=0)
        if marks:
            at, value, anchors = zip(*marks, strict=True)
            dots = axes.scatter(at, value, s=36, facecolors="none", edgecolors=BAD, linewidths=1.6, zorder=5)
            dots.set_urls([f"#{anchor}" for anchor in anchors])
        axes.set(xlabel="time in the bag [s]", ylabel=ylabel, ylim=(0, None))
        axes.grid(alpha=0.2)
        if len(series) > 1:
            figure.legend(loc="outside upper left", ncols=len(series))
        return as_svg(figure, name)


def per_step(name: str, series: Mapping[str, tuple[Values, str]], step_s: float) -> str:
    """Draw displacement over the steps of the horizon: the median, and a band up to the 95th percentile.

    Args:
        name: Name of the plot.
        series: Values, float64 (ticks, horizon), metres, NaN where unknown, and colour by label.
        step_s: Duration of a step.
    """
    with mpl.rc_context(STYLE):
        figure, axes = _figure()
        for label, (values, colour) in reversed(list(series.items())):  # the first one is drawn on top
            steps = np.flatnonzero(np.isfinite(values).any(axis=0))
            if not steps.size:
                continue
            median, high = np.nanpercentile(1e3 * values[:, steps], (50, 95), axis=0)
            axes.plot(steps + 1, median, color=colour, label=label, marker="o", markersize=2.5)
            axes.fill_between(steps + 1, median, high, color=colour, alpha=0.2, linewidth=0)
        axes.set(xlabel=f"step of the chunk (of {step_s:g} s)", ylabel="displacement [mm]", ylim=(0, None))
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.grid(alpha=0.2)
        if len(series) > 1:
            figure.legend(loc="outside upper left", ncols=len(series))
        return as_svg(figure, name)


def latency(name: str, seconds: Mapping[str, Mapping[str, Mapping[str, float]]]) -> str:
    """Draw the median duration of each stage as bars, with a line to the 95th and a dot at the 99th percentile.

    Args:
        name: Name of the plot.
        seconds: p50, p95 and p99 by stage, by "policy" and "baseline".
    """
    stages = list(dict.fromkeys(stage for of_policy in seconds.values() for stage in of_policy))
    colours = {"policy": POLICY, "baseline": BASELINE}
    width = 0.8 / max(len(seconds), 1)
    with mpl.rc_context(STYLE):
        figure, axes = _figure(0.9 + 0.3 * len(stages) * max(len(seconds), 1) ** 0.5)
        for index, (policy, of_policy) in enumerate(seconds.items()):
            places = np.array([place for place, stage in enumerate(stages) if stage in of_policy], float)
            places += (index - (len(seconds) - 1) / 2) * width
            found = [of_policy[stage] for stage in stages if stage in of_policy]
            p50, p95, p99 = (1e3 * np.array([values[q] for values in found]) for q in ("p50", "p95", "p99"))
            axes.barh(places, p50, width * 0.9, color=colours[policy], label=policy)
            axes.hlines(places, p50, p95, color=INK, linewidth=1)
            axes.scatter(p99, places, s=9, color=INK, zorder=3)
        axes.set_yticks(range(len(stages)), stages)
        axes.invert_yaxis()
        axes.set(xlabel="ms per plan (bar: median, line: 95 %, dot: 99 %)", xlim=(0, None))
        axes.grid(axis="x", alpha=0.2)
        if len(seconds) > 1:
            figure.legend(loc="outside upper left", ncols=len(seconds))
        return as_svg(figure, name)


def kept_tokens(name: str, share: Values) -> str:
    """Draw how often each patch of the image was kept.

    Args:
        name: Name of the plot.
        share: float64 (rows, columns), share of the ticks.
    """
    with mpl.rc_context(STYLE):
        figure, axes = _figure(3.4)
        # Cells, not a bitmap, are sharp at every size.
        edges = np.arange(share.shape[1] + 1), np.arange(share.shape[0] + 1)
        cells = axes.pcolormesh(*edges, 100 * share, vmin=0, vmax=100, cmap="viridis", edgecolors="face", linewidth=0.3)
        axes.set_aspect("equal")
        axes.invert_yaxis()
        axes.set(xticks=(), yticks=(), xlabel="patches of the image")
        figure.colorbar(cells, ax=axes, label="kept in % of the ticks", shrink=0.85)
        return as_svg(figure, name)


def kept_by_reason(name: str, times_s: Values, counts: Mapping[Reason, Values], kept: Values) -> str:
    """How many tokens were kept for which reason, over time; a token may have several.

    Args:
        name: Name of the plot.
        times_s: float64 (ticks,).
        counts: Number of tokens, float64 (ticks,), by reason.
        kept: Number of kept tokens, float64 (ticks,).
    """
    series = {
        REASON_NAMES[reason]: (values, "#{:02x}{:02x}{:02x}".format(*REASON_COLOURS[reason]))
        for reason, values in counts.items()
        if values.any()
    }
    return over_time(name, times_s, {**series, "all": (kept, "#888888")}, "tokens kept")


def ring_coverage(name: str, counts: Mapping[str, int]) -> str:
    """Draw the number of ticks with ring, and the reasons why others have none.

    Args:
        name: Name of the plot.
        counts: Number of ticks by label: "ring used", then the reasons.
    """
    labels = [_wrapped(words) for words in counts]
    with mpl.rc_context(STYLE):
        figure, axes = _figure(0.8 + 0.14 * sum(2 + label.count("\n") for label in labels))
        bars = axes.barh(range(len(labels)), list(counts.values()), color=[GOOD] + [BAD] * (len(labels) - 1))
        axes.bar_label(bars, padding=3)
        axes.set_yticks(range(len(labels)), labels)
        axes.invert_yaxis()
        axes.set(xlabel="ticks", xlim=(0, 1.15 * max(*counts.values(), 1)))
        return as_svg(figure, name)


def per_bag(name: str, names: Sequence[str], values: Values) -> str:
    """Draw a displacement of each bag.

    Args:
        name: Name of the plot.
        names: Names of the bags.
        values: float64 (bags,), metres, NaN where there is none.
    """
    with mpl.rc_context(STYLE):
        figure, axes = _figure(0.8 + 0.24 * len(names))
        axes.barh(range(len(names)), 1e3 * np.nan_to_num(values), color=POLICY)
        axes.set_yticks(range(len(names)), [_wrapped(bag, 24) for bag in names])
        axes.invert_yaxis()
        axes.set(xlabel="mean displacement [mm]", xlim=(0, None))
        axes.grid(axis="x", alpha=0.2)
        return as_svg(figure, name)


def _wrapped(words: str, width: int = 30) -> str:
    """Wrap a text to at most three lines; a `$` is escaped, since it would begin a formula."""
    return "\n".join(textwrap.wrap(words.replace("$", r"\$"), width, max_lines=3, placeholder=" …"))

"""Comparison of two replays of the same bags: do two policies plan the same, and which one is faster?

Ticks are joined by bag, lap of the clock and stamp. A tick that only one of them plans is a difference too, so that a
replay that rejects the hard ticks cannot look better.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from rich.table import Table
from rich.text import Text

from sqap_vla_ros.tools.replay.columns import METRIC_NAMES, with_unit
from sqap_vla_ros.tools.replay.results_reader import Run, RunError, find_runs

Values = NDArray[np.float64]

# Tool poses of one bag and stamp are equal but for rounding, also those from a recorded chunk.
_SAME_PLACE_M = 1e-4


@dataclass(frozen=True)
class Comparison:
    """Figures of two replays A and B.

    Attributes:
        names: Policies of A and B.
        bags: Number of bags in both.
        missing_bags: Names of bags in A that are not in B.
        ticks: Number of ticks that are planned in both.
        missing_ticks: Number of ticks planned in A and not in B, in the bags of both.
        displacement_m: float64 (ticks,), mean distance of the planned tool positions over the horizon.
        final_displacement_m: float64 (ticks,), their distance at the end of the horizon.
        kept_overlap: float64 (ticks,), token-selection agreement: share of A's kept visual tokens that B keeps.
        seconds: Durations of the plans of the common ticks in A and in B, float64 (ticks,) each.
        metrics: Means in A and in B by column of `ticks.parquet`, over the common ticks that have it in both.
    """

    names: tuple[str, str]
    bags: int
    missing_bags: Sequence[str]
    ticks: int
    missing_ticks: int
    displacement_m: Values
    final_displacement_m: Values
    kept_overlap: Values
    seconds: tuple[Values, Values]
    metrics: Mapping[str, tuple[float, float]]

    @property
    def displacement_p95_m(self) -> float:
        """95th percentile of the displacement, metres."""
        return float(np.percentile(self.displacement_m, 95))

    @property
    def latency_ratio(self) -> float:
        """Ratio of the median duration of a plan in B to that in A."""
        return float(np.median(self.seconds[1]) / np.median(self.seconds[0]))


def compare(a: Path, b: Path) -> Comparison:
    """Compare the replays in two directories.

    Raises:
        RunError: One holds no complete results, or no tick is planned in both.
    """
    named_a, named_b = ({_name(run, directory): run for run in find_runs(directory)} for directory in (a, b))
    # If both hold a single bag, it may have been moved or named differently.
    if len(named_a) == len(named_b) == 1:
        named_b = dict(zip(named_a, named_b.values(), strict=True))
    pairs = [(run, named_b[name]) for name, run in named_a.items() if name in named_b]
    parts = [part for pair in pairs if (part := _common(*pair))]
    if not parts:
        raise RunError(f"{a} and {b}: no tick is planned in both; replay the same bags, at the same rate, into both")
    return Comparison(
        names=(_policy(named_a), _policy(named_b)),
        bags=len(pairs),
        missing_bags=[name for name in named_a if name not in named_b],
        ticks=sum(part.ticks for part in parts),
        missing_ticks=sum(int(one.planned.sum()) for one, _ in pairs) - sum(part.ticks for part in parts),
        displacement_m=np.concatenate([part.distances.mean(axis=1) for part in parts]),
        final_displacement_m=np.concatenate([part.distances[:, -1] for part in parts]),
        kept_overlap=np.concatenate([part.kept_overlap for part in parts]),
        seconds=(
            np.concatenate([part.seconds[0] for part in parts]),
            np.concatenate([part.seconds[1] for part in parts]),
        ),
        metrics=_metrics(parts),
    )


@dataclass(frozen=True)
class _Part:
    """The common ticks of one bag."""

    distances: Values  # (ticks, horizon), m
    kept_overlap: Values
    seconds: tuple[Values, Values]
    columns: Mapping[str, tuple[Values, Values]]

    @property
    def ticks(self) -> int:
        return len(self.distances)


def _common(a: Run, b: Run) -> _Part | None:
    by_stamp = a.planned_by_stamp(), b.planned_by_stamp()
    stamps = sorted(by_stamp[0].keys() & by_stamp[1].keys())
    if not stamps:
        return None
    ticks_a, ticks_b = (np.array([ticks[stamp] for stamp in stamps], int) for ticks in by_stamp)
    _check_inputs(a, ticks_a, b, ticks_b)
    paths_a, kept_a = _paths_and_kept(a, ticks_a)
    paths_b, kept_b = _paths_and_kept(b, ticks_b)
    if (paths_a.shape, kept_a.shape) != (paths_b.shape, kept_b.shape):
        of_a, of_b = (
            f"{paths.shape[1] // 3} actions and {kept.shape[1]} visual tokens"
            for paths, kept in ((paths_a, kept_a), (paths_b, kept_b))
        )
        raise RunError(f"{a.directory} plans {of_a}, {b.directory} {of_b}: replay networks of the same size")
    return _Part(
        distances=np.linalg.norm((paths_a - paths_b).reshape(len(stamps), paths_a.shape[1] // 3, 3), axis=2),
        kept_overlap=(kept_a & kept_b).sum(axis=1) / np.maximum(kept_a.sum(axis=1), 1),
        seconds=(a.planning_seconds()[ticks_a], b.planning_seconds()[ticks_b]),
        columns={name: (a.column(name)[ticks_a], b.column(name)[ticks_b]) for name in METRIC_NAMES},
    )


def _check_inputs(a: Run, ticks_a: NDArray[np.int64], b: Run, ticks_b: NDArray[np.int64]) -> None:
    """Check that both replays had the same inputs: recordings of simulations may share nothing but the stamps.

    Raises:
        RunError: The inputs differ.
    """
    steps_s = a.column("time_step_s")[ticks_a], b.column("time_step_s")[ticks_b]
    start_a, start_b = (
        np.concatenate([poses for (poses,) in run.lists("T_base_tool")])[ticks][:, 3:12:4]
        for run, ticks in ((a, ticks_a), (b, ticks_b))
    )
    instructions_a, instructions_b = (
        np.array(run.strings("instruction"))[ticks] for run, ticks in ((a, ticks_a), (b, ticks_b))
    )
    for what, same in (
        ("time steps", np.isclose(*steps_s).all()),
        ("tool poses", np.allclose(start_a, start_b, rtol=0, atol=_SAME_PLACE_M)),
        ("instructions", (instructions_a == instructions_b).all()),
    ):
        if not same:
            raise RunError(
                f"{a.directory} and {b.directory}: different {what} at the same stamps; replay the same bag with the "
                "same robot and instruction into both"
            )


def _paths_and_kept(run: Run, ticks: NDArray[np.int64]) -> tuple[Values, NDArray[np.bool_]]:
    """Planned path, float64 (ticks, horizon * 3), and whether each visual token was kept, bool (ticks, tokens)."""
    parts = [(paths, reasons > 0) for paths, reasons in run.lists("path_m", "token_reasons")]
    paths, kept = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
    return paths[ticks], kept[ticks]


def _metrics(parts: Sequence[_Part]) -> dict[str, tuple[float, float]]:
    means = {}
    for name in METRIC_NAMES:
        of_a, of_b = (np.concatenate([part.columns[name][side] for part in parts]) for side in (0, 1))
        both = np.isfinite(of_a) & np.isfinite(of_b)
        if both.any():
            means[name] = float(of_a[both].mean()), float(of_b[both].mean())
    return means


def _name(run: Run, directory: Path) -> str:
    """Name of a single bag; of several bags, the name of the results, since bags may have equal names."""
    return run.name if run.directory == directory else run.directory.name


def _policy(runs: Mapping[str, Run]) -> str:
    run = next(iter(runs.values()))
    return str(run.summary.get("policy", run.directory.name))


def failures(comparison: Comparison, max_displacement_m: float | None, max_latency_ratio: float | None) -> list[str]:
    """Reasons why B does not pass; none if it passes.

    Args:
        comparison: The comparison of A and B.
        max_displacement_m: Limit for the 95th percentile of the displacement; None: no limit.
        max_latency_ratio: Limit for the ratio of B's median plan to A's; None: no limit.
    """
    found = []
    if comparison.missing_bags:
        found.append(f"bags in A only: {', '.join(comparison.missing_bags)}")
    if comparison.missing_ticks:
        found.append(f"{comparison.missing_ticks} ticks are planned in A only")
    displacement_m, ratio = comparison.displacement_p95_m, comparison.latency_ratio
    # Written so that NaN fails.
    if max_displacement_m is not None and not displacement_m <= max_displacement_m:
        found.append(f"displacement of {1e3 * displacement_m:.2f} mm, at most {1e3 * max_displacement_m:g} mm allowed")
    if max_latency_ratio is not None and not ratio <= max_latency_ratio:
        found.append(f"latency ratio of {ratio:.3f}, at most {max_latency_ratio:g} allowed")
    return found


def verdict(comparison: Comparison, found: Sequence[str]) -> str:
    """One line that says whether B passes, and by which figures."""
    figures = (
        f"95 % of {comparison.ticks} ticks within {1e3 * comparison.displacement_p95_m:.2f} mm, "
        f"latency ratio {comparison.latency_ratio:.3f}"
    )
    return f"FAIL: {'; '.join(found)}" if found else f"PASS: {figures}"


def comparison_table(comparison: Comparison) -> Table:
    """Table of the figures of A and B, and of the differences between them."""
    table = Table(title=Text(f"A: {comparison.names[0]}   B: {comparison.names[1]}"), title_justify="left")
    for name in ("", "A", "B"):
        table.add_column(name, justify="right" if name else "left")
    for words, values in (
        ("displacement A to B: median, 95 %, largest", comparison.displacement_m),
        ("  the same at the end of the horizon", comparison.final_displacement_m),
    ):
        p50, p95, worst = (f"{1e3 * np.percentile(values, q):.2f}" for q in (50, 95, 100))
        table.add_row(words, "", f"{p50}, {p95}, {worst} mm")
    table.add_row("token-selection agreement", "", f"{100 * comparison.kept_overlap.mean():.1f} %")
    for q in (50, 95):
        of_a, of_b = (f"{1e3 * np.percentile(seconds, q):.1f} ms" for seconds in comparison.seconds)
        table.add_row("median plan" if q == 50 else f"plan, {q} %", of_a, of_b)
    for name, (of_a_mean, of_b_mean) in comparison.metrics.items():
        table.add_row(METRIC_NAMES[name], with_unit(name, of_a_mean), with_unit(name, of_b_mean))
    table.add_row("ticks planned in both", "", str(comparison.ticks))
    table.add_row("ticks planned in A only", str(comparison.missing_ticks), "")
    return table

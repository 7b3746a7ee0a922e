"""Two replays of the same bags beside each other: do two policies plan the same, and which one is faster?

Ticks are joined by bag and stamp. What one plans and the other does not is a difference too, so that a run that refuses
the hard ticks cannot look the better one.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from rich.table import Table

from sqap_vla_ros.replay.metric_words import METRIC_WORDS, as_text
from sqap_vla_ros.replay.run_files import Run, RunError, find_runs

Values = NDArray[np.float64]


@dataclass(frozen=True)
class Comparison:
    """What two replays have in common and what not.

    Attributes:
        names: Policies of A and B.
        bags: How many are in both.
        missing_bags: Names of those that are in A and not in B.
        ticks: How many are planned in both.
        missing_ticks: Planned in A and not in B, of the bags that are in both.
        displacement_m: float64 (ticks,), mean distance of the planned tool positions over the horizon.
        final_displacement_m: float64 (ticks,), at its end.
        kept_overlap: float64 (ticks,), share of A's kept visual tokens that B keeps.
        seconds: Of A and of B: how long each common tick's plan took, float64 (ticks,).
        metrics: Column of `ticks.parquet` to its mean in A and in B, over the common ticks that have it in both.
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
        """What 95 % of the ticks stay below."""
        return float(np.percentile(self.displacement_m, 95))

    @property
    def latency_ratio(self) -> float:
        """Median plan of B over that of A."""
        return float(np.median(self.seconds[1]) / np.median(self.seconds[0]))


def compare(a: Path, b: Path) -> Comparison:
    """Compare the replays in two directories.

    Raises:
        RunError: One holds no complete results, or they have no planned tick in common.
    """
    runs_a, runs_b = find_runs(a), find_runs(b)
    # Of one bag each, the bag may have been moved or be given under another name.
    by_name = {run.name: run for run in runs_b}
    if len(runs_a) == len(runs_b) == 1:
        by_name = {runs_a[0].name: runs_b[0]}
    pairs = [(run, by_name[run.name]) for run in runs_a if run.name in by_name]
    parts = [part for pair in pairs if (part := _common(*pair))]
    if not parts:
        raise RunError(f"{a} and {b}: no tick is planned in both; replay the same bags, at the same rate, into both")
    return Comparison(
        names=(_policy(runs_a[0]), _policy(runs_b[0])),
        bags=len(pairs),
        missing_bags=[run.name for run in runs_a if run.name not in by_name],
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
    """One bag's common ticks."""

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
    paths_a, kept_a = _paths_and_kept(a, ticks_a)
    paths_b, kept_b = _paths_and_kept(b, ticks_b)
    if (paths_a.shape, kept_a.shape) != (paths_b.shape, kept_b.shape):
        of_a, of_b = (
            f"{paths.shape[1] // 3} actions and {kept.shape[1]} visual tokens"
            for paths, kept in ((paths_a, kept_a), (paths_b, kept_b))
        )
        raise RunError(f"{a.directory} plans {of_a}, {b.directory} {of_b}: replay networks of the same size")
    seconds = tuple(
        np.array([of_run.get(stamp, np.nan) for stamp in stamps])
        for of_run in (a.planning_seconds(), b.planning_seconds())
    )
    return _Part(
        distances=np.linalg.norm((paths_a - paths_b).reshape(len(stamps), paths_a.shape[1] // 3, 3), axis=2),
        kept_overlap=(kept_a & kept_b).sum(axis=1) / np.maximum(kept_a.sum(axis=1), 1),
        seconds=(seconds[0], seconds[1]),
        columns={name: (a.column(name)[ticks_a], b.column(name)[ticks_b]) for name in METRIC_WORDS},
    )


def _paths_and_kept(run: Run, ticks: NDArray[np.int64]) -> tuple[Values, NDArray[np.bool_]]:
    """Planned path, float64 (ticks, horizon * 3), and whether each visual token was kept, bool (ticks, tokens)."""
    parts = [(paths, reasons > 0) for paths, reasons in run.lists("path_m", "token_reasons")]
    paths, kept = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
    return paths[ticks], kept[ticks]


def _metrics(parts: Sequence[_Part]) -> dict[str, tuple[float, float]]:
    means = {}
    for name in METRIC_WORDS:
        of_a, of_b = (np.concatenate([part.columns[name][side] for part in parts]) for side in (0, 1))
        both = np.isfinite(of_a) & np.isfinite(of_b)
        if both.any():
            means[name] = float(of_a[both].mean()), float(of_b[both].mean())
    return means


def _policy(run: Run) -> str:
    return str(run.summary.get("policy", run.directory.name))


def failures(comparison: Comparison, max_displacement_m: float | None, max_latency_ratio: float | None) -> list[str]:
    """Why B does not pass, a clause each; empty: it passes.

    Args:
        comparison: Of A and B.
        max_displacement_m: That 95 % of the ticks must stay within; None: any.
        max_latency_ratio: Of B's median plan to A's; None: any.
    """
    found = []
    if comparison.missing_bags:
        found.append(f"bags that only A has: {', '.join(comparison.missing_bags)}")
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
    """One line: whether B passes, and by which figures."""
    figures = (
        f"95 % of {comparison.ticks} ticks within {1e3 * comparison.displacement_p95_m:.2f} mm, "
        f"latency ratio {comparison.latency_ratio:.3f}"
    )
    return f"FAIL: {'; '.join(found)}" if found else f"PASS: {figures}"


def comparison_table(comparison: Comparison) -> Table:
    """Figures of A and B, and of the difference between them."""
    table = Table(title=f"A: {comparison.names[0]}   B: {comparison.names[1]}", title_justify="left")
    for name in ("", "A", "B"):
        table.add_column(name, justify="right" if name else "left")
    for words, values in (
        ("A to B: median, 95 %, largest", comparison.displacement_m),
        ("  the same at the end of the horizon", comparison.final_displacement_m),
    ):
        p50, p95, worst = (f"{1e3 * np.percentile(values, q):.2f}" for q in (50, 95, 100))
        table.add_row(words, "", f"{p50}, {p95}, {worst} mm")
    table.add_row("kept tokens of A that B keeps", "", f"{100 * comparison.kept_overlap.mean():.1f} %")
    for q in (50, 95):
        of_a, of_b = (f"{1e3 * np.percentile(seconds, q):.1f} ms" for seconds in comparison.seconds)
        table.add_row("median plan" if q == 50 else f"plan, {q} %", of_a, of_b)
    for name, (of_a_mean, of_b_mean) in comparison.metrics.items():
        table.add_row(METRIC_WORDS[name], as_text(name, of_a_mean), as_text(name, of_b_mean))
    table.add_row("ticks planned in both", "", str(comparison.ticks))
    table.add_row("ticks planned in A only", str(comparison.missing_ticks), "")
    return table

"""Comparison of two replays of the same bags: do two policies plan the same, and which one is faster?

The plans are judged as `judgement` says, by the noise floor of A's policy, which either replay may have measured. Ticks
are joined by bag, lap of the clock and stamp. A tick that only one of them plans is a difference too, so that a replay
that rejects the hard ticks cannot look better.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from rich.table import Table
from rich.text import Text

from sqap_vla_ros.perception.transforms import rotation_from_vector, vector_from_rotation
from sqap_vla_ros.tools.replay.columns import METRIC_NAMES, with_unit
from sqap_vla_ros.tools.replay.judgement import Distances, Values, judge
from sqap_vla_ros.tools.replay.provenance import name_in
from sqap_vla_ros.tools.replay.results_reader import Run, RunError, find_runs
from sqap_vla_ros.tools.replay.verdict import Verdict, make_verdict, noise_floor, ticks_per_horizon

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
        distances: Of each bag, for the verdict.
        displacement_m: float64 (ticks,), mean distance of the planned tool positions over the horizon.
        final_displacement_m: float64 (ticks,), their distance at the end of the horizon.
        kept_overlap: float64 (ticks,), kept tokens in common: share of A's kept visual tokens that B keeps too.
        seconds: Durations of the plans of the common ticks in A and in B, float64 (ticks,) each.
        metrics: Means in A and in B by column of `ticks.parquet`, over the common ticks that have it in both.
    """

    names: tuple[str, str]
    bags: int
    missing_bags: Sequence[str]
    ticks: int
    missing_ticks: int
    distances: Sequence[Distances]
    displacement_m: Values
    final_displacement_m: Values
    kept_overlap: Values
    seconds: tuple[Values, Values]
    metrics: Mapping[str, tuple[float, float]]

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
        distances=[part.distances for part in parts],
        displacement_m=np.concatenate([part.apart_m.mean(axis=1) for part in parts]),
        final_displacement_m=np.concatenate([part.apart_m[:, -1] for part in parts]),
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

    apart_m: Values  # (ticks, horizon)
    distances: Distances
    kept_overlap: Values
    seconds: tuple[Values, Values]
    columns: Mapping[str, tuple[Values, Values]]

    @property
    def ticks(self) -> int:
        return len(self.apart_m)


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
    apart_m = np.linalg.norm((paths_a - paths_b).reshape(len(stamps), paths_a.shape[1] // 3, 3), axis=2)
    return _Part(
        apart_m=apart_m,
        distances=Distances(
            {"displacement": apart_m.mean(axis=1), **_rotation_and_gripper(a, ticks_a, b, ticks_b)},
            _floor_of_a(a, ticks_a, b, ticks_b),
            ticks_per_horizon(a),
        ),
        kept_overlap=(kept_a & kept_b).sum(axis=1) / np.maximum(kept_a.sum(axis=1), 1),
        seconds=(a.planning_seconds()[ticks_a], b.planning_seconds()[ticks_b]),
        columns={name: (a.column(name)[ticks_a], b.column(name)[ticks_b]) for name in METRIC_NAMES},
    )


def _rotation_and_gripper(a: Run, ticks_a: NDArray[np.int64], b: Run, ticks_b: NDArray[np.int64]) -> dict[str, Values]:
    """Angle between the last orientations, rad, and share of the steps in which the grippers differ, (ticks,) each."""
    turns, states = (
        [np.concatenate([part for (part,) in run.lists(column)])[ticks] for run, ticks in ((a, ticks_a), (b, ticks_b))]
        for column in ("path_rotations_rad", "path_gripper")
    )
    angles = [
        float(np.linalg.norm(vector_from_rotation(rotation_from_vector(one).T @ rotation_from_vector(other))))
        for one, other in zip(turns[0][:, -3:], turns[1][:, -3:], strict=True)
    ]
    known = np.isfinite(states[0]) & np.isfinite(states[1])
    differ = ((states[0] != states[1]) & known).sum(axis=1) / np.where(known.any(axis=1), known.sum(axis=1), np.nan)
    return {"rotation": np.array(angles), "gripper": differ}


def _floor_of_a(a: Run, ticks_a: NDArray[np.int64], b: Run, ticks_b: NDArray[np.int64]) -> dict[str, Values] | None:
    """The noise floor of A's policy, which B has measured if A's policy was its baseline; None if neither has."""
    b_has_it = b.summary.get("noise_floor_of") == "baseline" and b.summary.get("baseline") == a.summary.get("policy")
    if a.summary.get("noise_floor_of") == "policy":
        run, ticks = a, ticks_a
    elif b_has_it:
        run, ticks = b, ticks_b
    else:
        return None
    place = np.cumsum(run.planned) - 1
    floor = noise_floor(run) or {}
    return {name: values[place[ticks]] for name, values in floor.items()}


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
    return name_in(run.summary) or run.directory.name


def problems(comparison: Comparison, max_latency_ratio: float | None) -> list[str]:
    """What makes B fail whatever it plans; nothing if nothing does.

    Args:
        comparison: The comparison of A and B.
        max_latency_ratio: Limit for the ratio of B's median plan to A's; None: no limit.
    """
    found = []
    if comparison.missing_bags:
        found.append(f"bags in A only: {', '.join(comparison.missing_bags)}")
    if comparison.missing_ticks:
        found.append(f"{comparison.missing_ticks} ticks are planned in A only")
    ratio = comparison.latency_ratio
    # Written so that NaN fails.
    if max_latency_ratio is not None and not ratio <= max_latency_ratio:
        found.append(f"latency ratio of {ratio:.3f}, at most {max_latency_ratio:g} allowed")
    return found


def judge_comparison(
    comparison: Comparison, limits: Mapping[str, float | None], max_latency_ratio: float | None = None
) -> Verdict:
    """The verdict on B, by the limits that are given and by the noise floor of A's policy for what has none.

    Args:
        comparison: The comparison of A and B.
        limits: See `judge`.
        max_latency_ratio: See `problems`.
    """
    found = judge(comparison.distances, limits)
    return make_verdict(found, problems(comparison, max_latency_ratio), comparison.distances)


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
    table.add_row("of A's kept tokens, kept by B too", "", f"{100 * comparison.kept_overlap.mean():.1f} %")
    for q in (50, 95):
        of_a, of_b = (f"{1e3 * np.percentile(seconds, q):.1f} ms" for seconds in comparison.seconds)
        table.add_row("median plan" if q == 50 else f"plan, {q} %", of_a, of_b)
    for name, (of_a_mean, of_b_mean) in comparison.metrics.items():
        table.add_row(METRIC_NAMES[name], with_unit(name, of_a_mean), with_unit(name, of_b_mean))
    table.add_row("ticks planned in both", "", str(comparison.ticks))
    table.add_row("ticks planned in A only", str(comparison.missing_ticks), "")
    return table

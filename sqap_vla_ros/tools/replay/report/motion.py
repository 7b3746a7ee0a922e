"""Plans against the recorded motion, over the time of the bag: position, orientation and gripper as small plots."""

from collections.abc import Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from sqap_vla_ros.perception.transforms import rotation_from_vector, vector_from_rotation
from sqap_vla_ros.tools.replay.report import svg
from sqap_vla_ros.tools.replay.report.svg import Values
from sqap_vla_ros.tools.replay.results_reader import Run

_LABELS = ("x [m]", "y [m]", "z [m]", "about x [°]", "about y [°]", "about z [°]", "gripper")
_MOST_PLANS = 60  # drawn; more could not be told apart


def motion(name: str, run: Run) -> str:
    """Draw where the tool was, and where some plans would have led it from there.

    Orientations are rotation vectors from the first pose of the tool, in the base frame. No two of the plans that are
    drawn overlap in time, so that each begins on the line of the recorded motion.

    Args:
        name: Name of the plot.
        run: The results of one bag, with one plan at least.
    """
    ticks = [int(tick) for tick in np.flatnonzero(run.planned)]
    first = run.row(ticks[0])
    R_start = np.reshape(first["T_base_tool"], (4, 4))[:3, :3].T
    times_s = np.asarray((run.stamps_ns - run.begin_ns) * 1e-9, np.float64)
    recorded = _recorded(run, R_start)
    with mpl.rc_context(svg.STYLE):
        figure = Figure(figsize=(4.4, 6.4), layout="constrained")
        axes: Any = figure.subplots(len(_LABELS), 1, sharex=True)
        for tick in _without_overlap(run, ticks):
            row = run.row(tick)
            for kind, colour in (("baseline_path", svg.BASELINE), ("path", svg.POLICY)):
                if row[f"{kind}_m"] is None:
                    continue
                plan = _plan(row, kind, R_start)
                at_s = times_s[tick] + row["time_step_s"] * np.arange(len(plan))
                _draw(axes, at_s, plan, color=colour, linewidth=1.1)
        _draw(axes, times_s[ticks], recorded, color=svg.INK, linewidth=0.8)
        for axis, label in zip(axes, _LABELS, strict=True):
            axis.set_ylabel(label)
            axis.grid(alpha=0.2)
        axes[-1].set(yticks=(0, 1), yticklabels=("closed", "open"), ylim=(-0.15, 1.15), ylabel="gripper")
        axes[-1].set_xlabel("time in the bag [s]")
        figure.align_ylabels(axes)
        return svg.as_svg(figure, name)


def _draw(axes: Sequence[Axes], at_s: Values, values: Values, **style: Any) -> None:
    for axis, column in zip(axes, values.T, strict=True):
        axis.plot(at_s, column, **style)


def _without_overlap(run: Run, ticks: Sequence[int]) -> list[int]:
    chosen: list[int] = []
    free_ns = 0
    for tick in ticks:
        stamp_ns = int(run.stamps_ns[tick])
        if not chosen or stamp_ns >= free_ns or stamp_ns < run.stamps_ns[chosen[-1]]:
            row = run.row(tick)
            free_ns = stamp_ns + round(len(row["path_m"]) / 3 * row["time_step_s"] * 1e9)
            chosen.append(tick)
    return chosen[:: -(-len(chosen) // _MOST_PLANS)]


def _recorded(run: Run, R_start: Values) -> Values:
    """Position (m), rotation (degrees) and gripper at each planned tick, float64 (ticks, 7)."""
    parts = []
    for poses, grippers in run.lists("T_base_tool", "truth_gripper"):
        known = np.isfinite(poses).all(axis=1)
        turns = [_degrees(pose.reshape(4, 4)[:3, :3], R_start) for pose in poses[known]]
        first_gripper = grippers[known][:, :1] if grippers.shape[1] else np.full((int(known.sum()), 1), np.nan)
        parts.append(np.hstack([poses[known][:, 3:12:4], np.reshape(turns, (-1, 3)), first_gripper]))
    return np.concatenate(parts)


def _plan(row: Any, kind: str, R_start: Values) -> Values:
    """The same along a plan, from the pose that it starts at, float64 (horizon + 1, 7)."""
    pose = np.reshape(row["T_base_tool"], (4, 4))
    gripper = np.array(row[f"{kind}_gripper"], np.float64)
    turns = [pose[:3, :3], *map(rotation_from_vector, np.reshape(row[f"{kind}_rotations_rad"], (-1, 3)))]
    positions = np.vstack([pose[:3, 3], np.reshape(row[f"{kind}_m"], (-1, 3))])
    degrees = np.stack([_degrees(turn, R_start) for turn in turns])
    return np.hstack([positions, degrees, np.append(gripper[:1], gripper)[:, None]])


def _degrees(R_base_tool: Values, R_start: Values) -> Values:
    """Rotation from the first orientation to another, in the base frame."""
    return np.degrees(vector_from_rotation(R_base_tool @ R_start))

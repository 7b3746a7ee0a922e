"""Columns of a replay's tables, and the names of its metrics on a page. A column is empty where a tick has no value.

`truth_*` compares with the recorded motion of the tool, `baseline_*` with the plan of another policy. `noise_*` is the
noise floor: it compares two plans of the baseline, or of the policy without one, that differ in their noise alone.
"""

from collections.abc import Mapping
from math import degrees, isnan

import pyarrow as pa


def _number(name: str, description: str) -> pa.Field:
    return pa.field(name, pa.float64(), metadata={"description": description})


def _numbers(name: str, description: str) -> pa.Field:
    return pa.field(name, pa.list_(pa.float64()), metadata={"description": description})


_TURNS = "rotation vectors of the tool's orientations in {}, horizon x 3, row-major, base frame, rad"
_GRIPPER = "gripper in {} during each step, horizon: 1 open, 0 closed, NaN unknown"


def _path(name: str, description: str) -> pa.Field:
    shape = f"{description}, horizon x 3, row-major, base frame, metres"
    return pa.field(name, pa.list_(pa.float64()), metadata={"description": shape})


TICKS = pa.schema(
    [
        pa.field("stamp_ns", pa.int64(), metadata={"description": "stamp of the camera image"}),
        pa.field("refused", pa.string(), metadata={"description": "why nothing was planned; empty: planned"}),
        pa.field("instruction", pa.string()),
        pa.field("seed", pa.uint64()),
        pa.field("time_step_s", pa.float64()),
        pa.field("actions", pa.list_(pa.float64()), metadata={"description": "horizon x 7, row-major, un-normalised"}),
        pa.field("T_base_tool", pa.list_(pa.float64()), metadata={"description": "4 x 4, row-major, metres"}),
        pa.field("kept_tokens", pa.list_(pa.int16())),
        pa.field("token_reasons", pa.list_(pa.uint8()), metadata={"description": "per token, bits as in TokenMask"}),
        pa.field("tool_u_px", pa.float64()),
        pa.field("tool_v_px", pa.float64()),
        pa.field("no_ring_reason", pa.string()),
        pa.field("recorded_difference", pa.float64(), metadata={"description": "largest, to the recorded actions"}),
        _path("path_m", "planned tool positions"),
        _path("truth_path_m", "recorded tool positions, NaN where unknown"),
        _numbers("path_rotations_rad", _TURNS.format("the plan")),
        _numbers("truth_path_rotations_rad", f"{_TURNS.format('the recording')}, NaN where unknown"),
        _numbers("path_gripper", _GRIPPER.format("the plan")),
        _numbers("truth_gripper", _GRIPPER.format("the recording")),
        _number("truth_mean_displacement_m", "between plan and truth, over the steps whose truth is known"),
        _number("truth_final_displacement_m", "between plan and truth at the end of the horizon"),
        _number("truth_rotation_rad", "between plan and truth at the end of the horizon"),
        _number("truth_direction_cosine", "between the net motions of plan and truth over the horizon"),
        _number("truth_gripper_agreement", "share of the steps"),
        _number("jerk_m_s3", "mean over the planned path"),
        _number("overlap_m", "mean distance to the plan before it where both plan the same time"),
        pa.field("baseline_actions", pa.list_(pa.float64()), metadata={"description": "as actions"}),
        _path("baseline_path_m", "tool positions that the baseline planned"),
        _numbers("baseline_path_rotations_rad", _TURNS.format("the baseline's plan")),
        _numbers("baseline_path_gripper", _GRIPPER.format("the baseline's plan")),
        _number("baseline_mean_displacement_m", "between plan and baseline, over the horizon"),
        _number("baseline_final_displacement_m", "between plan and baseline at the end of the horizon"),
        _number("baseline_rotation_rad", "between plan and baseline at the end of the horizon"),
        _number("baseline_direction_cosine", "between the net motions of plan and baseline over the horizon"),
        _number("baseline_gripper_agreement", "share of the steps"),
        _number("kept_overlap", "share of the baseline's kept tokens that the policy keeps too"),
        _number("baseline_truth_mean_displacement_m", "between baseline and truth, as for the plan"),
        _number("baseline_truth_final_displacement_m", "between baseline and truth, as for the plan"),
        _number("noise_mean_displacement_m", "between two plans with other noise, over the horizon"),
        _number("noise_final_displacement_m", "between two plans with other noise at the end of the horizon"),
        _number("noise_rotation_rad", "between two plans with other noise at the end of the horizon"),
        _number("noise_gripper_agreement", "share of the steps, of two plans with other noise"),
    ]
)
TIMINGS = pa.schema(
    [("stamp_ns", pa.int64()), ("policy", pa.string()), ("stage", pa.string()), ("seconds", pa.float64())]
)
# The columns that the summary averages. True where more is better: the worst tick is then the one with the least.
METRICS = {
    name: name.endswith(("_cosine", "_agreement", "kept_overlap"))
    for name in TICKS.names[TICKS.get_field_index("truth_mean_displacement_m") :]
    if TICKS.field(name).type == pa.float64()
}

_REFERENCES = {
    "truth": "to the recorded motion",
    "baseline": "to the baseline",
    "noise": "between two plans with other noise",
}
_RELATIVE = {
    "mean_displacement_m": "mean displacement",
    "final_displacement_m": "final displacement",
    "rotation_rad": "final rotation",
    "direction_cosine": "direction cosine",
    "gripper_agreement": "gripper agreement",
}
METRIC_NAMES = {
    f"{reference}_{column}": f"{_RELATIVE[column]} {_REFERENCES[reference]}"
    for reference in _REFERENCES
    for column in _RELATIVE
    if (reference, column) != ("noise", "direction_cosine")
} | {
    "jerk_m_s3": "jerk of the plan",
    "overlap_m": "distance to the previous plan",
    "kept_overlap": "of the baseline's kept tokens, kept by the policy too",
    "baseline_truth_mean_displacement_m": "the baseline's mean displacement to the recorded motion",
    "baseline_truth_final_displacement_m": "the baseline's final displacement to the recorded motion",
}

# The references that a plan is measured against: the column with its displacement, and a name.
AGAINST = {
    "baseline": ("baseline_mean_displacement_m", "the baseline's plan"),
    "truth": ("truth_mean_displacement_m", "the recorded motion"),
}


def with_unit(column: str, value: float) -> str:
    """A value of a metric with its unit; a dash for NaN."""
    if isnan(value):
        return "–"
    if column.endswith("_m"):
        return f"{1e3 * value:.1f} mm"
    if column.endswith("_rad"):
        return f"{degrees(value):.1f}°"
    if column.endswith(("_agreement", "kept_overlap")):
        return f"{100 * value:.0f} %"
    return f"{value:.1f} m/s³" if column == "jerk_m_s3" else f"{value:.3f}"


def bad_tail(column: str, values: Mapping[str, float]) -> str:
    """The value that the worst twentieth of the ticks does not keep, as "5 % above 3.1 mm" or "5 % below 81 %"."""
    if METRICS[column]:
        return f"5 % below {with_unit(column, values['p5'])}"
    return f"5 % above {with_unit(column, values['p95'])}"

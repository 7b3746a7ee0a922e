"""The columns of `ticks.parquet` that measure, for people: words and units."""

from math import degrees, isnan

_OF = {"truth": "to what the tool did", "baseline": "to the baseline"}
_WHAT = {
    "mean_displacement_m": "mean displacement",
    "final_displacement_m": "final displacement",
    "rotation_rad": "final rotation",
    "direction_cosine": "direction cosine",
    "gripper_agreement": "gripper agreement",
}
_ALONE = {
    "jerk_m_s3": "jerk of the plan",
    "overlap_m": "distance to the plan before it",
    "kept_overlap": "kept tokens that the baseline keeps too",
    "baseline_truth_mean_displacement_m": "the baseline's mean displacement to what the tool did",
    "baseline_truth_final_displacement_m": "the baseline's final displacement to what the tool did",
}
METRIC_WORDS = {f"{of}_{what}": f"{_WHAT[what]} {_OF[of]}" for of in _OF for what in _WHAT} | _ALONE

# What a plan is measured against: the column that tells how far off it is, and words.
AGAINST = {
    "baseline": ("baseline_mean_displacement_m", "the baseline's plan"),
    "truth": ("truth_mean_displacement_m", "what the tool did"),
}


def metric_words(column: str) -> str:
    """What a column means."""
    return METRIC_WORDS[column]


def as_text(column: str, value: float) -> str:
    """A value of a column with its unit; a dash for NaN."""
    if isnan(value):
        return "–"
    if column.endswith("_m"):
        return f"{1e3 * value:.1f} mm"
    if column.endswith("_rad"):
        return f"{degrees(value):.1f}°"
    if column.endswith(("_agreement", "kept_overlap")):
        return f"{100 * value:.0f} %"
    return f"{value:.1f} m/s³" if column == "jerk_m_s3" else f"{value:.3f}"

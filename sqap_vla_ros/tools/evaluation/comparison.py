"""The rows of the paper's comparison in closed loop, and the figures that are quoted from them."""

from collections.abc import Mapping, Sequence
from typing import Any

from sqap_vla_ros.reporting.statistics import Estimate
from sqap_vla_ros.tools.evaluation.report import Row
from sqap_vla_ros.tools.evaluation.variants import Variant

# Name in the figures -> policy file, and recipe of the weights.
ROWS = {
    "fp16": Variant("fp16"),
    "sqap": Variant("sqap", "w4a4-residual"),
    "w4a4": Variant("dense", "w4a4-residual"),
    "w4a4_topk": Variant("topk", "w4a4-residual"),
    "w4a4_topk_ring": Variant("topk-ring", "w4a4-residual"),
    "sqap_ratio_0.3": Variant("sqap-0.3", "w4a4-residual"),
    "sqap_ratio_0.5": Variant("sqap-0.5", "w4a4-residual"),
    "sqap_ratio_0.6": Variant("sqap-0.6", "w4a4-residual"),
    "random": Variant("random"),
    "fastv": Variant("fastv"),
    "vla_cache": Variant("vla_cache"),
    "efficientvla": Variant("efficientvla"),
    "qvla": Variant("dense", "qvla"),
    "smoothquant_w4a4": Variant("dense", "smoothquant-w4a4"),
}
REFERENCE = "fp16"
"""The row that all others are compared with."""
COMPARED = (REFERENCE, "sqap")
"""The rows whose difference matters most: they play more episodes."""


def figures(rows: Mapping[str, Row]) -> dict[str, float]:
    """The quoted figures of rows, by name of the row.

    Success is in per cent with its interval, and so is the difference to the float model, in points.
    """
    found: dict[str, float] = {}
    for name, row in rows.items():
        found |= success_figures(name, row)
        found[f"played_{name}"] = row.mean.count
        found[f"seconds_{name}"] = row.seconds
        found[f"jerk_{name}"] = row.jerk_rad_s3
        found[f"path_m_{name}"] = row.path_m
        found |= {f"task_{task}_{name}": 100 * rate.value for task, rate in row.tasks.items()}
    return found


def success_figures(name: str, row: Row) -> dict[str, float]:
    """Success of a row in per cent, and its difference to the float model in points, each with its interval."""
    found = with_interval(f"success_{name}", row.mean)
    if row.difference is not None:
        found |= with_interval(f"paired_difference_{name}", row.difference)
    return found


def with_interval(name: str, share: Estimate) -> dict[str, float]:
    """A share, or a difference of shares, times 100, with its interval."""
    return {name: 100 * share.value, f"{name}_low": 100 * share.low, f"{name}_high": 100 * share.high}


def merged(before: Mapping[str, Row], now: Mapping[str, Row]) -> dict[str, Row]:
    """Rows by name, in the order of `now`; of a row in both, the one with more episodes."""
    return {
        name: before[name] if name in before and before[name].mean.count > row.mean.count else row
        for name, row in now.items()
    }


def comparable_results(content: dict[str, Any], weights_sha256: str, task_names: Sequence[str]) -> dict[str, Any]:
    """The content of a results file, or nothing where it is of other weights or tasks."""
    same = content.get("weights_sha256") == weights_sha256 and content.get("task_names") == list(task_names)
    return content if same else {}

"""The bench's plot: milliseconds per stage, and the floor of each policy."""

from pathlib import Path
from typing import Any

import numpy as np

from sqap_vla_ros.core.files import whole_file
from sqap_vla_ros.tools.benchmark.cost import STAGES
from sqap_vla_ros.tools.benchmark.rows import ROWS


def plot(content: dict[str, Any], path: Path) -> None:
    """Draw a result file.

    Args:
        content: Content of `bench.json`.
        path: PNG to write.
    """
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    rows = content["rows"]
    names = list(rows)[::-1]
    figure, axes = plt.subplots(figsize=(9, 1.2 + 0.34 * len(names)), layout="constrained")
    labels = [ROWS[name].label for name in names]
    left = np.zeros(len(names))
    for stage in STAGES:
        widths = np.array([rows[name]["stages"].get(stage, {}).get("median_ms", 0.0) for name in names])
        axes.barh(labels, widths, left=left, label=stage.replace("_", " "))
        left += widths
    totals = np.array([rows[name]["plan"]["median_ms"] for name in names])
    rest = np.maximum(totals - left, 0)
    axes.barh(labels, rest, left=left, color="lightgrey", label="host, copies, or not separated")
    floors = [sum(rows[name]["floors_ms"].values()) for name in names]
    axes.scatter(floors, labels, marker="|", s=180, color="black", label="floor by measured rates", zorder=3)
    axes.set_xlabel(f"time per plan [ms], medians, {content['device']}, depth {content['depth']}")
    axes.legend(ncols=3, loc="lower center", bbox_to_anchor=(0.45, 1.0), frameon=False, fontsize=8)
    axes.spines[["top", "right"]].set_visible(False)
    with whole_file(path) as part:
        figure.savefig(part, dpi=110, format="png")
    plt.close(figure)

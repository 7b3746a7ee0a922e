"""The bench's figures: ratios of what was measured, and a table for a console."""

from collections.abc import Mapping
from typing import Any

from rich.table import Table

from sqap_vla_ros.tools.benchmark.cost import STAGES
from sqap_vla_ros.tools.benchmark.rows import ROWS


def figures(rows: Mapping[str, Mapping[str, Any]], once: Mapping[str, Any]) -> dict[str, float]:
    """Compute the figures, under the names by which they are quoted.

    Args:
        rows: Fields of `Measured` by row.
        once: What was measured once for all rows.
    """
    found: dict[str, float] = {}
    for name, row in rows.items():
        found[f"{name}_ms"] = row["plan"]["median_ms"]
        found[f"{name}_p99_ms"] = row["plan"]["p99_ms"]
        found[f"roofline_{name}_ms"] = sum(row["floors_ms"].values())
        if row["device"] is not None:
            found[f"{name}_device_ms"] = row["device"]["median_ms"]
        for key in ("chunk_error", "kept_alike", "replays_differ", "peak_gib"):
            if row[key] is not None:
                found[f"{key}_{name}"] = row[key]
        whole, language = speed_ups(rows, name)
        if whole is not None:
            found[f"e2e_speedup_{name}"] = whole
        if language is not None:
            found[f"llm_speedup_{name}"] = language
    if once.get("context_gib") is not None:
        found["context_gib"] = once["context_gib"]
    if "selection" in once:
        found["selection_us"] = 1e3 * once["selection"]["median_ms"]
    return found


def speed_ups(rows: Mapping[str, Mapping[str, Any]], name: str) -> tuple[float | None, float | None]:
    """Compute the speed-ups of a row's whole plan and of its language model.

    The reference is the float network in the same runtime (as a graph or plain). A speed-up is None where one of the
    two was not measured.
    """
    reference = "fp16_plain" if ROWS[name].runtime == "plain" else "fp16_graph"
    if name == reference or reference not in rows:
        return None, None
    row, other = rows[name], rows[reference]
    whole = other["plan"]["median_ms"] / row["plan"]["median_ms"]
    if "language" not in row["stages"] or "language" not in other["stages"]:
        return whole, None
    return whole, other["stages"]["language"]["median_ms"] / row["stages"]["language"]["median_ms"]


def result_table(content: Mapping[str, Any]) -> Table:
    """Make a table of a result file for a console."""
    table = Table(title=f"{content['device']}, depth: {content['depth']}; times: medians [ms]")
    for heading in ("policy", "plan", "faster", *STAGES, "LLM faster", "floor", "× floor", "memory [GiB]"):
        table.add_column(heading.replace("_", " "), justify="left" if heading == "policy" else "right", no_wrap=True)
    for name, row in content["rows"].items():
        floor, plan = sum(row["floors_ms"].values()), row["plan"]["median_ms"]
        stages = [row["stages"].get(stage, {}).get("median_ms") for stage in STAGES]
        whole, language = speed_ups(content["rows"], name)
        numbers = [plan, whole, *stages, language, floor, plan / floor, row["peak_gib"]]
        table.add_row(ROWS[name].label, *("" if number is None else _short(number) for number in numbers))
    return table


def _short(number: float) -> str:
    return f"{number:.0f}" if number >= 100 else f"{number:.3g}"

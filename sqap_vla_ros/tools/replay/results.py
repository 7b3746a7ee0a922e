"""Results of a replay: one row per tick, and a summary.

`ticks.parquet` holds the plans and their distance from the truth and from the baseline; it is the same in every run on
one machine. `timings.parquet` holds the durations. Both grow row by row, and the summary is computed from them column
by column, so that a long bag needs no more memory than a short one. An interrupted run leaves files named `*.partial`.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from sqap_vla_ros.config.robot import Configuration
from sqap_vla_ros.core.action_chunk import ActionChunk
from sqap_vla_ros.core.files import write_whole
from sqap_vla_ros.core.instruction import warning_about
from sqap_vla_ros.core.reasons import ReasonCounter
from sqap_vla_ros.core.token_selection import Reason
from sqap_vla_ros.tools.replay.columns import METRICS, TICKS, TIMINGS
from sqap_vla_ros.tools.replay.standstill import StandingPlans

ROWS_PER_GROUP = 256


class _Table:
    """A Parquet file that grows in row groups and gets its final name when it is complete."""

    def __init__(self, path: Path, schema: pa.Schema) -> None:
        self._path = path
        self._partial = path.with_name(path.name + ".partial")
        self._writer = pq.ParquetWriter(self._partial, schema)
        self._schema = schema
        self._rows: list[Mapping[str, Any]] = []

    def add(self, row: Mapping[str, Any]) -> None:
        self._rows.append(row)
        if len(self._rows) >= ROWS_PER_GROUP:
            self._flush()

    def close(self, complete: bool) -> None:
        self._flush()
        self._writer.close()
        if complete:
            self._partial.replace(self._path)

    def _flush(self) -> None:
        if self._rows:
            self._writer.write_table(pa.Table.from_pylist(self._rows, self._schema))
            self._rows = []


class ReplayResults:
    """Writer of a replay's files.

    Args:
        directory: Directory for the files; it is created if it does not exist.
        settings: What was replayed and how, for the summary.

    Attributes:
        recorded_chunks: Number of chunks in a live recording; those without image or mask are not compared.
        baseline: Id of the baseline policy; empty: no baseline.
        configuration: The robot's and the policy's settings, for the summary.
    """

    def __init__(self, directory: Path, settings: Mapping[str, Any]) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self.directory = directory
        self.recorded_chunks = 0
        self.baseline = ""
        self.configuration: Configuration | None = None
        self._settings = dict(settings)
        self._ticks = _Table(directory / "ticks.parquet", TICKS)
        self._timings = _Table(directory / "timings.parquet", TIMINGS)
        self._rejections = ReasonCounter()
        self._no_tool = ReasonCounter()
        self._stages: dict[str, list[str]] = {}
        self._instructions: dict[str, None] = {}  # in their order
        self._planned = 0
        self._standing = StandingPlans()
        self._in_image_without_ring = 0
        self._compared = 0
        self._identical = 0
        self._largest_difference = 0.0
        self._notes: list[str] = []

    def __enter__(self) -> "ReplayResults":
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        self._ticks.close(kind is None)
        self._timings.close(kind is None)

    def add_note(self, sentence: str) -> None:
        """Add what is to be known about the recording."""
        self._notes.append(sentence)

    def add_rejection(self, stamp_ns: int, reason: str) -> None:
        """Add a tick on which nothing was planned."""
        self._rejections.add(reason)
        self._ticks.add({"stamp_ns": stamp_ns, "refused": reason})

    def add_tick(
        self,
        chunk: ActionChunk,
        measured: Mapping[str, Any],
        recorded_actions: NDArray[np.float64] | None = None,
        baseline: ActionChunk | None = None,
    ) -> None:
        """Add a planned tick.

        Args:
            chunk: The policy's chunk.
            measured: Values of the columns from `path_m` on; missing ones stay empty.
            recorded_actions: float64 (horizon, 7), recorded actions to compare with, if any.
            baseline: The baseline's chunk, if any.
        """
        self._planned += 1
        self._standing.count(chunk, self.configuration)
        self._instructions.setdefault(chunk.instruction)
        if chunk.tool_px is None:
            self._no_tool.add(chunk.no_ring_reason)
        elif not (chunk.selection.reasons & Reason.RING).any():
            self._in_image_without_ring += 1
        self._ticks.add(
            {
                "stamp_ns": chunk.stamp_ns,
                "refused": "",
                "instruction": chunk.instruction,
                "seed": chunk.seed,
                "time_step_s": chunk.time_step_s,
                "actions": chunk.actions.ravel().tolist(),
                "T_base_tool": chunk.T_base_tool.ravel().tolist(),
                "kept_tokens": chunk.selection.indices.tolist(),
                "token_reasons": chunk.selection.reasons.tolist(),
                "tool_u_px": None if chunk.tool_px is None else float(chunk.tool_px[0]),
                "tool_v_px": None if chunk.tool_px is None else float(chunk.tool_px[1]),
                "no_ring_reason": chunk.no_ring_reason,
                "recorded_difference": self._recorded_difference(chunk, recorded_actions),
                **measured,
            }
        )
        self._add_timings("policy", chunk)
        if baseline is not None:
            self._add_timings("baseline", baseline)

    def write_summary(self, damage: str = "") -> dict[str, Any]:
        """Write `summary.json`, once the files are closed; returns its content.

        Args:
            damage: A sentence about the damage at which reading ended; empty if the bag was read to its end.
        """
        with_tool = self._planned - self._no_tool.total
        reasons = self._no_tool.most_common()
        if self._in_image_without_ring:
            reasons["the policy protects no ring"] = self._in_image_without_ring
        summary: dict[str, Any] = {
            **self._settings,
            "baseline": self.baseline,
            "bag_damage": damage,
            "notes": [*self._notes, *filter(None, map(warning_about, self._instructions))],
            "ticks_planned": self._planned,
            "ticks_refused": self._rejections.total,
            "refusals": self._rejections.most_common(),
            "ring_coverage": {
                "in_image": with_tool,
                "used": with_tool - self._in_image_without_ring,
                "reasons": reasons,
            },
            "metrics": _metrics(self.directory / "ticks.parquet"),
            "seconds": {
                policy: {stage: self._percentiles(policy, stage) for stage in stages}
                for policy, stages in self._stages.items()
            },
        }
        summary["notes"] = [*summary.get("notes", []), *self._standing.notes]
        if self.configuration:
            summary["settings"] = self.configuration.model_dump(mode="json")
        if self._settings.get("as_recorded"):
            summary["recorded"] = {
                "published": self.recorded_chunks,
                "compared": self._compared,
                "identical_bit_for_bit": self._identical,
                # JSON knows no infinity.
                "largest_difference": self._largest_difference if np.isfinite(self._largest_difference) else None,
            }
        write_whole(self.directory / "summary.json", (json.dumps(summary, indent=2) + "\n").encode())
        return summary

    def _recorded_difference(self, chunk: ActionChunk, recorded: NDArray[np.float64] | None) -> float | None:
        if recorded is None:
            return None
        same_shape = recorded.shape == chunk.actions.shape
        difference = float(np.abs(recorded - chunk.actions).max()) if same_shape else np.inf
        difference = np.inf if np.isnan(difference) else difference
        self._compared += 1
        self._identical += same_shape and recorded.tobytes() == chunk.actions.tobytes()
        self._largest_difference = max(self._largest_difference, difference)
        return difference

    def _add_timings(self, policy: str, chunk: ActionChunk) -> None:
        stages = self._stages.setdefault(policy, [])
        for stage, seconds in {**chunk.timings_s, "total": sum(chunk.timings_s.values())}.items():
            if stage not in stages:
                stages.append(stage)
            self._timings.add({"stamp_ns": chunk.stamp_ns, "policy": policy, "stage": stage, "seconds": seconds})

    def _percentiles(self, policy: str, stage: str) -> dict[str, float]:
        rows = [("policy", "=", policy), ("stage", "=", stage)]
        seconds = pq.read_table(self.directory / "timings.parquet", columns=["seconds"], filters=rows)["seconds"]
        return {f"p{q}": float(np.percentile(seconds.to_numpy(), q)) for q in (50, 95, 99)}


def _metrics(ticks: Path) -> dict[str, dict[str, float | int]]:
    """Mean, p5, p50, p95, worst value and stamp of the worst tick of every metric that has finite values."""
    metrics: dict[str, dict[str, float | int]] = {}
    for name, more_is_better in METRICS.items():
        table = pq.read_table(ticks, columns=["stamp_ns", name])
        table = table.filter(pc.is_finite(table[name]))  # a recorded pose may be any number
        if len(table):
            values = table[name].to_numpy()
            worst = int(values.argmin() if more_is_better else values.argmax())
            metrics[name] = {
                "mean": float(values.mean()),
                **{f"p{q}": float(np.percentile(values, q)) for q in (5, 50, 95)},
                "worst": float(values[worst]),
                "worst_stamp_ns": table["stamp_ns"][worst].as_py(),
            }
    return metrics

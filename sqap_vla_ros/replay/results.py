"""What a replay leaves behind: one row per tick, and a summary.

`ticks.parquet` holds what the policy decided and is the same in every run on one machine; `timings.parquet` holds how
long it took. They grow row by row, so that a long bag needs no more memory than a short one; a run that was interrupted
leaves files named `*.partial`.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from sqap_vla_ros.action_chunk import ActionChunk
from sqap_vla_ros.reasons import ReasonCounter

ROWS_PER_GROUP = 64

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
    ]
)
TIMINGS = pa.schema([("stamp_ns", pa.int64()), ("stage", pa.string()), ("seconds", pa.float64())])


class _Table:
    """A Parquet file that grows in row groups and gets its name when it is complete."""

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
        directory: Where they go; made when missing.
        settings: What was replayed and how, for the summary.

    Attributes:
        recorded_chunks: How many chunks a live recording holds; those without their image or mask are not compared.
    """

    def __init__(self, directory: Path, settings: Mapping[str, Any]) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self.directory = directory
        self._settings = dict(settings)
        self._ticks = _Table(directory / "ticks.parquet", TICKS)
        self._timings = _Table(directory / "timings.parquet", TIMINGS)
        self._refusals = ReasonCounter()
        self._no_ring = ReasonCounter()
        self._seconds: dict[str, list[float]] = {}
        self._planned = 0
        self.recorded_chunks = 0
        self._compared = 0
        self._identical = 0
        self._largest_difference = 0.0

    def __enter__(self) -> "ReplayResults":
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        self._ticks.close(kind is None)
        self._timings.close(kind is None)

    def add_refusal(self, stamp_ns: int, reason: str) -> None:
        """A tick on which nothing was planned."""
        self._refusals.add(reason)
        self._ticks.add({"stamp_ns": stamp_ns, "refused": reason})

    def add_chunk(self, chunk: ActionChunk, recorded_actions: np.ndarray | None = None) -> None:
        """A planned tick, compared with the recorded actions (horizon, 7) where there are some."""
        self._planned += 1
        if chunk.tool_px is None:
            self._no_ring.add(chunk.no_ring_reason)
        difference = None
        if recorded_actions is not None:
            same_shape = recorded_actions.shape == chunk.actions.shape
            difference = float(np.abs(recorded_actions - chunk.actions).max()) if same_shape else float("inf")
            self._compared += 1
            self._identical += same_shape and recorded_actions.tobytes() == chunk.actions.tobytes()
            self._largest_difference = max(self._largest_difference, difference)
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
                "recorded_difference": difference,
            }
        )
        for stage, seconds in {**chunk.timings_s, "total": sum(chunk.timings_s.values())}.items():
            self._seconds.setdefault(stage, []).append(seconds)
            self._timings.add({"stamp_ns": chunk.stamp_ns, "stage": stage, "seconds": seconds})

    def write_summary(self, damage: str = "") -> dict[str, Any]:
        """Write `summary.json`; returns its content.

        Args:
            damage: In words, where reading the bag had to end early; empty: it was read to its end.
        """
        summary: dict[str, Any] = {
            **self._settings,
            "bag_damage": damage,
            "ticks_planned": self._planned,
            "ticks_refused": self._refusals.total,
            "refusals": self._refusals.most_common(),
            "ticks_with_ring": self._planned - self._no_ring.total,
            "no_ring_reasons": self._no_ring.most_common(),
            "seconds": {
                stage: {f"p{q}": float(np.percentile(values, q)) for q in (50, 95, 99)}
                for stage, values in self._seconds.items()
            },
        }
        if self._settings.get("as_recorded"):
            summary["recorded"] = {
                "published": self.recorded_chunks,
                "compared": self._compared,
                "identical_bit_for_bit": self._identical,
                "largest_difference": self._largest_difference,
            }
        (self.directory / "summary.json").write_text(json.dumps(summary, indent=2) + "\n", encoding="utf-8")
        return summary

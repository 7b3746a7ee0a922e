"""Reading the results of a replay, for pictures, report and comparison."""

import json
from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from sqap_vla_ros.core.clock import STAMP_BACK_NS, JumpDetector


class RunError(ValueError):
    """A directory that holds no results of a replay; the message says which, why, and what to do."""


class Run:
    """The results of one bag.

    Args:
        directory: Output directory of `sqap-vla replay`, or one of the directories in it for several bags.

    Attributes:
        summary: Content of `summary.json`; empty until the replay has written it.

    Raises:
        RunError: It holds no complete results.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        if (directory / "ticks.parquet.partial").exists():
            raise RunError(f"{directory}: the replay into it was interrupted; replay the bag again")
        self.summary = read_summary(directory)
        try:
            self._ticks = pq.ParquetFile(directory / "ticks.parquet")
        except FileNotFoundError:
            raise RunError(f"{directory}: no ticks.parquet in it; give the --out of a `sqap-vla replay`") from None
        except (OSError, pa.ArrowException) as error:
            raise RunError(f"{directory}/ticks.parquet: cannot be read: {error}; replay the bag again") from None
        sizes = (self._ticks.metadata.row_group(group).num_rows for group in range(self._ticks.num_row_groups))
        self._first_ticks = list(accumulate(sizes, initial=0))[:-1]  # of each group
        self._group = -1
        self._rows: list[dict[str, Any]] = []

    @property
    def name(self) -> str:
        """Name of the bag."""
        return Path(self.summary.get("bag", self.directory)).name

    @cached_property
    def stamps_ns(self) -> NDArray[np.int64]:
        """Stamps of all images, rejected ones included, in the order of the replay, int64 (ticks,)."""
        return np.asarray(self._table("stamp_ns").to_numpy(), np.int64)

    @cached_property
    def planned(self) -> NDArray[np.bool_]:
        """Whether each tick has a plan, bool (ticks,)."""
        return np.asarray(self._table("refused").to_numpy() == "", bool)

    def column(self, name: str) -> NDArray[np.float64]:
        """Read a column of numbers, float64 (ticks,), NaN where a tick has none."""
        return np.asarray(self._table(name).to_numpy(), np.float64)

    def strings(self, name: str) -> list[str]:
        """Read a column of strings, empty where a tick has none."""
        return [text or "" for text in self._table(name).to_pylist()]

    def lists(self, *names: str) -> Iterator[tuple[NDArray[np.float64], ...]]:
        """Read columns of lists of numbers part by part, since they may be too large for the memory.

        Yields:
            For each column float64 (ticks of the part, numbers), NaN for a missing tick or number.
        """
        first = next(iter(np.flatnonzero(self.planned)), None)
        widths = [0 if first is None else len(self.row(int(first))[name] or ()) for name in names]
        for group in range(self._ticks.num_row_groups):
            table = self._ticks.read_row_group(group, columns=list(names), use_threads=False)
            yield tuple(_as_array(table[name], width) for name, width in zip(names, widths, strict=True))

    def mean(self, column: str) -> float:
        """Mean of a metric over the ticks that have it, from the summary; NaN if none has."""
        return float(self.summary["metrics"].get(column, {}).get("mean", np.nan))

    def row(self, tick: int) -> Mapping[str, Any]:
        """Read all columns of one tick; this is cheap for ticks near the last one, however long the file is."""
        group = bisect_right(self._first_ticks, tick) - 1
        if group != self._group:
            self._group, self._rows = group, self._ticks.read_row_group(group, use_threads=False).to_pylist()
        return self._rows[tick - self._first_ticks[group]]

    @property
    def begin_ns(self) -> int:
        """Stamp of the first plan, where the report's time starts; a rejected image may have any stamp."""
        planned = self.stamps_ns[self.planned]
        return int((planned if len(planned) else self.stamps_ns)[0]) if len(self.stamps_ns) else 0

    @cached_property
    def laps(self) -> NDArray[np.int64]:
        """How often the clock was set back before each tick, int64 (ticks,); stamps may repeat from lap to lap."""
        laps, lap = Laps(), np.empty(len(self.stamps_ns), np.int64)
        for tick, at_ns in enumerate(self.stamps_ns.tolist()):
            lap[tick] = laps.at(at_ns)
        return lap

    def planned_by_stamp(self) -> dict[tuple[int, int], int]:
        """Map lap and stamp (ns) to tick, for ticks with a plan."""
        return {(int(self.laps[tick]), int(self.stamps_ns[tick])): int(tick) for tick in np.flatnonzero(self.planned)}

    def planning_seconds(self) -> NDArray[np.float64]:
        """Duration of each plan of the policy, float64 (ticks,), seconds, NaN without plan."""
        parts: list[NDArray[np.float64]] = [np.empty(0)]
        try:
            for part in pq.ParquetFile(self.directory / "timings.parquet").iter_batches(use_threads=False):
                wanted = pc.and_(pc.equal(part["policy"], "policy"), pc.equal(part["stage"], "total"))
                parts.append(part.filter(wanted)["seconds"].to_numpy())
        except (OSError, pa.ArrowException) as error:
            raise RunError(f"{self.directory}/timings.parquet: cannot be read: {error}; replay again") from None
        seconds, total = np.full(len(self.planned), np.nan), np.concatenate(parts)
        if len(total) != self.planned.sum():
            raise RunError(f"{self.directory}: timings.parquet does not belong to ticks.parquet; replay again")
        seconds[self.planned] = total
        return seconds

    def _table(self, name: str) -> pa.ChunkedArray:
        try:
            return self._ticks.read(columns=[name], use_threads=False)[name]
        except KeyError:
            raise RunError(f"{self.directory}/ticks.parquet: has no column '{name}'; replay the bag again") from None


class Laps:
    """Counts how often stamps went back farther than those of a late frame."""

    def __init__(self) -> None:
        self._lap = 0
        self._stamps = JumpDetector(STAMP_BACK_NS)

    def at(self, stamp_ns: int) -> int:
        """Return the lap of the next stamp."""
        self._lap += self._stamps.jump_ns(stamp_ns) != 0
        return self._lap


def _as_array(column: pa.ChunkedArray, width: int) -> NDArray[np.float64]:
    """Convert lists that are `width` long or missing to float64 (lists, width)."""
    rows = np.full((len(column), width), np.nan)
    known = column.is_valid().to_numpy()
    rows[known] = column.combine_chunks().flatten().to_numpy(zero_copy_only=False).reshape(-1, width)
    return rows


def read_summary(directory: Path) -> dict[str, Any]:
    """Read the `summary.json` of a directory; empty if it has none."""
    try:
        content = json.loads((directory / "summary.json").read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise RunError(f"{directory}/summary.json: cannot be read: {error}") from None
    if not isinstance(content, dict):
        raise RunError(f"{directory}/summary.json: expected an object, found {type(content).__name__}")
    return content


def find_runs(directory: Path) -> Sequence[Run]:
    """Find the results of one bag, or of several without those that failed.

    Raises:
        RunError: The directory holds no results, or incomplete ones.
    """
    if any(directory.glob("ticks.parquet*")):
        return [Run(directory)]
    names = read_summary(directory).get("bags")
    if names is None and any(directory.glob("*/ticks.parquet*")):
        raise RunError(f"{directory}: the replays into it were interrupted; give the same command with --resume")
    if not names:
        raise RunError(f"{directory}: no results of a replay in it; give the --out of a `sqap-vla replay`")
    return [Run(directory / name) for name in names]

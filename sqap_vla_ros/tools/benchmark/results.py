"""What the bench measures, and the file that keeps it."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from sqap_vla_ros.core.files import write_whole
from sqap_vla_ros.tools.benchmark.measure import Timing
from sqap_vla_ros.tools.benchmark.plot import plot
from sqap_vla_ros.tools.benchmark.report import figures
from sqap_vla_ros.tools.benchmark.rows import ROWS

RESULT, PLOT = "bench.json", "bench.png"
# What is measured once for all rows.
_ONCE = ("rates", "context_gib", "selection", "action_head_half_difference")


@dataclass(frozen=True)
class Settings:
    """What is measured.

    Attributes:
        device: "cuda" or "cpu".
        size: Size of the action head, a key of `published.HEADS`.
        repeats: Plans per policy that count.
        text_tokens: Tokens of the instruction, BOS and cognition token included.
        rows: Names of the policies, keys of `rows.ROWS`; empty: all.
        budget_s: No policy is begun when this time has passed; None: each is.
    """

    device: str
    size: str = "base"
    repeats: int = 100
    text_tokens: int = 24
    rows: tuple[str, ...] = ()
    budget_s: float | None = None

    @property
    def names(self) -> list[str]:
        """The policies in their order."""
        return [name for name in ROWS if not self.rows or name in self.rows]


@dataclass(frozen=True)
class Measured:
    """Figures of one policy.

    Attributes:
        plan: Time from the camera image to the samples on the host, which a caller waits for.
        device: Time of the device's part of a plan; None: not separated.
        stages: Times of the stages of that part.
        floors_ms: Least time per stage at the device's measured rates.
        peak_gib: Most memory while the network is made and plans; None on a CPU.
        chunk_error: Error of the samples, relative to those of the plain path on the same network; None: not compared.
        kept_alike: Share of the plain path's visual tokens that were chosen here too; None: none are chosen.
        replays_differ: Repeated plans that were not the same to the last bit; None: not compared.
    """

    plan: Timing
    device: Timing | None
    stages: dict[str, Timing]
    floors_ms: dict[str, float]
    peak_gib: float | None
    chunk_error: float | None
    kept_alike: float | None
    replays_differ: int | None


@dataclass
class Results:
    """Everything that is known so far, by row.

    Attributes:
        made_with: What the rows of one file have in common.
        rows: Fields of `Measured`.
        failed: One line of the error of a row that failed.
        traces: Its traceback.
        skipped: Why a row was not measured.
        left: Rows that another process must measure, because the GPU does not answer this one any more.
        once: What is measured once for all rows.
    """

    made_with: Mapping[str, Any]
    rows: dict[str, dict[str, Any]] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)
    traces: dict[str, str] = field(default_factory=dict)
    skipped: dict[str, str] = field(default_factory=dict)
    left: list[str] = field(default_factory=list)
    once: dict[str, Any] = field(default_factory=dict)

    def read(self, file: Path, names: Iterable[str]) -> None:
        """Take over what an earlier run measured of the named rows."""
        earlier = json.loads(file.read_text(encoding="utf-8"))
        wanted = set(names)
        for here, before in ((self.rows, "rows"), (self.failed, "failed"), (self.traces, "traces")):
            here.update({name: value for name, value in earlier[before].items() if name in wanted})
        self.once = {name: earlier[name] for name in _ONCE if name in earlier}

    def forget(self, names: Iterable[str]) -> None:
        """Leave out what is known of the named rows."""
        for known in (self.rows, self.failed, self.traces):
            for name in names:
                known.pop(name, None)

    def write(self, directory: Path) -> dict[str, Any]:
        """Write the result file and its plot; return the content."""
        rows = {name: self.rows[name] for name in ROWS if name in self.rows}
        content = {
            **self.made_with,
            "date": datetime.now(UTC).strftime("%Y-%m-%d"),
            "figures": figures(rows, self.once),
            "rows": rows,
            "failed": self.failed,
            "skipped": self.skipped,
            "left": self.left,
            "traces": self.traces,
            **self.once,
        }
        write_whole(directory / RESULT, (json.dumps(content, indent=2) + "\n").encode())
        if rows:
            plot(content, directory / PLOT)
        return content

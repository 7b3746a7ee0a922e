"""Figures of an episode in the cell: commands, their rate, and the time from an image to its trajectory."""

import json
from collections import deque
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np

from sqap_vla_ros.core.files import write_whole

_KEPT = 100_000  # per kind: hours at 20 Hz


@dataclass(frozen=True)
class EpisodeReport:
    """Figures of an episode, so far or at its end.

    Attributes:
        task: The instruction.
        success: Whether the task's own predicate holds.
        simulated_s: Simulated time.
        wall_s: Wall time that it took.
        images: Images published.
        chunks: Action chunks received.
        commands: Arm trajectories received.
        violations: Times that the arm's controller wanted more than the arm's limits (once per simulation step).
        commands_per_simulated_s: Rate of commands, from the first to the last one; 0 with fewer than two.
        commands_per_wall_s: The same in wall time.
        latency_median_ms: Publishing of an image to arrival of the trajectory planned on it, wall time; None: none yet.
        latency_p99_ms: The same, 99th percentile.
    """

    task: str
    success: bool
    simulated_s: float
    wall_s: float
    images: int
    chunks: int
    commands: int
    violations: int
    commands_per_simulated_s: float
    commands_per_wall_s: float
    latency_median_ms: float | None
    latency_p99_ms: float | None

    def write(self, path: Path) -> None:
        """Write as JSON; a reader sees the old file or the new one, never half of it."""
        write_whole(path, (json.dumps(asdict(self), indent=2) + "\n").encode())


def _log() -> deque[tuple[int, int]]:
    return deque(maxlen=_KEPT)


@dataclass
class EpisodeLog:
    """Moments of an episode in nanoseconds of the system's clock, which the middleware stamps messages with.

    A trajectory does not name the image that it was planned on. But its publisher sends each chunk (which does) right
    after the chunk's trajectory, so the order of sending, not of arrival, tells which belong together.

    Attributes:
        images: (stamp, published).
        trajectories: (sent, received).
        chunks: (sent, stamp of the image).
        violations: Times that the arm's controller wanted more than the arm's limits.
        command_times_s: Simulated time at which each trajectory took effect.
    """

    images: deque[tuple[int, int]] = field(default_factory=_log)
    trajectories: deque[tuple[int, int]] = field(default_factory=_log)
    chunks: deque[tuple[int, int]] = field(default_factory=_log)
    violations: int = 0
    command_times_s: deque[float] = field(default_factory=lambda: deque(maxlen=_KEPT))

    def latencies_s(self) -> list[float]:
        """Publishing of an image to the arrival of the trajectory planned on it, per chunk that led to one."""
        published = dict(self.images)
        trajectories = sorted(self.trajectories)
        latencies: list[float] = []
        next_one = 0
        for sent, stamp in sorted(self.chunks):
            mine = None
            while next_one < len(trajectories) and trajectories[next_one][0] <= sent:
                mine = trajectories[next_one]
                next_one += 1
            if mine is not None and stamp in published:
                latencies.append((mine[1] - published[stamp]) * 1e-9)
        return latencies

    def report(self, task: str, success: bool, simulated_s: float, wall_s: float) -> EpisodeReport:
        """The figures so far."""
        latencies_ms = np.array(self.latencies_s()) * 1e3
        received = [at for _, at in sorted(self.trajectories)]
        return EpisodeReport(
            task=task,
            success=success,
            simulated_s=simulated_s,
            wall_s=wall_s,
            images=len(self.images),
            chunks=len(self.chunks),
            commands=len(received),
            violations=self.violations,
            commands_per_simulated_s=_rate(list(self.command_times_s)),
            commands_per_wall_s=_rate([at * 1e-9 for at in received]),
            latency_median_ms=float(np.median(latencies_ms)) if latencies_ms.size else None,
            latency_p99_ms=float(np.percentile(latencies_ms, 99)) if latencies_ms.size else None,
        )


def _rate(times_s: list[float]) -> float:
    if len(times_s) < 2 or times_s[-1] <= times_s[0]:
        return 0.0
    return (len(times_s) - 1) / (times_s[-1] - times_s[0])

"""A long run that shows whether the node's memory grows, and whether its status is ever late.

First the small random model runs for as long as asked, with a robot that sends 640×480 images at 20 Hz. Memory is that
of the node and its policy's process, compared between the medians of the first and the last tenth, after a warm-up.
Then a sleeping policy runs, for the node's own share of a tick.
"""

import os
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import rclpy
import tyro
from rclpy.node import Node
from sqap_vla.msg import PolicyStatus

from benchmarks.node_overhead import measure
from benchmarks.results import RESULTS, write_results
from sqap_vla_ros.policies.registry import load_policy
from sqap_vla_ros.ros.node import STATUS_PERIOD_S
from sqap_vla_ros.testing.random_checkpoint import write_random_checkpoint
from sqap_vla_ros.testing.ros_session import start_ros
from sqap_vla_ros.testing.stub_policies import sleeping

# Statuses come every 0.2 s; one that is later than two periods was missed.
_LATE_S = 2 * STATUS_PERIOD_S
_OVERHEAD_S = 60.0


class _Watch(Node):
    """Notes when statuses come, and what the node and its children hold in memory."""

    def __init__(self) -> None:
        super().__init__("soak_watch")
        self.times_s: list[float] = []
        self.rss_bytes: list[int] = []
        self.create_subscription(PolicyStatus, "/sqap_vla/status", self._note_status, 50)
        self.create_timer(1.0, lambda: self.rss_bytes.append(resident_bytes(os.getpid())))

    def _note_status(self, status: PolicyStatus) -> None:
        if status.state == PolicyStatus.RUNNING:
            self.times_s.append(time.monotonic())

    @property
    def missed(self) -> int:
        """Statuses that did not come when they should have."""
        gaps_s = np.diff(self.times_s)
        return int(np.floor(gaps_s[gaps_s > _LATE_S] / STATUS_PERIOD_S).sum())

    def growth_percent(self, warm_up_s: int) -> float:
        """Of the memory, from the first tenth after the warm-up to the last."""
        held = self.rss_bytes[warm_up_s:]
        tenth = max(1, len(held) // 10)
        return float((np.median(held[-tenth:]) / np.median(held[:tenth]) - 1) * 100)


def resident_bytes(pid: int) -> int:
    """Resident memory of a process and the children that it spawned as policy workers."""
    pages = int(Path(f"/proc/{pid}/statm").read_text(encoding="ascii").split()[1])
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="ascii").split()
    total = pages * os.sysconf("SC_PAGE_SIZE")
    for child in children:
        command = Path(f"/proc/{child}/cmdline").read_bytes()
        if b"spawn_main" in command:
            total += resident_bytes(int(child))
    return total


def main(minutes: float = 30.0, out: Path = RESULTS) -> None:
    """Run and write `soak.json`.

    Example: python -m benchmarks.soak --minutes 1 --out out/benchmarks

    Args:
        minutes: Duration with the small model [min].
        out: Directory of the result file; any other than the default leaves the published results alone.
    """
    start_ros()
    watch = _Watch()
    with tempfile.TemporaryDirectory() as directory:
        checkpoint = write_random_checkpoint(Path(directory) / "run")
        model = measure(640, 480, minutes * 60, load_policy, companion=watch, policy="sqap", checkpoint=str(checkpoint))
    watch.destroy_node()
    overhead = measure(640, 480, min(_OVERHEAD_S, minutes * 60), sleeping)
    rclpy.shutdown()
    figures = {
        "minutes": minutes,
        "rss_growth_percent": watch.growth_percent(warm_up_s=min(60, round(minutes * 6))),
        "rss_mib": watch.rss_bytes[-1] / 2**20,
        "missed_statuses": float(watch.missed),
        "ticks": model.figures()["ticks"],
        "overhead_p99_ms_640x480": overhead.figures()["overhead_p99_ms"],
    }
    print(figures, file=sys.stderr)
    write_results("soak", figures, out, rss_mib=[round(held / 2**20, 1) for held in watch.rss_bytes[::10]])


if __name__ == "__main__":
    tyro.cli(main)

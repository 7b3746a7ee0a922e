"""The node's own share of a tick, and the way from image stamp to published trajectory.

Overhead is (image taken from the slot -> `plan` entered) + (`plan` returned -> trajectory published). Waiting for
transforms or for a running plan is not in it. Measured with a policy that sleeps, so that nothing else wants the cores,
and with the small random model, which does. The robot runs in a process of its own. Rate and latency of the whole come
from the demo.
"""

import gc
import json
import subprocess
import sys
import tempfile
import time
from collections import deque
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import rclpy
import tyro
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.parameter import Parameter

from benchmarks.results import RESULTS, write_results
from sqap_vla_ros.policies.registry import load_policy
from sqap_vla_ros.ros.node import PolicyNode
from sqap_vla_ros.testing.random_checkpoint import write_random_checkpoint
from sqap_vla_ros.testing.ros_session import start_ros
from sqap_vla_ros.testing.stub_policies import sleeping
from sqap_vla_ros.testing.synthetic_robot import parameters

WARM_UP_TICKS = 20


@dataclass(frozen=True)
class Measured:
    """Milliseconds of all ticks after the warm-up."""

    overhead_ms: np.ndarray
    latency_ms: np.ndarray

    def figures(self) -> dict[str, float]:
        """Medians and 99th percentiles."""
        return {
            "ticks": float(len(self.overhead_ms)),
            "overhead_p50_ms": float(np.percentile(self.overhead_ms, 50)),
            "overhead_p99_ms": float(np.percentile(self.overhead_ms, 99)),
            "image_to_trajectory_p50_ms": float(np.percentile(self.latency_ms, 50)),
            "image_to_trajectory_p99_ms": float(np.percentile(self.latency_ms, 99)),
        }


def measure(
    width: int, height: int, seconds: float, factory: Any, companion: Node | None = None, **settings: Any
) -> Measured:
    """Run the node and a robot with images of this size at 20 Hz.

    Args:
        width: Width of the images [px].
        height: Height of the images [px].
        seconds: Duration [s].
        factory: Builds the policy.
        companion: Another node that runs in the same executor.
        **settings: Settings of the node.
    """
    values = parameters(instruction="pick up the can", **settings)
    overrides = [Parameter(name, value=value) for name, value in values.items()]
    node = PolicyNode(factory, parameter_overrides=overrides)
    executor = SingleThreadedExecutor()
    executor.add_node(node)
    if companion is not None:
        executor.add_node(companion)
    gc.collect()  # as the node's executable does
    gc.freeze()
    size = ["--width", str(width), "--height", str(height)]
    robot = subprocess.Popen([sys.executable, "-m", "sqap_vla_ros.testing.synthetic_robot", *size])
    try:
        node.start()
        statistics = node.statistics
        if statistics is None:
            raise SystemExit("the node could not be configured; its log above says why")
        statistics.overheads_s = deque()
        statistics.latencies_s = deque()
        begin, told_s = time.monotonic(), -1
        while (elapsed := time.monotonic() - begin) < seconds:
            executor.spin_once(timeout_sec=0.1)
            if int(elapsed) > told_s:
                told_s = int(elapsed)
                print(f"\r{width}x{height}: {told_s:4d} of {seconds:g} s", end="", file=sys.stderr)
        print(file=sys.stderr)
    finally:
        robot.terminate()
        robot.wait()
        node.close()
        executor.shutdown()
        node.destroy_node()
    return Measured(
        np.array(statistics.overheads_s)[WARM_UP_TICKS:] * 1e3, np.array(statistics.latencies_s)[WARM_UP_TICKS:] * 1e3
    )


def play_demo(out: Path, *more: str, python: str = sys.executable, directory: Path | None = None) -> dict[str, Any]:
    """The figures of a demo: cell, node and policy on this machine.

    Args:
        out: Directory for what it leaves.
        *more: Its other arguments.
        python: That runs it.
        directory: Where; None: here.
    """
    command = [python, "-m", "sqap_vla_ros", "demo", "--out", str(out), *more]
    subprocess.run(command, cwd=directory, check=True)
    report: dict[str, Any] = json.loads((out / "report.json").read_text(encoding="utf-8"))
    return report


def main(seconds: float = 40.0, out: Path = RESULTS) -> None:
    """Measure and write `node_overhead.json`.

    Example: python -m benchmarks.node_overhead --seconds 5 --out out/benchmarks

    Args:
        seconds: Duration of each of the three measurements [s].
        out: Directory of the result file; any other than the default leaves the published results alone.
    """
    start_ros()
    vga = measure(640, 480, seconds, sleeping)
    full_hd = measure(1920, 1080, seconds, sleeping)
    with tempfile.TemporaryDirectory() as directory:
        run = write_random_checkpoint(Path(directory) / "run")
        model = measure(640, 480, seconds, load_policy, policy="sqap", checkpoint=str(run))
        rclpy.shutdown()
        demo = play_demo(Path(directory) / "demo")
    cases = {"sleeping_640x480": vga, "sleeping_1920x1080": full_hd, "small_model_640x480": model}
    for name, case in cases.items():
        print(f"{name}: " + ", ".join(f"{key} {value:.2f}" for key, value in case.figures().items()))
    figures = {
        "overhead_p99_ms_640x480": vga.figures()["overhead_p99_ms"],
        "overhead_p99_ms_1920x1080": full_hd.figures()["overhead_p99_ms"],
        "overhead_p99_ms_640x480_small_model": model.figures()["overhead_p99_ms"],
        "image_to_trajectory_p99_ms": demo["latency_p99_ms"],
        "demo_rate_hz": demo["commands_per_simulated_s"],
    }
    write_results("node_overhead", figures, out, cases={name: case.figures() for name, case in cases.items()})


if __name__ == "__main__":
    tyro.cli(main)

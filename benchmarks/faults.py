"""Injects faults into a node that drives a synthetic robot over real topics; counts what a real arm would not survive.

The node runs in a process of its own and meets all faults in turn, recovering from each, while its arm goes round in a
circle. `steady_controller` applies the rules of a joint_trajectory_controller at 100 Hz, and counts every step of
position and every velocity and acceleration beyond the limits.
"""

import signal
from pathlib import Path

import numpy as np
import rclpy
import tyro

from benchmarks.results import RESULTS, write_results
from sqap_vla_ros.testing.fault_bench import FaultBench, Reaction
from sqap_vla_ros.testing.fault_cases import FAULTS
from sqap_vla_ros.testing.fault_injection import end_node, meet
from sqap_vla_ros.testing.ros_session import start_ros

ENDS = (("node gets SIGTERM", signal.SIGTERM), ("node is killed (-9)", signal.SIGKILL))


def main(only: str = "", out: Path = RESULTS) -> None:
    """Inject all faults and write `faults.json`.

    Example: python -m benchmarks.faults --only camera --out out/benchmarks

    Args:
        only: Inject the faults with this in their name only; then no results are written.
        out: Directory of the result file; any other than the default leaves the published results alone.
    """
    faults = [fault for fault in FAULTS if only in fault.name]
    ends = [(name, number) for name, number in ENDS if only in name]
    start_ros()
    reactions: dict[str, Reaction] = {}
    responses: dict[str, str] = {}
    with FaultBench() as bench:
        for number, fault in enumerate(faults, 1):
            print(f"{number:2d} of {len(faults) + len(ends)}  {fault.name:36s}", end="", flush=True)
            reactions[fault.name], responses[fault.name] = meet(bench, fault), fault.response
            print(reactions[fault.name])
        for number, (name, signal_number) in enumerate(ends, len(faults) + 1):
            print(f"{number:2d} of {len(faults) + len(ends)}  {name:36s}", end="", flush=True)
            reactions[name], responses[name] = end_node(bench, signal_number), "at rest"
            print(reactions[name])
    rclpy.shutdown()
    holds_ms = [reaction.hold_ms for reaction in reactions.values() if reaction.hold_ms is not None]
    figures = {
        "faults_injected": len(reactions),
        "unsafe_commands": sum(len(reaction.violations) for reaction in reactions.values()),
        "faults_not_named": sum(not reaction.reported for reaction in reactions.values()),
        "faults_without_recovery": sum(not reactions[fault.name].recovered for fault in faults),
        "hold_p99_ms": float(np.percentile(holds_ms, 99)) if holds_ms else 0.0,
        "hold_median_ms": float(np.median(holds_ms)) if holds_ms else 0.0,
    }
    print(figures)
    if not only:
        cases = [
            {
                "fault": name,
                "response": responses[name],
                "hold_ms": None if reaction.hold_ms is None else round(reaction.hold_ms),
                "rest_s": None if reaction.rest_s is None else round(reaction.rest_s, 2),
                "unsafe": len(reaction.violations),
            }
            for name, reaction in reactions.items()
        ]
        write_results("faults", figures, out, cases=cases)


if __name__ == "__main__":
    tyro.cli(main)

"""How long `make demo` takes on a clean clone, and again: what a newcomer waits; and how often the demo succeeds."""

import json
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import tyro

from benchmarks.results import RESULTS, write_results


def minutes(directory: Path) -> float:
    """Of one `make demo`."""
    begin = time.monotonic()
    subprocess.run(["make", "demo"], cwd=directory, check=True)
    return (time.monotonic() - begin) / 60


def play(clone: Path, initial_state: int) -> dict[str, Any]:
    """The report of a demo from another initial state."""
    out = clone / "out" / f"demo{initial_state}"
    command = [".venv/bin/python", "-m", "sqap_vla_ros.simulation.demo", "--initial-state", str(initial_state)]
    subprocess.run([*command, "--out", str(out)], cwd=clone, check=True)
    report: dict[str, Any] = json.loads((out / "report.json").read_text(encoding="utf-8"))
    return report


def main(write: bool = True) -> None:
    """Clone what is committed, run `make demo` twice and the demo from ten states, and write `results/demo.json`.

    Args:
        write: Keep the results.
    """
    with tempfile.TemporaryDirectory() as directory:
        clone = Path(directory) / "clone"
        subprocess.run(["git", "clone", "--quiet", str(RESULTS.parents[1]), str(clone)], check=True)
        figures = {"setup_and_run_minutes": minutes(clone), "second_run_minutes": minutes(clone)}
        reports = [play(clone, state) for state in range(10)]
    figures["success_of_10"] = sum(report["success"] for report in reports)
    figures["plans_per_s"] = float(np.median([report["chunks"] / report["wall_s"] for report in reports]))
    print(figures)
    if write:
        print(write_results("demo", figures))


if __name__ == "__main__":
    tyro.cli(main)

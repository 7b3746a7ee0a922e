"""How long a newcomer waits for `make demo` on a clean clone, the first and the second time; how often it succeeds."""

import subprocess
import tempfile
import time
from pathlib import Path

import numpy as np
import tyro

from benchmarks.node_overhead import play_demo
from benchmarks.results import RESULTS, write_results


def minutes(directory: Path) -> float:
    """Minutes that one `make demo` takes."""
    begin = time.monotonic()
    subprocess.run(["make", "demo"], cwd=directory, check=True)
    return (time.monotonic() - begin) / 60


def main(write: bool = True) -> None:
    """Clone what is committed, run `make demo` twice and the demo from ten states, and write `results/demo.json`.

    Args:
        write: Whether to write the results.
    """
    with tempfile.TemporaryDirectory() as directory:
        clone = Path(directory) / "clone"
        subprocess.run(["git", "clone", "--quiet", str(RESULTS.parents[1]), str(clone)], check=True)
        figures = {"setup_and_run_minutes": minutes(clone), "second_run_minutes": minutes(clone)}
        python = str(clone / ".venv" / "bin" / "python")
        reports = [
            play_demo(clone / "out" / f"demo{state}", "--initial-state", str(state), python=python, directory=clone)
            for state in range(10)
        ]
    figures["success_of_10"] = sum(report["success"] for report in reports)
    figures["plans_per_s"] = float(np.median([report["chunks"] / report["wall_s"] for report in reports]))
    print(figures)
    if write:
        print(write_results("demo", figures))


if __name__ == "__main__":
    tyro.cli(main)

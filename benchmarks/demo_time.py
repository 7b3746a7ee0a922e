"""How long `make demo` takes on a clean clone, and again: what a newcomer waits."""

import subprocess
import tempfile
import time
from pathlib import Path

import tyro

from benchmarks.results import RESULTS, write_results


def minutes(directory: Path) -> float:
    """Of one `make demo`."""
    begin = time.monotonic()
    subprocess.run(["make", "demo"], cwd=directory, check=True)
    return (time.monotonic() - begin) / 60


def main(write: bool = True) -> None:
    """Clone what is committed, run the demo twice, and write `results/demo.json`.

    Args:
        write: Keep the results.
    """
    with tempfile.TemporaryDirectory() as directory:
        clone = Path(directory) / "clone"
        subprocess.run(["git", "clone", "--quiet", str(RESULTS.parents[1]), str(clone)], check=True)
        figures = {"setup_and_run_minutes": minutes(clone), "second_run_minutes": minutes(clone)}
    print(figures)
    if write:
        print(write_results("demo", figures))


if __name__ == "__main__":
    tyro.cli(main)

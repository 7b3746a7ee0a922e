"""Calculates floors of GPUs from their data sheets, as `sqap-vla bench --calculated` prints them."""

from pathlib import Path

import tyro

from benchmarks.results import RESULTS, write_results
from sqap_vla_ros.tools.benchmark.deployment import deployment_figures, deployments


def main(out: Path = RESULTS) -> None:
    """Calculate and write `deployment.json`.

    Example: python -m benchmarks.deployment --out out/benchmarks

    Args:
        out: Directory of the result file; any other than the default leaves the published results alone.
    """
    write_results("deployment", deployment_figures(deployments()), out, machine="calculated from data sheets")


if __name__ == "__main__":
    tyro.cli(main)

"""Floors on GPUs that nobody measured, from their data sheets: what `sqap-vla bench --calculated` prints."""

from benchmarks.results import write_results
from sqap_vla_ros.tools.benchmark.deployment import deployment_figures, deployments


def main() -> None:
    """Write `results/deployment.json`."""
    path = write_results("deployment", deployment_figures(deployments()), machine="calculated from data sheets")
    print(f"written to {path}")


if __name__ == "__main__":
    main()

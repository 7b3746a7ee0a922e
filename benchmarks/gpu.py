"""Publishes the results of `sqap-vla bench` on a GPU: copies them to the results and its plot to the documentation."""

import json
import re
import shutil
from pathlib import Path

import tyro

from benchmarks.results import RESULTS, plot_directory, write_results


def main(bench: Path = Path("out/bench"), out: Path = RESULTS) -> None:
    """Write `gpu_<device>.json` and `gpu_<device>.png`, for example gpu_h200.json.

    Example: python -m benchmarks.gpu --bench out/bench --out out/benchmarks

    Args:
        bench: Directory that `sqap-vla bench` wrote on a GPU.
        out: Directory of the result file; any other than the default leaves the published results alone.
    """
    measured = json.loads((bench / "bench.json").read_text(encoding="utf-8"))
    if measured["depth"] != "as published":
        raise SystemExit(f"{bench}: measured with {measured['depth']}, on {measured['device']}; run it on a GPU")
    device = re.sub(r"^nvidia |geforce ", "", measured["device"].lower())
    name = "gpu_" + re.sub(r"\W+", "_", device).strip("_")
    figures = measured.pop("figures")
    machine = f"{measured['device']}, torch {measured['torch']}"
    write_results(name, figures, out, **measured, machine=machine, command="sqap-vla bench")
    plot_path = plot_directory(out) / f"{name}.png"
    shutil.copyfile(bench / "bench.png", plot_path)


if __name__ == "__main__":
    tyro.cli(main)

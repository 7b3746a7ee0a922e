"""Takes what `sqap-vla bench` measured on a GPU over into `results/` and `docs/`."""

import json
import re
import shutil
from pathlib import Path

import tyro

from benchmarks.results import RESULTS, write_results


def main(bench: Path = Path("out/bench")) -> None:
    """Write `results/gpu_<device>.json` and `docs/images/gpu_<device>.png`, as gpu_h200.

    Args:
        bench: Directory that `sqap-vla bench` wrote, on a GPU.
    """
    measured = json.loads((bench / "bench.json").read_text(encoding="utf-8"))
    if measured["depth"] != "as published":
        raise SystemExit(f"{bench}: measured with {measured['depth']}, on {measured['device']}; run it on a GPU")
    device = re.sub(r"^nvidia |geforce ", "", measured["device"].lower())
    name = "gpu_" + re.sub(r"\W+", "_", device).strip("_")
    figures = measured.pop("figures")
    machine = f"{measured['device']}, torch {measured['torch']}"
    path = write_results(name, figures, **measured, machine=machine, command="sqap-vla bench")
    picture = RESULTS.parents[1] / "docs" / "images" / f"{name}.png"
    shutil.copyfile(bench / "bench.png", picture)
    print(f"written to {path} and {picture}")


if __name__ == "__main__":
    tyro.cli(main)

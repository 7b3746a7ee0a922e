"""Takes what `sqap-vla bench` measured on a GPU over into `results/` and `docs/`."""

import json
import shutil
from pathlib import Path

import tyro

from benchmarks.results import RESULTS, write_results


def main(bench: Path = Path("out/bench"), name: str = "gpu_h200") -> None:
    """Write `results/<name>.json` and `docs/<name>.png`.

    Args:
        bench: Directory that `sqap-vla bench` wrote.
        name: Of the results.
    """
    measured = json.loads((bench / "bench.json").read_text(encoding="utf-8"))
    figures = measured.pop("figures")
    machine = f"{measured['device']}, torch {measured['torch']}"
    path = write_results(name, figures, **measured, machine=machine, command="sqap-vla bench")
    picture = RESULTS.parents[1] / "docs" / f"{name}.png"
    shutil.copyfile(bench / "bench.png", picture)
    print(f"written to {path} and {picture}")


if __name__ == "__main__":
    tyro.cli(main)

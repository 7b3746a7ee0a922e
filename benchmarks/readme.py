"""Writes the tables of the README from the files in `results/`; `--check` only says whether they are up to date."""

import json
import sys
from typing import Any

import tyro

from benchmarks.results import RESULTS

README = RESULTS.parents[1] / "README.md"
BEGIN, END = "<!-- figures: begin -->", "<!-- figures: end -->"

# File -> figure -> what it means in words, and its unit.
MEANINGS = {
    "node_overhead": {
        "overhead_p99_ms_640x480": ("node overhead, p99, 640×480 at 20 Hz, sleeping policy", "ms"),
        "overhead_p99_ms_1920x1080": ("node overhead, p99, 1920×1080 at 20 Hz, sleeping policy", "ms"),
        "overhead_p99_ms_640x480_small_model": ("node overhead, p99, 640×480 at 20 Hz, small random model", "ms"),
        "image_to_trajectory_p99_ms": (
            "image published to trajectory received in the demo, p99, small random model",
            "ms",
        ),
        "demo_rate_hz": ("commands per simulated second in the demo, small random model", "Hz"),
    },
    "demo": {
        "setup_and_run_minutes": ("`make demo` on a clean clone", "min"),
        "second_run_minutes": ("`make demo` again", "min"),
    },
}


def tables() -> str:
    """All results as Markdown."""
    parts = []
    for path in sorted(RESULTS.glob("*.json")):
        result: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        meanings = MEANINGS.get(path.stem, {})
        rows = []
        for name, value in result["figures"].items():
            words, unit = meanings.get(name, (name, ""))
            rows.append(f"| {words} | {value:g} {unit} |")
        parts.append(
            "\n".join(["| | |", "| --- | --- |", *rows])
            + f"\n\n`{result['command']}`, {result['date']}, {result['machine']}.\n"
        )
    return "\n".join(parts)


def main(check: bool = False) -> None:
    """Update the README.

    Args:
        check: Change nothing; exit with 1 when the tables are not those of the results.
    """
    text = README.read_text(encoding="utf-8")
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    updated = f"{before}{BEGIN}\n\n{tables()}\n{END}{after}"
    if check:
        sys.exit(0 if updated == text else "the README's tables are out of date: run python -m benchmarks.readme")
    README.write_text(updated, encoding="utf-8")


if __name__ == "__main__":
    tyro.cli(main)

"""Results files of benchmarks: the figures, with machine, date and commit."""

import json
import os
import platform
import subprocess
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from sqap_vla_ros.core.files import write_whole

RESULTS = Path(__file__).resolve().parent / "results"
EPISODES = RESULTS / "episodes"
"""Cached episode results, a directory per benchmark."""


def write_results(name: str, figures: Mapping[str, float], directory: Path = RESULTS, **more: Any) -> Path:
    """Write `<name>.json` and print its path.

    Args:
        name: File name without ending.
        figures: What was measured, by the name under which it is quoted.
        directory: Directory of the file; by default the one of the published results.
        **more: Whatever else is needed to understand the figures.
    """
    content = {
        "command": command_line(),
        "machine": machine(),
        "date": today(),
        "commit": commit(),
        "figures": {key: round(value, 4) for key, value in figures.items()},
        **more,
    }
    directory.mkdir(parents=True, exist_ok=True)
    path = directory / f"{name}.json"
    write_whole(path, (json.dumps(content, indent=2) + "\n").encode())
    print(f"written to {path}")
    return path


def plot_directory(results: Path) -> Path:
    """Directory of the plots that belong to a directory of results: the documentation's for published results."""
    return RESULTS.parents[1] / "docs" / "images" if results == RESULTS else results


def read_results(name: str) -> dict[str, Any]:
    """The content of a results file; empty where there is none."""
    path = RESULTS / f"{name}.json"
    content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    return content


def today() -> str:
    """The date in UTC, year first."""
    return datetime.now(UTC).strftime("%Y-%m-%d")


def command_line() -> str:
    """The running command, as a user would give it."""
    return " ".join(["python", *sys.orig_argv[1:]])


def machine() -> str:
    """Processor, cores and memory of this machine, as a sentence."""
    cpu = platform.processor() or platform.machine()
    for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
        if line.startswith("model name"):
            cpu = line.partition(":")[2].strip()
            break
    gib = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return f"{cpu}, {os.cpu_count()} cores, {gib:.0f} GiB, {platform.system()} {platform.release()}"


def commit() -> str:
    """The repository's commit, marked where files differ from it, other than those that benchmarks write."""
    git = ["git", "-C", str(RESULTS.parents[1])]
    named = subprocess.run([*git, "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False)
    if named.returncode != 0:
        return "unknown"
    written = [f":(exclude){path}" for path in ("benchmarks/results", "docs", "README.md")]
    changed = subprocess.run([*git, "diff", "--quiet", "HEAD", "--", ".", *written], check=False)
    return named.stdout.strip() + ("-dirty" if changed.returncode else "")

"""Episodes that were played stay in the repository, `results/episodes/`, so that another machine goes on with them.

An evaluation writes a line per episode into its directory; hours of them would be gone with the machine. They count
only for the weights and settings that they were played with: an evaluation refuses others.
"""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks.results import RESULTS
from sqap_vla_ros.core.run_directory import RunDirectoryError

FILES = ("evaluation.json", "episodes.jsonl")


@contextmanager
def kept_episodes(name: str, out: Path, directory: Path = RESULTS / "episodes") -> Iterator[None]:
    """Begin with the episodes that are kept under a name, unless `out` has some, and keep what is there at the end.

    Args:
        name: Of the benchmark.
        out: Directory of the evaluation.
        directory: Where episodes are kept.

    Raises:
        SystemExit: What is kept is of other weights or settings; the message says how to begin anew.
    """
    kept = directory / name
    if not (out / FILES[0]).exists() and (kept / FILES[0]).exists():
        _copy(kept, out)
    try:
        yield
    except RunDirectoryError as error:
        raise SystemExit(f"{error}; to begin anew, remove {out} and {kept}") from None
    finally:  # also when it was stopped
        if (out / FILES[1]).exists():
            _copy(out, kept)


def _copy(source: Path, target: Path) -> None:
    target.mkdir(parents=True, exist_ok=True)
    for file in FILES:
        if (source / file).exists():
            shutil.copy(source / file, target / file)

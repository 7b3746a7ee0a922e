"""Cached episode results, from which an evaluation resumes on another machine.

An evaluation writes a line per episode into its directory, and hours of playing would be lost with the machine. Cached
results count only for the weights and settings that they were played with: an evaluation refuses others.
"""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sqap_vla_ros.core.run_directory import DirectoryInUse, RunDirectoryError
from sqap_vla_ros.tools.evaluation.records import EPISODES_FILE, IDENTITY_FILE

FILES = (IDENTITY_FILE, EPISODES_FILE)


@contextmanager
def cached_episodes(cache: Path, out: Path) -> Iterator[None]:
    """Begin an evaluation with the cached episodes, unless it has some of its own, and cache what it has at the end.

    Args:
        cache: Directory of the cached results.
        out: Directory of the evaluation.

    Raises:
        RunDirectoryError: The cached results are of other weights or settings; the message says how to begin anew.
    """
    if not (out / IDENTITY_FILE).exists() and (cache / IDENTITY_FILE).exists():
        _copy(cache, out)
    try:
        yield
    except DirectoryInUse:
        raise
    except RunDirectoryError as error:
        raise RunDirectoryError(f"{error}; to begin anew, remove {out} and {cache}") from None
    except BaseException:  # what was played before it was stopped counts
        _cache(out, cache)
        raise
    _cache(out, cache)


def _cache(out: Path, cache: Path) -> None:
    if (out / EPISODES_FILE).exists():
        _copy(out, cache)


def _copy(source: Path, target: Path) -> None:
    target.mkdir(parents=True, exist_ok=True)
    for file in FILES:
        if (source / file).exists():
            shutil.copy(source / file, target / file)

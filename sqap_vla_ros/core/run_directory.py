"""A directory that belongs to one run, which can be stopped at any time and resumed later.

A run has an identity: the settings and hashes that decide what it makes. The first run writes it to a JSON file in the
directory. A later run with the same identity resumes; one with another identity is refused, because its results could
not be distinguished from those of the first. Nothing is ever overwritten.

    run = reserve(out, {"checkpoint": sha256, "tasks": {"pick_can": 0}}, file="evaluation.json", growing=("tasks",))
    episodes = run.record("episodes.jsonl")
    with run.lock():
        done = {entry["number"] for entry in episodes.read(dict)}
        for number in range(100):
            if number not in done:
                episodes.append({"number": number, "success": play(number)})
"""

import fcntl
import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from sqap_vla_ros.core.files import disk_problem, write_whole

Entry = TypeVar("Entry")
_WHAT_TO_DO = "choose another directory, or remove this one"
_SHOWN = 60  # characters of a value in a message
_MISSING = object()


class RunDirectoryError(ValueError):
    """A directory that a run cannot use; the message says why and what to do."""


class DirectoryInUse(RunDirectoryError):
    """Another process works in the directory."""


@dataclass(frozen=True)
class Record:
    """A file of JSON lines that only grows: one line for each thing that is done.

    Attributes:
        path: The file; it does not exist before the first line.
    """

    path: Path

    def append(self, entry: Mapping[str, Any]) -> None:
        """Add a line."""
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(entry) + "\n")

    def read(self, parse: Callable[[dict[str, Any]], Entry]) -> list[Entry]:
        """All entries. A last line that a crash cut off is removed, so that what it was about is done again.

        Args:
            parse: Makes an entry from the object of a line; a ValueError or TypeError says that it is none.

        Raises:
            RunDirectoryError: A line is not an entry.
        """
        if not self.path.exists():
            return []
        content = self.path.read_bytes()
        whole = content[: content.rfind(b"\n") + 1]
        if whole != content:
            write_whole(self.path, whole)
        entries = []
        for number, line in enumerate(whole.splitlines(), 1):
            try:
                entries.append(parse(json.loads(line)))
            except (ValueError, TypeError) as error:
                raise RunDirectoryError(
                    f"{self.path}, line {number}: not an entry that this version reads ({error}); remove the line"
                ) from None
        return entries


@dataclass(frozen=True)
class RunDirectory:
    """A reserved directory.

    Attributes:
        path: The directory.
        resumed: Whether an earlier run had reserved it.
    """

    path: Path
    resumed: bool

    def record(self, name: str) -> Record:
        """The record in a file of this directory."""
        return Record(self.path / name)

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Keep other processes out while the block runs; the lock ends with the process, however that ends.

        Raises:
            DirectoryInUse: Another process works in the directory.
        """
        with _locked(self.path):
            yield


def reserve(
    path: Path,
    identity: Mapping[str, Any],
    *,
    file: str = "run.json",
    growing: Sequence[str] = (),
    results: Sequence[str] = (),
    made_before: Sequence[str] = (),
    completed: Callable[[dict[str, Any]], dict[str, Any]] = lambda before: before,
) -> RunDirectory:
    """Reserve a directory for a run, or resume the run that reserved it before.

    Args:
        path: The directory; it is created where it does not exist.
        identity: What must be the same for results to belong together: settings and hashes, as JSON knows them.
        file: Name of the file that holds the identity.
        growing: Names in the identity whose values are mappings that later runs may add to; what two runs both name
            must be the same.
        results: Patterns of the files that a run makes. Where one of them exists without an identity, nobody knows
            what it was made from.
        made_before: Names of what the run makes in the directory before it reserves it.
        completed: Adds to an identity that an earlier version wrote the settings that it did not know, at the values
            that it worked with.

    Raises:
        RunDirectoryError: The directory holds other files, or another run or cannot be used.
        DirectoryInUse: Another process works in it.
    """
    now: dict[str, Any] = json.loads(json.dumps(identity))
    try:
        path.mkdir(parents=True, exist_ok=True)
        with _locked(path):
            before = _read_identity(path / file)
            if before is None:
                _refuse_unknown_results(path, file, results)
                _refuse_other_files(path, made_before)
            elif found := difference(before := completed(before), now, growing):
                raise RunDirectoryError(f"{path}: holds a run with another {found}; {_WHAT_TO_DO}")
            else:
                now |= {name: {**before.get(name, {}), **now[name]} for name in growing}
            if before != now:
                write_whole(path / file, (json.dumps(now, indent=1) + "\n").encode())
    except OSError as error:
        reason = disk_problem(error) or error.strerror
        raise RunDirectoryError(f"{path}: cannot be used as a directory for results ({reason})") from None
    return RunDirectory(path, resumed=before is not None)


def difference(before: Mapping[str, Any], now: Mapping[str, Any], growing: Sequence[str] = ()) -> str:
    """The first difference between two identities as "name (value before, now value)"; empty where there is none.

    Args:
        before: The one, as JSON knows it.
        now: The other.
        growing: Names of mappings of which only the common entries are compared.
    """
    for name in dict.fromkeys((*now, *before)):
        theirs, ours = before.get(name, _MISSING), now.get(name, _MISSING)
        if theirs == ours:
            continue
        if isinstance(theirs, Mapping) and isinstance(ours, Mapping):
            if name in growing:
                common = theirs.keys() & ours.keys()
                theirs, ours = ({key: side[key] for key in side if key in common} for side in (theirs, ours))
            if found := difference(theirs, ours):
                return f"{name}: {found}"
            continue
        return f"{name} ({_shown(theirs)}, now {_shown(ours)})"
    return ""


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    directory = os.open(path, os.O_RDONLY)
    try:
        try:
            fcntl.flock(directory, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise DirectoryInUse(
                f"{path}: another process works in this directory; wait until it ends, or choose another directory"
            ) from None
        except OSError:
            pass  # some network file systems know no locks
        yield
    finally:
        os.close(directory)


def _read_identity(path: Path) -> dict[str, Any] | None:
    try:
        content = json.loads(path.read_bytes())
    except FileNotFoundError:
        return None
    except ValueError as error:
        raise RunDirectoryError(f"{path}: cannot be read ({error}); {_WHAT_TO_DO}") from None
    if not isinstance(content, dict):
        raise RunDirectoryError(f"{path}: cannot be read (it is not a JSON object); {_WHAT_TO_DO}")
    return content


def _refuse_unknown_results(path: Path, file: str, results: Sequence[str]) -> None:
    for pattern in results:
        if found := next(iter(sorted(path.glob(pattern))), None):
            raise RunDirectoryError(
                f"{path}: holds {found.relative_to(path)}, but {file}, which says what it was made from, is missing; "
                f"{_WHAT_TO_DO}"
            )


def _refuse_other_files(path: Path, expected: Sequence[str]) -> None:
    """Refuse a directory in which something is that another program, or a person, put there."""
    names = (entry.name for entry in sorted(path.iterdir()))
    if found := next((name for name in names if name not in expected and not name.startswith(".")), None):
        raise RunDirectoryError(f"{path}: is not empty (it holds {found}), and no run began there; {_WHAT_TO_DO}")


def _shown(value: Any) -> str:
    text = "none" if value is _MISSING else json.dumps(value)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"

"""Steps of a set-up: each runs when its inputs changed since it last succeeded, and says what it does."""

import fcntl
import hashlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

LINES_SHOWN_ON_FAILURE = 30
ROOT = Path(__file__).resolve().parents[1]

# Left by a sourced ROS, another virtual environment or the wheels' own start-up: each mixes two installations.
FOREIGN_VARIABLES = (
    "AMENT_PREFIX_PATH",
    "CMAKE_PREFIX_PATH",
    "COLCON_PREFIX_PATH",
    "LD_LIBRARY_PATH",
    "PYTHONHOME",
    "PYTHONPATH",
    "VIRTUAL_ENV",
    "_ROS_WHEELS_BOOTSTRAP_COMPLETE",
)


class SetUpError(Exception):
    """What failed and what to do about it."""


def clean_environment() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if name not in FOREIGN_VARIABLES}


def fingerprint(*inputs: Path | str) -> str:
    """SHA-256 of strings, and of files by name and content, those below a directory included."""
    digest = hashlib.sha256()
    for item in inputs:
        if isinstance(item, str):
            digest.update(f"{item}\0".encode())
            continue
        files = sorted(path for path in item.rglob("*") if path.is_file()) if item.is_dir() else [item]
        for path in files:
            digest.update(f"{path}\0".encode() + path.read_bytes() + b"\0")
    return digest.hexdigest()


def package_metadata() -> str:
    """Everything that pip reads of this package; what pyproject.toml says about tests and lint is left out."""
    import tomllib  # not before the interpreter is known to be new enough to have it

    content = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    tables = [content["build-system"], content["project"], content["tool"]["setuptools"]]
    return json.dumps(tables) + fingerprint(ROOT / "setup.py", ROOT / "setup.cfg")


@contextmanager
def one_at_a_time(directory: Path) -> Iterator[None]:
    """Lets a second set-up of the same clone wait for the first."""
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print("set-up: waits for another set-up in this directory", flush=True)
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


class Steps:
    """Runs steps in order; the state of each is one small file, written when the step has succeeded."""

    def __init__(self, directory: Path):
        self._directory = directory
        self._log = directory / "set-up.log"
        self.ran = 0

    def due(self, name: str, key: str) -> bool:
        stamp = self._directory / f"{name}.done"
        return not stamp.is_file() or stamp.read_text() != key

    def step(self, name: str, doing: str, key: str, action: Callable[[], None]) -> None:
        """Args:
        name: of the state file.
        doing: for the reader, what the step does.
        key: fingerprint of all that the result depends on.
        action: safe to repeat after an interruption.
        """
        if not self.due(name, key):
            return
        print(f"set-up: {doing} ...", flush=True)
        started = time.monotonic()
        action()
        self._directory.mkdir(parents=True, exist_ok=True)
        (self._directory / f"{name}.done").write_text(key)
        self.ran += 1
        print(f"set-up: {doing}: {time.monotonic() - started:.0f} s", flush=True)

    def run(
        self, command: Sequence[str | Path], environment: Mapping[str, str], advice: str, directory: Path | None = None
    ) -> str:
        """Runs a command with its output in the log.

        Returns:
            Its standard output and error.

        Raises:
            SetUpError: with the last lines of output and the advice, when it fails.
        """
        words = [str(word) for word in command]
        result = subprocess.run(
            words,
            env=dict(environment),
            cwd=directory,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
        )
        self._directory.mkdir(parents=True, exist_ok=True)
        with self._log.open("a") as log:
            log.write(f"$ {' '.join(words)}\n{result.stdout}\n")
        if result.returncode:
            tail = "\n".join(result.stdout.splitlines()[-LINES_SHOWN_ON_FAILURE:])
            command_line = " ".join(words)
            raise SetUpError(
                f"{tail}\n\nfailed ({result.returncode}): {command_line}\n{advice}\nAll output: {self._log}"
            )
        return result.stdout


def report_errors(main: Callable[[], None]) -> None:
    """Runs a set-up script; what is wrong is one message, not a traceback."""
    try:
        main()
    except SetUpError as error:
        sys.exit(f"set-up: {error}")
    except KeyboardInterrupt:
        sys.exit("set-up: interrupted; the next run goes on from here")

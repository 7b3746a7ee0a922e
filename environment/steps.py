"""Steps of a set-up: each runs when its inputs have changed since it last succeeded."""

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

# Variables of a sourced ROS, of another virtual environment or of the wheels' start-up: each mixes two installations.
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
    """The set-up failed; the message says why and what to do."""


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
    """Everything that pip reads about this package, without the settings of tests and linters in pyproject.toml."""
    import tomllib  # not before the interpreter is known to be new enough to have it

    content = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    tables = [content["build-system"], content["project"], content["tool"]["setuptools"]]
    return json.dumps(tables) + fingerprint(ROOT / "setup.py", ROOT / "setup.cfg")


@contextmanager
def one_at_a_time(directory: Path) -> Iterator[None]:
    """Let a second set-up of the same clone wait for the first."""
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print("set-up: waiting for another set-up in this directory", flush=True)
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


class Steps:
    """Runs steps in order. The state of each is one small file, which is written when the step has succeeded."""

    def __init__(self, directory: Path):
        self._directory = directory
        self._log = directory / "set-up.log"
        self.ran = 0

    def due(self, name: str, key: str) -> bool:
        stamp = self._directory / f"{name}.done"
        return not stamp.is_file() or stamp.read_text() != key

    def step(self, name: str, doing: str, key: str, action: Callable[[], None]) -> None:
        """Run a step unless it has succeeded with the same key before.

        Args:
            name: Name of the state file.
            doing: What the step does, for the user.
            key: Fingerprint of everything that the result depends on.
            action: The step itself, safe to repeat after an interruption.
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
        """Run a command and write its output to the log.

        Returns:
            The command's standard output and error.

        Raises:
            SetUpError: The command failed; the message has the last lines of its output and the advice.
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
    """Run a set-up script; an error is one message, not a traceback."""
    try:
        main()
    except SetUpError as error:
        sys.exit(f"set-up: {error}")
    except KeyboardInterrupt:
        sys.exit("set-up: interrupted; the next run goes on from here")

"""Processes with a log each, which end when their block ends, whatever happens."""

import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

_GRACE_S = 10.0  # per signal: the policy node brings the arm to rest and ends its worker


class LoggedProcess:
    """A Python module in a process group of its own.

    Args:
        module: Name of the module, which this interpreter runs as with `python -m`.
        arguments: Its command-line arguments.
        log: File for its output.
        environment: Its environment, in place of the inherited one.
    """

    def __init__(self, module: str, arguments: Sequence[str], log: Path, environment: Mapping[str, str]) -> None:
        self.log = log
        with log.open("wb") as output:
            # A group of its own: Ctrl-C reaches the demo alone, which then ends its processes in order.
            self._process = subprocess.Popen(
                [sys.executable, "-m", module, *arguments],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=dict(environment),
                start_new_session=True,
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.end()

    @property
    def returncode(self) -> int | None:
        """The exit status; None while the process runs."""
        return self._process.poll()

    def end(self) -> None:
        """Ask the process to end, and kill it and its children if it does not."""
        for number in (signal.SIGINT, signal.SIGTERM):
            if self.returncode is None:
                self._process.send_signal(number)
                try:
                    self._process.wait(_GRACE_S)
                except subprocess.TimeoutExpired:
                    continue
        if self.returncode is None:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()

    def last_lines(self, count: int = 15) -> str:
        """The last lines of the log."""
        return "\n".join(self.log.read_text(encoding="utf-8", errors="replace").splitlines()[-count:])

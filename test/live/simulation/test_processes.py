"""Processes of a demo."""

import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from sqap_vla_ros.simulation import processes
from sqap_vla_ros.simulation.processes import LoggedProcess

STUBBORN = """
import signal, subprocess, sys
signal.signal(signal.SIGINT, signal.SIG_IGN)
signal.signal(signal.SIGTERM, signal.SIG_IGN)
child = subprocess.Popen([sys.executable, "-c", "import signal; signal.pause()"])
print("child", child.pid, flush=True)
signal.pause()
"""
POLITE = """
import signal, sys, time
signal.signal(signal.SIGINT, lambda *_: sys.exit("told to end"))
print("ready", flush=True)
signal.pause()
"""


def until(condition: Callable[[], bool]) -> None:
    """Wait for something that other processes do."""
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline
        os.sched_yield()


def started(folder: Path, source: str, ready: str) -> LoggedProcess:
    """A process that runs a source text, when it has printed a word."""
    (folder / "told.py").write_text(source)
    process = LoggedProcess("told", [], folder / "told.log", {**os.environ, "PYTHONPATH": str(folder)})
    until(lambda: ready in process.last_lines())
    return process


def test_a_process_is_first_asked_to_end(tmp_path: Path) -> None:
    with started(tmp_path, POLITE, "ready") as process:
        assert process.returncode is None
    assert process.returncode == 1
    assert process.last_lines() == "ready\ntold to end"


def test_a_process_that_does_not_listen_is_ended_with_its_children(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(processes, "_GRACE_S", 0.1)
    process = started(tmp_path, STUBBORN, "child")
    child = int(process.last_lines().split()[-1])
    process.end()
    assert process.returncode == -9
    until(lambda: not is_running(child))


def is_running(pid: int) -> bool:
    """Whether a process exists and is more than an entry that nobody has collected yet."""
    status = Path(f"/proc/{pid}/status")
    try:
        return "State:\tZ" not in status.read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False

"""The demo, as its command line plays it."""

import subprocess
import sys
from pathlib import Path

import pytest
from rich.console import Console

from sqap_vla_ros.simulation import demo
from sqap_vla_ros.simulation.demo import Demo, DemoError


def test_an_episode_leaves_commands_a_bag_and_a_video(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "sqap_vla_ros", "demo", "--seconds", "2", "--out", str(tmp_path)]
    played = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert played.returncode == 0, played.stdout + played.stderr
    for words in ("close the top drawer", "commands per simulated second", "median", "ticks refused"):
        assert words in " ".join(played.stdout.split())
    assert (tmp_path / "demo.mp4").stat().st_size > 10_000
    assert (tmp_path / "bag" / "metadata.yaml").is_file()


class Process:
    """Stands in for a process: its exit status and its log."""

    def __init__(self, returncode: int | None, log: str) -> None:
        self.returncode = returncode
        self._log = log

    def last_lines(self) -> str:
        return self._log


def test_a_policy_that_cannot_be_loaded_fails_the_demo_with_the_nodes_own_words(tmp_path: Path) -> None:
    """The node ends when it cannot configure (`exit_on_failure`); nobody reads its log to find out."""
    cell, node = Process(None, ""), Process(1, "[ERROR] [sqap_vla]: not configured: missing: no such file")
    with pytest.raises(DemoError, match="(?s)the policy node stopped.*not configured: missing"):
        Demo(out=tmp_path)._watch(cell, node, Console(quiet=True))  # type: ignore[arg-type]


def test_a_task_that_does_not_exist_fails_the_demo_with_the_cells_own_words(tmp_path: Path) -> None:
    with pytest.raises(DemoError, match="(?s)the cell ended with status 1.*task 99 of suite 'libero_90'"):
        Demo(task=99, checkpoint=str(tmp_path), out=tmp_path / "out").run(Console(quiet=True))


def test_a_demo_reaches_no_other_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ROS_DOMAIN_ID", "7")
    monkeypatch.setenv("ROS_DISCOVERY_SERVER", "lab:11811")
    monkeypatch.setenv("ROS_AUTOMATIC_DISCOVERY_RANGE", "SUBNET")
    environment = demo._environment()
    assert environment["ROS_AUTOMATIC_DISCOVERY_RANGE"] == "LOCALHOST"
    assert environment["ROS_DOMAIN_ID"] not in ("0", "7")
    assert "ROS_DISCOVERY_SERVER" not in environment


def test_parameters_keep_their_types_on_the_command_line() -> None:
    arguments = demo._ros_arguments(suite="1e3", task=2, episode_s=20.0, publish_clock=True)
    assert arguments == ["--ros-args"] + [
        word
        for assignment in ('suite:="1e3"', "task:=2", "episode_s:=20.0", "publish_clock:=true")
        for word in ("-p", assignment)
    ]

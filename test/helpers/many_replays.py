"""Replays of synthetic bags with a policy that takes no time, by job and by command line."""

from pathlib import Path
from typing import Any

import pytest

from sqap_vla_ros import cli
from sqap_vla_ros.config.robot import Configuration
from sqap_vla_ros.config.settings import validate
from sqap_vla_ros.tools.replay.jobs import ReplayJob

CONFIGURATION = validate(Configuration, {"frames.base": "base", "frames.tool": "tool"}, "test")
ROBOT = "/**:\n  ros__parameters:\n    robot_name: synthetic\n    frames: {base: base, tool: tool}\n"


def job_of(bag: Path, out: Path, **settings: Any) -> ReplayJob:
    return validate(ReplayJob, {"bag": bag, "out": out, "configuration": CONFIGURATION, **settings}, "test")


def broken_bag(path: Path) -> Path:
    path.write_bytes(b"not a bag at all")
    return path


def run_cli(arguments: list[object], monkeypatch: pytest.MonkeyPatch) -> int:
    """Exit code of `sqap-vla replay`."""
    monkeypatch.setattr("sys.argv", ["sqap-vla", "replay", *map(str, arguments)])
    try:
        cli.main()
    except SystemExit as end:
        return int(end.code or 0)
    return 0

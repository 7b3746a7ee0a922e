"""Without a place for its logs ROS does not start: what to set is said."""

import os
from pathlib import Path

import pytest

from sqap_vla_ros.config.files import ConfigurationError
from sqap_vla_ros.ros.logging_directory import require_logging_directory


@pytest.fixture(autouse=True)
def _nothing_set(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HOME", "ROS_HOME", "ROS_LOG_DIR"):
        monkeypatch.delenv(name, raising=False)


def test_without_a_home_it_is_said_what_to_set() -> None:
    with pytest.raises(ConfigurationError, match=r"nowhere to log \(HOME is not set\): set ROS_LOG_DIR, or HOME"):
        require_logging_directory()


@pytest.mark.parametrize("name", ["HOME", "ROS_HOME", "ROS_LOG_DIR"])
def test_one_variable_is_enough(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(name, str(tmp_path / "logs"))
    require_logging_directory()
    assert any(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["HOME", "ROS_HOME", "ROS_LOG_DIR"])
def test_a_place_that_cannot_be_written_is_refused(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv(name, str(tmp_path / "file" / "deeper"))
    with pytest.raises(ConfigurationError, match=r"nowhere to log \(Not a directory\)"):
        require_logging_directory()
    monkeypatch.setenv(name, str(tmp_path))
    monkeypatch.setattr(os, "access", lambda *_: False)
    with pytest.raises(ConfigurationError, match=r"nowhere to log \(Permission denied\)"):
        require_logging_directory()

"""The golden runs of OpenVLA; a directory and its network are made once, and are not to be changed."""

import json
from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest
from openvla_data import GOLDEN, Case, write_directory


@pytest.fixture(scope="session")
def directory_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The whole directory of a golden checkpoint, by its name."""
    root = tmp_path_factory.mktemp("openvla")

    @cache
    def write(checkpoint: str) -> Path:
        return write_directory(root / checkpoint, checkpoint)

    return write


@pytest.fixture(scope="session")
def case_of(directory_of: Callable[[str], Path]) -> Callable[[str], Case]:
    """A golden run, by its name."""
    described = json.loads((GOLDEN / "cases" / "cases.json").read_text())

    @cache
    def find(name: str) -> Case:
        return Case(name, directory_of(described[name]["checkpoint"]))

    return find

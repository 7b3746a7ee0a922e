"""Compressions of a tiny checkpoint that the tests of this folder share."""

from pathlib import Path

import pytest
from compressions import Stopped, compressed, stop_before
from small_compressions import NEAREST


@pytest.fixture(scope="module")
def whole(random_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A compression to nearest that was never stopped; not to be changed."""
    directory = tmp_path_factory.mktemp("whole") / "out"
    compressed(random_run, NEAREST, directory)
    return directory


@pytest.fixture
def begun(random_run: Path, tmp_path: Path) -> Path:
    """A compression to nearest that was stopped before its second layer."""
    directory = tmp_path / "begun"
    with pytest.raises(Stopped):
        compressed(random_run, NEAREST, directory, on_step=stop_before(5))
    return directory

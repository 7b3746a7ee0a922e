"""One scene and one recorded run of the cell for all tests of this folder: loading a scene takes seconds."""

from collections.abc import Iterator

import pytest
from cell_run import CellRun, run_cell

from sqap_vla_ros.simulation.libero import LiberoScene


@pytest.fixture(scope="session")
def scene() -> Iterator[LiberoScene]:
    """The first task of libero_object, as the cell has it."""
    scene = LiberoScene()
    yield scene
    scene.close()


@pytest.fixture(scope="session")
def cell_run(tmp_path_factory: pytest.TempPathFactory) -> CellRun:
    """The executable, watched for some images, commanded, and ended by SIGTERM."""
    return run_cell(tmp_path_factory.mktemp("cell"))

import importlib.util
from pathlib import Path

import pytest
from commanded_arm import Arm, settings
from control_robots import CHAIN_JOINTS, PANDA_JOINTS, chain_urdf

from sqap_vla_ros.control.kinematics import Kinematics


@pytest.fixture(scope="session")
def panda_file() -> Path:
    robosuite = importlib.util.find_spec("robosuite")  # not imported: that writes to its log
    assert robosuite is not None and robosuite.submodule_search_locations is not None
    (folder,) = robosuite.submodule_search_locations
    return Path(folder) / "models/assets/robots/panda/robot.xml"


@pytest.fixture(scope="session")
def panda(panda_file: Path) -> Kinematics:
    return Kinematics(panda_file, PANDA_JOINTS, "base", "right_hand")


@pytest.fixture(scope="session")
def chain() -> Kinematics:
    return Kinematics(chain_urdf(), CHAIN_JOINTS, "base", "tool0")


@pytest.fixture
def arm(panda: Kinematics) -> Arm:
    return Arm(panda, settings())

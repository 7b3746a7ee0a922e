"""The pins, and the system packages that the set-up requires."""

import importlib.metadata
import itertools
import re
import subprocess
import sys
import tomllib

import pytest
import system_packages
import workstation
from bootstrap import rewrite_wheel_paths
from paths import ROOT
from steps import SetUpError

ENVIRONMENT = ROOT / "environment"


def pins(name: str) -> dict[str, str]:
    lines = (line.split()[0] for line in (ENVIRONMENT / name).read_text().splitlines() if line[:1] not in "#")
    return dict(line.split("==") for line in lines)


def required_names() -> set[str]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    requirements = [*project["dependencies"], *itertools.chain(*project["optional-dependencies"].values())]
    return {re.match(r"[A-Za-z0-9._-]+", line)[0].lower() for line in requirements}


@pytest.mark.parametrize("distro", ["jazzy", "kilted"])
def test_every_requirement_is_pinned(distro):
    assert required_names() <= (pins("constraints.txt") | pins(f"ros-{distro}.txt")).keys()


@pytest.mark.parametrize("path", sorted(ENVIRONMENT.glob("*.txt")), ids=lambda path: path.name)
def test_no_list_names_cuda_or_a_package_that_is_not_wanted(path):
    names = pins(path.name)
    assert not [name for name in names if name.startswith(("nvidia-", "cuda-"))]
    assert not {"torchvision", "timm", "opencv-python-headless"} & names.keys()


def test_nothing_of_cuda_is_installed_next_to_a_cpu_torch():
    torch = pytest.importorskip("torch")
    if torch.version.cuda:
        pytest.skip("this torch is a CUDA build")
    names = {distribution.metadata["Name"].lower() for distribution in importlib.metadata.distributions()}
    assert not [name for name in names if name.startswith(("nvidia-", "cuda-"))]


def test_the_simulator_is_pinned_by_hash():
    lines = [line for line in (ENVIRONMENT / "libero.txt").read_text().splitlines() if not line.startswith("#")]
    assert len(lines) == 7
    assert all(re.fullmatch(r"[a-z0-9-]+==[0-9.]+ --hash=sha256:[0-9a-f]{64}", line) for line in lines)


def test_an_older_ros_keeps_its_numpy_and_gets_the_opencv_that_fits():
    lines = workstation.constraints_for("1.26.4").split()
    assert "numpy==1.26.4" in lines
    assert "opencv-python==4.11.0.86" in lines
    assert len(lines) == len({line.partition("==")[0] for line in lines})


def test_a_newer_ros_keeps_its_numpy_and_gets_the_pinned_opencv():
    lines = workstation.constraints_for("2.3.5").split()
    assert "numpy==2.3.5" in lines
    assert f"opencv-python=={pins('constraints.txt')['opencv-python']}" in lines


def test_without_a_sourced_ros_the_error_says_what_to_source():
    with pytest.raises(SetUpError, match=r"source /opt/ros/jazzy/setup.bash"):
        workstation.check_ros({"PATH": "/usr/bin"}, sys.executable)


def test_wheel_paths_become_those_of_this_interpreter(tmp_path):
    export = tmp_path / "share" / "std_msgs" / "cmake" / "export.cmake"
    export.parent.mkdir(parents=True)
    built = "/opt/python/cp311-cp311"
    numpy = f"{built}/lib/python3.11/site-packages/numpy/_core/include"
    export.write_text(f'set(includes "{built}/include/python3.11;{numpy}")')
    assert rewrite_wheel_paths(tmp_path, "/usr/include/python3.11", "/venv/numpy/include") == 1
    assert export.read_text() == 'set(includes "/usr/include/python3.11;/venv/numpy/include")'
    assert rewrite_wheel_paths(tmp_path, "/usr/include/python3.11", "/venv/numpy/include") == 0


class Machine:
    """A Debian machine on which nothing but the installed packages exists."""

    def __init__(self, monkeypatch, user: int):
        self.installed: set[str] = set()
        self.commands: list[list[str]] = []
        monkeypatch.setattr(system_packages.os, "geteuid", lambda: user)
        monkeypatch.setattr(system_packages.shutil, "which", lambda name: f"/usr/bin/{name}")
        monkeypatch.setattr(system_packages.subprocess, "run", self._run)
        self.requirement = system_packages.Requirement("EGL", ("libegl1",), lambda: "libegl1" in self.installed)

    def _run(self, command, **_options):
        self.commands.append(command)
        self.installed |= {word for word in command if word.startswith("lib")}
        return subprocess.CompletedProcess(command, 0)


def test_root_gets_the_missing_system_package(monkeypatch):
    machine = Machine(monkeypatch, user=0)
    system_packages.require((machine.requirement,))
    assert [command[:2] for command in machine.commands] == [["apt-get", "update"], ["apt-get", "install"]]


def test_a_user_gets_the_line_that_installs_the_missing_package(monkeypatch):
    machine = Machine(monkeypatch, user=1000)
    with pytest.raises(SetUpError, match=r"EGL[\s\S]*sudo apt-get install .*libegl1"):
        system_packages.require((machine.requirement,))
    assert machine.commands == []


def test_this_machine_has_what_the_set_up_requires():
    requirements = system_packages.BUILD + system_packages.ENVIRONMENT + system_packages.RENDERING
    assert [requirement.purpose for requirement in requirements if not requirement.is_met()] == []

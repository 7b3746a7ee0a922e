"""A wheel built from the checkout works on its own, in an environment and a directory of its own."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from apt_layout import PYTHON_DIRECTORY
from paths import ROOT
from synthetic_bags import write_bag

import sqap_vla_ros
from sqap_vla_ros.testing.random_checkpoint import write_random_checkpoint

SOURCES = ("pyproject.toml", "setup.py", "setup.cfg", "README.md", "LICENSE", "config", "msg", "sqap_vla_ros")
PIP = [sys.executable, "-m", "pip", "--disable-pip-version-check"]


class Installation:
    """The wheel in a virtual environment that has the packages of the tests' own, but not this checkout."""

    def __init__(self, directory: Path) -> None:
        checkout, self.venv = directory / "checkout", directory / "venv"
        checkout.mkdir()
        for name in SOURCES:
            if (ROOT / name).is_dir():
                shutil.copytree(ROOT / name, checkout / name, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                shutil.copy(ROOT / name, checkout / name)
        self.environment = {"PATH": os.environ["PATH"], "HOME": str(directory), "OMP_NUM_THREADS": "1"}
        build = ["wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", directory, checkout]
        self.run(*PIP, *build, directory=directory)
        shutil.rmtree(checkout)
        (self.wheel,) = directory.glob("*.whl")
        self.run(sys.executable, "-m", "venv", "--without-pip", self.venv, directory=directory)
        # A path file of this environment does not run those of the other one: its editable installation is not seen.
        packages = self.venv / PYTHON_DIRECTORY
        (packages / "packages_of_the_tests.pth").write_text(f"{Path(sys.prefix) / PYTHON_DIRECTORY}\n")
        install = ["--python", self.venv / "bin" / "python", "install", "--no-deps", "--no-index", self.wheel]
        self.run(*PIP, *install, directory=directory)

    def run(self, *command: str | Path, directory: Path) -> str:
        """Run a command in a directory; returns what it printed."""
        words = [str(word) for word in command]
        result = subprocess.run(
            words, cwd=directory, env=self.environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        assert result.returncode == 0, result.stdout[-4000:]
        return result.stdout

    def sqap_vla(self, *words: str | Path, directory: Path) -> str:
        """Run the installed command line in a directory; returns what it printed."""
        return self.run(self.venv / "bin" / "sqap-vla", *words, directory=directory)


@pytest.fixture(scope="module")
def installation(tmp_path_factory: pytest.TempPathFactory) -> Installation:
    return Installation(tmp_path_factory.mktemp("wheel"))


def test_the_package_is_that_of_the_wheel(installation: Installation, tmp_path: Path) -> None:
    code = "import sqap_vla_ros; print(sqap_vla_ros.__file__)"
    where = installation.run(installation.venv / "bin" / "python", "-c", code, directory=tmp_path)
    assert Path(where.strip()).is_relative_to(installation.venv)


def test_the_wheel_brings_all_settings_and_messages(installation: Installation, tmp_path: Path) -> None:
    code = "from sqap_vla_ros.config.files import config_directory; print(config_directory())"
    where = installation.run(installation.venv / "bin" / "python", "-c", code, directory=tmp_path)
    for folder in ("config", "msg"):
        installed = {path.relative_to(Path(where.strip()).parent) for path in Path(where.strip()).parent.rglob("*.*")}
        files = {path.relative_to(ROOT) for path in (ROOT / folder).rglob("*.*") if path.is_file()}
        assert files - installed == set()


def test_the_wheel_says_its_version(installation: Installation, tmp_path: Path) -> None:
    assert installation.sqap_vla("--version", directory=tmp_path) == f"sqap-vla {sqap_vla_ros.__version__}\n"


@pytest.mark.timeout(300)
def test_the_wheel_compresses_a_checkpoint(installation: Installation, tmp_path: Path) -> None:
    write_random_checkpoint(tmp_path / "tiny", "tiny")
    installation.sqap_vla("compress", "tiny", "--recipe", "w4a4", "--device", "cpu", directory=tmp_path)
    assert (tmp_path / "tiny-w4a4" / "compressed.json").is_file()


@pytest.mark.timeout(300)
def test_the_wheel_replays_a_bag_on_its_own_checkpoint(installation: Installation, tmp_path: Path) -> None:
    write_bag(tmp_path / "bag", seconds=0.5)
    (tmp_path / "robot.yaml").write_text("{/**: {ros__parameters: {frames: {base: base, tool: tool}}}}")
    command = ["replay", "bag", "--robot", "robot.yaml", "--checkpoint", "libero_small_w4a4", "--device", "cpu"]
    installation.sqap_vla(*command, directory=tmp_path)
    summary = json.loads((tmp_path / "out" / "replay" / "summary.json").read_text(encoding="utf-8"))
    assert summary["ticks_planned"] > 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bag", "out", "robot.yaml"]

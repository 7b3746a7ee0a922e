"""The built messages, and a plain `colcon build` over a ROS in a prefix of its own, as apt installs it."""

import ast
import importlib.metadata
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from apt_layout import PYTHON_DIRECTORY, make_apt_layout
from paths import ROOT
from workstation import check_ros

pytestmark = pytest.mark.timeout(600)  # the messages are compiled
VENV = Path(sys.prefix)

# The type that `ros2 topic info --verbose /tf` names on a machine with ROS.
TF_MESSAGE_TYPE = "RIHS01_e369d0f05a23ae52508854b66f6aa0437f3449d652e8cbf22d5abe85d020f087"

SOURCES = ("CMakeLists.txt", "package.xml", "pyproject.toml", "setup.py", "setup.cfg")
SOURCES += ("action", "msg", "launch", "config", "sqap_vla_ros")
SCRIPTS = ("sqap-vla", "sqap_vla_node", "simulated_cell")

# Runs in the interpreter of the executables, with the workspace sourced.
USE = """
import rclpy, sqap_vla_ros, torch
from rclpy.serialization import deserialize_message, serialize_message
from sqap_vla.msg import ActionChunk
message = deserialize_message(serialize_message(ActionChunk(horizon=16, data=[0.5])), ActionChunk)
print(message.horizon, sqap_vla_ros.__file__, sep="\\n")
"""


def test_tf2_msgs_has_the_type_of_the_one_in_ros():
    description = json.loads((VENV / "share" / "tf2_msgs" / "msg" / "TFMessage.json").read_text())
    hashes = {entry["type_name"]: entry["hash_string"] for entry in description["type_hashes"]}
    assert hashes["tf2_msgs/msg/TFMessage"] == TF_MESSAGE_TYPE


def imports_of_this_package(launch_file: Path) -> list[str]:
    statements = (node for node in ast.walk(ast.parse(launch_file.read_text())) if isinstance(node, ast.ImportFrom))
    return [ast.unparse(node) for node in statements if (node.module or "").startswith("sqap_vla_ros")]


class Workspace:
    """A checkout in a colcon workspace over a sourced ROS, after `make workstation` and a plain `colcon build`."""

    def __init__(self, directory: Path):
        ros = make_apt_layout(VENV, directory / "opt" / "ros" / "jazzy")
        self.checkout = directory / "workspace" / "src" / "sqap_vla"
        self.checkout.mkdir(parents=True)
        for name in SOURCES:
            copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
            copy(ROOT / name, self.checkout / name)

        # Without a network, the packages that pip would install over ROS are those of the tests' own environment,
        # after all of ROS's.
        self.python = self.checkout / ".venv-workstation" / "bin" / "python"
        self.system_python = sys._base_executable
        venv = [self.system_python, "-m", "venv", "--without-pip", "--system-site-packages", self.python.parents[1]]
        subprocess.run(venv, check=True)
        site_packages = self.python.parents[1] / PYTHON_DIRECTORY
        (site_packages / "packages_of_the_policy.pth").write_text(f"{VENV / PYTHON_DIRECTORY}\n")

        self.sourced = {"HOME": os.environ["HOME"], "PATH": os.environ["PATH"], "OMP_NUM_THREADS": "1", **ros}
        self.workspace = directory / "workspace"
        build = [self.system_python, "-m", "colcon", "build", "--event-handlers", "console_direct+"]
        result = subprocess.run(
            build, cwd=self.workspace, env=self.sourced, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        assert result.returncode == 0, result.stdout[-4000:]
        self.installed = self.workspace / "install" / "sqap_vla"

    def run(self, *command: str | Path) -> str:
        """Runs a command with the workspace sourced; returns its output."""
        source = f'. {self.workspace}/install/setup.sh && exec "$@"'
        words = ["sh", "-c", source, "sh", *map(str, command)]
        result = subprocess.run(
            words, cwd=self.workspace, env=self.sourced, stdout=subprocess.PIPE, text=True, check=True
        )
        return result.stdout


@pytest.fixture(scope="module")
def workspace(tmp_path_factory):
    directory = tmp_path_factory.mktemp("apt")
    yield Workspace(directory)
    shutil.rmtree(directory)


@pytest.mark.parametrize("name", SCRIPTS)
def test_an_installed_executable_runs_the_interpreter_that_finds_torch(workspace, name):
    script = workspace.installed / "lib" / "sqap_vla" / name
    assert script.read_text().splitlines()[0] == f"#!{workspace.python}"
    assert os.access(script, os.X_OK)


def test_the_installed_module_and_messages_work_next_to_torch(workspace):
    horizon, module = workspace.run(workspace.python, "-c", USE).split()
    assert horizon == "16"
    assert Path(module).is_relative_to(workspace.installed)


def test_the_set_up_uses_the_ros_that_is_sourced_with_its_python(workspace):
    assert check_ros(workspace.sourced, workspace.system_python) == importlib.metadata.version("numpy")


def test_the_installed_command_line_starts(workspace):
    assert "replay" in workspace.run(workspace.installed / "lib" / "sqap_vla" / "sqap-vla", "--help")


def test_the_installed_package_uses_the_installed_settings(workspace):
    code = "from sqap_vla_ros.config.files import config_directory; print(config_directory())"
    directory = Path(workspace.run(workspace.python, "-c", code).strip())
    assert directory == workspace.installed / "share" / "sqap_vla" / "config"
    assert (directory.parent / "msg" / "ActionChunk.msg").is_file()


@pytest.mark.parametrize("directory", ["launch", "config"])
def test_launch_and_config_files_are_installed(workspace, directory):
    files = {path.relative_to(ROOT) for path in (ROOT / directory).rglob("*.*") if path.is_file()}
    missing = {path for path in files if "__pycache__" not in path.parts} - {
        path.relative_to(workspace.installed / "share" / "sqap_vla")
        for path in (workspace.installed / "share" / "sqap_vla" / directory).rglob("*.*")
    }
    assert missing == set()


def test_launch_files_import_only_what_the_python_of_ros_has(workspace):
    """`ros2 launch` runs the system's Python, which does not see the packages of the virtual environment."""
    for launch_file in sorted((ROOT / "launch").glob("*.py")):
        for statement in imports_of_this_package(launch_file):
            workspace.run(workspace.system_python, "-S", "-c", statement)

"""pyproject.toml, setup.cfg and package.xml agree with each other and with what the code imports."""

import ast
import configparser
import importlib.metadata
import re
import sys
import tomllib
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest
from paths import HELPERS, ROOT

import sqap_vla_ros

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
ROS = ElementTree.parse(ROOT / "package.xml").getroot()

ON_THE_ROBOT = ("ik", "sim", "gpu", "ray")
"""Extras whose packages the code imports where they are installed."""

FOUND_ELSEWHERE = {"pinocchio": "pin", "gguf": "gguf"}
"""Modules that a distribution brings outside the directory where others put theirs, or that tests do without."""

NOT_FROM_AN_INDEX = {"simpler_env", "mani_skill2_real2sim"}
"""SIMPLER is installed from its own sources, and needed by one command only."""

NOT_IMPORTED = {
    "rosidl_default_runtime",
    "launch",
    "launch_ros",
    "lifecycle_msgs",
    "ros2bag",
    "ros2launch",
    "ros2lifecycle",
}
"""What the messages, the launch files and the commands of a lifecycle node need."""

NOT_IN_WHEELS = {
    "control_msgs",
    "controller_manager_msgs",
    "launch",
    "launch_ros",
    "rosidl_default_runtime",
    "ros2bag",
    "ros2launch",
    "ros2lifecycle",
}
NOT_IN_WHEELS |= {"tf2_msgs", "tf_transformations"}
"""tf2_msgs is built by the set-up, and for the tests what they need of control_msgs and controller_manager_msgs;
the package does without the others where they are not installed."""

SYSTEM_PYTHON = {"python3-numpy": "numpy", "python3-opencv": "cv2", "python3-yaml": "yaml"}


def distribution_name(requirement: str) -> str:
    """The normalised name of the distribution in a requirement."""
    found = re.match(r"[A-Za-z0-9._-]+", requirement)
    assert found is not None
    return re.sub(r"[-_.]+", "-", found[0]).lower()


def declared(*extras: str) -> set[str]:
    """The names of the dependencies, with those of some extras."""
    lists = [PROJECT["dependencies"], *(PROJECT["optional-dependencies"][extra] for extra in extras)]
    return {distribution_name(requirement) for requirements in lists for requirement in requirements}


def dependencies_in_ros(*kinds: str) -> set[str]:
    """The names in package.xml."""
    return {element.text or "" for kind in kinds for element in ROS.iter(kind)}


@cache
def imports(*folders: str) -> dict[str, str]:
    """Top-level modules that are imported anywhere in some folders, late or early, with one file that does it."""
    found: dict[str, str] = {}
    for folder in folders:
        for path in sorted((ROOT / folder).rglob("*.py")):
            for module in _imported(ast.parse(path.read_text(encoding="utf-8"))):
                found.setdefault(module.partition(".")[0], str(path.relative_to(ROOT)))
    ours = {"sqap_vla_ros", "sqap_vla", "benchmarks", "generators", *_stems(HELPERS), *_stems(ROOT / "environment")}
    return {name: path for name, path in found.items() if name not in ours | sys.stdlib_module_names}


def _imported(tree: ast.Module) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module


def _stems(folder: Path) -> set[str]:
    return {path.stem for path in folder.glob("*.py")}


@cache
def distributions(module: str) -> set[str]:
    """The installed distributions that bring a module."""
    names = _distributions_of_modules().get(module, [FOUND_ELSEWHERE.get(module, "")])
    return {distribution_name(name) for name in names if name}


@cache
def _distributions_of_modules() -> dict[str, list[str]]:
    return dict(importlib.metadata.packages_distributions())


def not_declared(modules: dict[str, str], names: set[str]) -> dict[str, str]:
    in_ros = dependencies_in_ros("depend", "exec_depend")
    known = in_ros | NOT_FROM_AN_INDEX
    return {name: path for name, path in modules.items() if name not in known and not distributions(name) & names}


def test_everything_that_the_package_imports_is_declared() -> None:
    assert not_declared(imports("sqap_vla_ros", "launch"), declared(*ON_THE_ROBOT)) == {}


def test_everything_that_tests_documentation_and_benchmarks_import_is_declared() -> None:
    modules = imports("test", "benchmarks", "environment", "examples", "docs")
    assert not_declared(modules, declared(*ON_THE_ROBOT, "test", "docs", "bench")) == {}


def test_every_dependency_is_imported() -> None:
    used = {name for module in imports("sqap_vla_ros") for name in distributions(module)}
    assert declared() - used == set()


def test_ros_installs_what_the_package_imports_of_it_and_nothing_else() -> None:
    in_ros = dependencies_in_ros("depend", "exec_depend") - NOT_IMPORTED
    modules = {SYSTEM_PYTHON.get(name, name) for name in in_ros}
    assert modules - imports("sqap_vla_ros").keys() == set()


def test_the_wheels_of_ros_bring_what_package_xml_names() -> None:
    wheels = {name.removeprefix("ros-").replace("-", "_") for name in declared("ros")}
    in_ros = dependencies_in_ros("depend", "exec_depend") - SYSTEM_PYTHON.keys()
    assert in_ros - NOT_IN_WHEELS - wheels == set()


def test_the_change_log_for_ros_has_the_form_of_rep_132() -> None:
    """ROS's own reader takes it; what is forthcoming is for its release tool, and not a version to the reader."""
    path = ROOT / "CHANGELOG.rst"
    read = pytest.importorskip("catkin_pkg.changelog").get_changelog_from_path(str(path), "sqap_vla")
    found = {version: content for version, _, content in read.foreach_version()}
    sections = re.findall(r"^## (\S+)", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), re.M)
    assert ["Unreleased", *found] == sections and ROS.findtext("version") in found and all(found.values())
    assert "\nForthcoming\n-----------\n* " in path.read_text(encoding="utf-8")


def test_version_and_licence_are_the_same_everywhere() -> None:
    assert ROS.findtext("version") == sqap_vla_ros.__version__
    assert f"\nversion: {sqap_vla_ros.__version__}\n" in (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    assert ROS.findtext("license") == PROJECT["license"]
    assert PROJECT["dynamic"] == ["version", "scripts"]


def test_every_executable_is_a_function() -> None:
    settings = configparser.ConfigParser()
    settings.read(ROOT / "setup.cfg")
    scripts = dict(
        line.split(" = ") for line in settings["options.entry_points"]["console_scripts"].split("\n") if line
    )
    assert scripts.keys() == {"sqap-vla", "sqap_vla_node", "simulated_cell"}
    for target in scripts.values():
        module, _, function = target.partition(":")
        tree = ast.parse(_source(module).read_text(encoding="utf-8"))
        assert function in {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}


def _source(module: str) -> Path:
    path = ROOT.joinpath(*module.split("."))
    return path / "__init__.py" if path.is_dir() else path.with_suffix(".py")


@pytest.mark.parametrize("extra", sorted(PROJECT["optional-dependencies"]))
def test_no_extra_names_what_every_installation_has(extra: str) -> None:
    assert {
        distribution_name(requirement) for requirement in PROJECT["optional-dependencies"][extra]
    } & declared() == set()

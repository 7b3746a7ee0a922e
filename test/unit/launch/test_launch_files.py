"""The launch files: what can be checked without `launch`, and with the real one where it is installed."""

import ast
import importlib.util
import os
from configparser import ConfigParser
from pathlib import Path
from types import ModuleType

import pytest
from paths import ROOT

from sqap_vla_ros.config.files import named_file
from sqap_vla_ros.config.robot import Configuration, Topics
from sqap_vla_ros.config.settings import flat_fields

LAUNCH_FILES = sorted((ROOT / "launch").glob("*.launch.py"))
NODE_ARGUMENTS = {"use_sim_time", "autostart", "exit_on_failure"}  # of rclpy and of the executable, beside the settings

has_launch = pytest.mark.skipif(
    importlib.util.find_spec("launch_ros") is None, reason="launch_ros comes with ROS, not from pip"
)


def calls(file: Path, function: str) -> list[ast.Call]:
    return [
        node
        for node in ast.walk(ast.parse(file.read_text()))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == function
    ]


def declared(file: Path) -> dict[str, dict[str, ast.expr]]:
    return {
        call.args[0].value: {keyword.arg: keyword.value for keyword in call.keywords}  # type: ignore[attr-defined,misc]
        for call in calls(file, "DeclareLaunchArgument")
    }


def constants(nodes: list[ast.Call]) -> set[str]:
    return {node.args[0].value for node in nodes if isinstance(node.args[0], ast.Constant)}  # type: ignore[misc]


def keyword_strings(file: Path, name: str) -> set[str]:
    return {
        keyword.value.value
        for node in ast.walk(ast.parse(file.read_text()))
        if isinstance(node, ast.Call)
        for keyword in node.keywords
        if keyword.arg == name and isinstance(keyword.value, ast.Constant)
    }


def test_every_use_has_a_launch_file() -> None:
    names = {file.name for file in LAUNCH_FILES}
    assert names == {"sqap_vla.launch.py", "two_arms.launch.py", "replay.launch.py", "simulation.launch.py"}


@pytest.mark.parametrize("file", LAUNCH_FILES, ids=lambda file: file.name)
def test_every_argument_is_documented(file: Path) -> None:
    assert [name for name, keywords in declared(file).items() if "description" not in keywords] == []


@pytest.mark.parametrize("file", LAUNCH_FILES, ids=lambda file: file.name)
def test_every_argument_that_is_read_is_declared(file: Path) -> None:
    read = constants(calls(file, "LaunchConfiguration")) | constants(calls(file, "value"))
    assert read <= set(declared(file))


@pytest.mark.parametrize("file", LAUNCH_FILES, ids=lambda file: file.name)
def test_every_executable_is_one_that_the_package_installs(file: Path) -> None:
    setup = ConfigParser()
    setup.read(ROOT / "setup.cfg")
    installed = {
        line.partition("=")[0].strip()
        for line in setup["options.entry_points"]["console_scripts"].splitlines()
        if line.strip()
    }
    assert keyword_strings(file, "executable") <= installed


def test_every_default_that_names_a_policy_is_a_file() -> None:
    for file in LAUNCH_FILES:
        default = declared(file)["policy"]["default_value"]
        assert isinstance(default, ast.Constant) and named_file("policies", default.value).is_file()


def test_the_node_is_given_nothing_but_its_parameters() -> None:
    (function,) = (
        node
        for node in ast.parse((ROOT / "launch" / "sqap_vla.launch.py").read_text()).body
        if isinstance(node, ast.FunctionDef) and node.name == "policy_node"
    )
    given = {
        element.value
        for node in ast.walk(function)
        if isinstance(node, ast.Tuple)
        for element in node.elts
        if isinstance(element, ast.Constant)
    }
    assert given and given <= {name for name, _ in flat_fields(Configuration)} | NODE_ARGUMENTS


def test_words_other_than_true_and_false_are_no_flags() -> None:
    arguments = declared(ROOT / "launch" / "sqap_vla.launch.py")
    for name in ("dry_run", "autostart", "use_sim_time"):
        assert set(ast.literal_eval(arguments[name]["choices"])) <= {"", "true", "false"}


@pytest.mark.parametrize("file", ["replay.launch.py", "simulation.launch.py"])
def test_what_is_no_robot_stays_on_this_machine_and_in_a_domain_of_its_own(file: str) -> None:
    assert constants(calls(ROOT / "launch" / file, "SetEnvironmentVariable")) == {
        "ROS_AUTOMATIC_DISCOVERY_RANGE",
        "ROS_DOMAIN_ID",
    }


@pytest.mark.parametrize("file", ["replay.launch.py", "simulation.launch.py"])
def test_an_included_launch_file_declares_what_it_is_given(file: str) -> None:
    tree = ast.parse((ROOT / "launch" / file).read_text())
    given = {
        key.value
        for node in ast.walk(tree)
        if isinstance(node, ast.keyword) and node.arg == "launch_arguments"
        for dictionary in ast.walk(node.value)
        if isinstance(dictionary, ast.Dict)
        for key in dictionary.keys
        if isinstance(key, ast.Constant)
    }
    assert given and given <= set(declared(ROOT / "launch" / "sqap_vla.launch.py"))


def load(file: Path) -> ModuleType:
    specification = importlib.util.spec_from_file_location(file.stem.replace(".", "_"), file)
    assert specification is not None and specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


def test_a_replay_plays_the_topics_that_the_node_listens_to_by_default() -> None:
    (inputs,) = (
        ast.literal_eval(node.value)
        for node in ast.parse((ROOT / "launch" / "replay.launch.py").read_text()).body
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "INPUTS"
    )
    assert inputs == {name: getattr(Topics(), name) for name in inputs}


@has_launch
@pytest.mark.parametrize("file", LAUNCH_FILES, ids=lambda file: file.name)
def test_the_real_launch_reads_the_file(file: Path) -> None:
    description = load(file).generate_launch_description()
    assert {argument.name for argument in description.get_launch_arguments()} >= set(declared(file))


@has_launch
def test_the_real_launch_builds_the_node_with_the_robots_parameters() -> None:
    from launch import LaunchContext

    module = load(ROOT / "launch" / "sqap_vla.launch.py")
    context = LaunchContext()
    for argument in module.ARGUMENTS:
        if argument.default_value is not None:
            argument.visit(context)
    context.launch_configurations.update(robot="libero_panda", checkpoint=os.devnull)
    _, node = module.policy_node(context)  # the first logs the settings' file
    assert node.node_package == "sqap_vla" and node.node_executable == "sqap_vla_node"

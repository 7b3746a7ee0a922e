"""The rows that the reference pages are made of, and the example that sets every option."""

from typing import Literal

import pytest
from paths import ROOT

from sqap_vla_ros.config.files import config_directory, flatten, read_yaml, robot_parameters
from sqap_vla_ros.config.reference import Setting, settings
from sqap_vla_ros.config.robot import Configuration, load_configuration
from sqap_vla_ros.config.settings import flat_fields

EVERY_OPTION = ROOT / "examples" / "every_option.yaml"

File = Literal["robot", "policy", "recipe"]
FILES: tuple[File, ...] = ("robot", "policy", "recipe")


def setting(file: File, name: str) -> Setting:
    return next(row for row in settings(file) if row.name == name)


def test_a_number_has_its_unit_range_default_and_meaning() -> None:
    assert setting("robot", "limits.step") == Setting(
        group="limits",
        name="limits.step",
        type="number",
        unit="m",
        range="> 0",
        default="0.05",
        meaning="Largest translation of one action",
    )


@pytest.mark.parametrize(
    ("file", "name", "kind", "range_", "default"),
    [
        ("robot", "limits.tool_jerk", "2 numbers", "each > 0", "[30.0, 80.0]"),
        ("robot", "command.joints", "list of text", "not empty", "[joint1]"),
        ("robot", "topics.enable", "text", "a ROS name, or empty", '""'),
        ("robot", "dry_run", "true or false", "", "true"),
        ("robot", "action.gripper_open", "choice", "0, 1", "1"),
        ("robot", "command.point_spacing", "number", "> 0, ≤ 0.2", "0.02"),
        ("policy", "name", "text", "not empty", "required"),
        ("policy", "pruning", "group", "", "absent"),
        ("policy", "diffusion.steps", "integer", "≥ 1, ≤ 100", "10"),
        ("recipe", "smoothing", "number", "≥ 0, ≤ 1", "absent"),
        ("recipe", "activations.scoring_bits", "choice", "4, 8", "absent"),
        ("recipe", "name", "text", "letters, digits, _ . -", "required"),
    ],
)
def test_each_kind_of_setting_is_described(file: File, name: str, kind: str, range_: str, default: str) -> None:
    row = setting(file, name)
    assert (row.type, row.range, row.default) == (kind, range_, default)


@pytest.mark.parametrize("file", FILES)
def test_every_setting_has_a_meaning_without_its_unit(file: File) -> None:
    assert [row.name for row in settings(file) if not row.meaning or "[" in row.meaning] == []


def test_every_number_of_a_robot_file_has_a_unit() -> None:
    assert [row.name for row in settings("robot") if "number" in row.type and not row.unit] == []


def test_the_robot_file_lists_every_parameter_of_the_node_once() -> None:
    assert [row.name for row in settings("robot")] == [name for name, _ in flat_fields(Configuration)]


def test_each_pruning_method_lists_its_own_settings() -> None:
    groups = {row.group for row in settings("policy") if row.name == "pruning.method"}
    assert groups == {
        f"pruning (method: {method})" for method in ("sqap", "random", "fastv", "efficientvla", "vla_cache")
    }


@pytest.mark.parametrize(("file", "folder"), [("policy", "policies"), ("recipe", "recipes")])
def test_every_name_in_the_shipped_files_is_listed(file: File, folder: str) -> None:
    listed = {row.name for row in settings(file)}
    for path in (config_directory() / folder).glob("*.yaml"):
        assert set(flatten(read_yaml(path))) <= listed


def test_the_example_that_sets_every_option_loads() -> None:
    assert load_configuration(str(EVERY_OPTION)).robot_name == "every_option"


def test_the_example_that_sets_every_option_misses_none() -> None:
    assert set(flatten(robot_parameters(EVERY_OPTION))) == {name for name, _ in flat_fields(Configuration)}

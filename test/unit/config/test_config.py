"""Settings: what a YAML may say, and the sentence that a wrong one gets."""

from pathlib import Path

import pytest

from sqap_vla_ros.config.files import ConfigurationError, config_directory, named_file
from sqap_vla_ros.config.robot import Configuration, load_configuration
from sqap_vla_ros.config.settings import flat_fields, validate

ROBOTS = sorted(file.stem for file in (config_directory() / "robots").glob("*.yaml"))


def message_of(**values: object) -> str:
    with pytest.raises(ConfigurationError) as caught:
        validate(Configuration, {name.replace("__", "."): value for name, value in values.items()}, "somewhere")
    return str(caught.value)


@pytest.mark.parametrize("robot", ROBOTS)
def test_every_robot_file_that_ships_is_valid(robot: str) -> None:
    assert load_configuration(robot).robot_name == robot


@pytest.mark.parametrize("robot", ROBOTS)
def test_a_robot_that_was_not_tried_on_hardware_starts_in_dry_run(robot: str) -> None:
    configuration = load_configuration(robot)
    assert configuration.tried_on_hardware or configuration.dry_run or robot == "libero_panda"


def test_a_misspelt_setting_is_named_with_the_one_that_was_meant() -> None:
    assert message_of(limits__setp=0.1) == "somewhere: 'limits.setp' is not a setting; did you mean 'limits.step'?"


def test_a_value_out_of_range_is_named_with_its_bound() -> None:
    assert message_of(limits__step=-1.0) == "somewhere: limits.step = -1.0: Input should be greater than 0"


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_limit_that_is_not_finite_is_refused(value: float) -> None:
    assert "finite" in message_of(limits__step=value)


def test_an_unknown_choice_is_answered_with_the_choices() -> None:
    assert "'euler_difference', 'fixed_axis' or 'axis_angle'" in message_of(action__rotation="quaternion")


def test_a_workspace_box_upside_down_is_refused() -> None:
    assert "must lie below" in message_of(limits__workspace_min=[0, 0, 2])


def test_limits_that_do_not_match_the_joints_are_refused() -> None:
    message = message_of(command__joints=["a", "b"], limits__joint_velocity=[1.0, 1.0, 1.0])
    assert "limits.joint_velocity has 3 values for the 2 command.joints" in message


def test_a_whole_number_is_a_fine_decimal_number() -> None:
    assert validate(Configuration, {"action.rate_hz": 5}, "somewhere").action.rate_hz == 5.0


def test_every_setting_is_described() -> None:
    assert [name for name, field in flat_fields(Configuration) if not field.description] == []


def test_an_unknown_robot_is_answered_with_those_there_are() -> None:
    with pytest.raises(ConfigurationError, match="there are: .*libero_panda"):
        named_file("robots", "panda")


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("/**:\n  ros__parameters: [1, 2]\n", "expected '/\\*\\*: ros__parameters: ...'"),
        ("a: b: c\n", "cannot be read as YAML"),
        ("- a\n", "expected a mapping"),
        ("x: !!python/object/apply:os.system ['true']\n", "cannot be read as YAML"),
    ],
)
def test_a_file_that_is_no_parameter_file_says_what_was_expected(tmp_path: Path, content: str, expected: str) -> None:
    file = tmp_path / "robot.yaml"
    file.write_text(content)
    with pytest.raises(ConfigurationError, match=expected):
        load_configuration(str(file))

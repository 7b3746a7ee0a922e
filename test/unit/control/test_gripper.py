from sqap_vla_ros.config.robot import ActionConvention, Command
from sqap_vla_ros.control.gripper import Gripper

COMMAND = Command(gripper_joint="finger", gripper_open=0.04, gripper_closed=0.0)


def commands(values: list[float], convention: ActionConvention, command: Command = COMMAND) -> list[float | None]:
    gripper = Gripper(convention, command)
    sent = []
    for value in values:
        sent.append(gripper.command(value))
        if sent[-1] is not None:
            gripper.sent(sent[-1])
    return sent


def test_it_is_told_on_change_only() -> None:
    assert commands([0.9, 1.0, 0.1, 0.0, 0.8], ActionConvention()) == [0.04, None, 0.0, None, 0.04]


def test_values_that_hover_around_one_half_change_nothing() -> None:
    assert commands([0.9, 0.55, 0.45, 0.5, 0.58], ActionConvention()) == [0.04, None, None, None, None]


def test_nothing_is_sent_before_the_first_clear_value() -> None:
    assert commands([0.5, 0.45], ActionConvention()) == [None, None]


def test_zero_can_mean_open() -> None:
    assert commands([0.1, 0.9], ActionConvention(gripper_open=0)) == [0.04, 0.0]


def test_relative_values_act_when_they_change_something() -> None:
    convention = ActionConvention(gripper_relative=True)
    assert commands([0.0, 1.0, 0.0, -1.0, 0.0], convention) == [None, 0.04, None, 0.0, None]


def test_relative_values_can_close_upwards() -> None:
    convention = ActionConvention(gripper_relative=True, gripper_open=0)
    assert commands([1.0, -1.0], convention) == [0.0, 0.04]


def test_without_a_gripper_nothing_is_sent() -> None:
    assert commands([1.0, 0.0], ActionConvention(), Command()) == [None, None]


def test_after_a_reset_it_is_told_again() -> None:
    gripper = Gripper(ActionConvention(), COMMAND)
    gripper.sent(0.04)
    assert gripper.command(1.0) is None
    gripper.reset()
    assert gripper.command(1.0) == 0.04

"""Who reports the speed scaling, whom the node believes, and what it does when nobody does."""

import math
from types import SimpleNamespace

import pytest

from sqap_vla_ros.config.robot import Configuration, Topics
from sqap_vla_ros.control.safety.speed_scaling import SpeedScaling
from sqap_vla_ros.core.rejection import Cause
from sqap_vla_ros.ros.speed_scaling import ControllerStates, controller_state_topic

S = 10**9
NOW = 1_700_000_000 * S


def scaling(topic: str = "") -> SpeedScaling:
    return SpeedScaling(Configuration(topics=Topics(speed_scaling=topic)))


def test_a_robot_whose_controller_reports_nothing_moves_as_ever() -> None:
    nobody = scaling()
    assert nobody.rejection(NOW) is None
    assert not nobody.time.is_scaled


def test_a_topic_that_the_robot_file_names_must_be_heard() -> None:
    named = scaling("/speed")
    rejection = named.rejection(NOW)
    assert rejection is not None and rejection.cause is Cause.SPEED_SCALING_UNKNOWN and "/speed" in rejection.sentence
    named.take(NOW, 1.0, True)
    assert named.rejection(NOW + S // 10) is None
    assert named.rejection(NOW + S) is not None


@pytest.mark.parametrize("factor", [0.02, 0.1, 0.5, 0.9, 1.0])
def test_a_factor_up_to_one_can_be_planned_for(factor: float) -> None:
    named = scaling("/speed")
    named.take(NOW, factor, True)
    assert named.rejection(NOW) is None and named.time.factor == factor


@pytest.mark.parametrize("factor", [0.0, 0.001, -0.5, 1.2, math.nan, math.inf])
def test_a_pause_and_what_is_no_share_of_full_speed_hold_the_arm(factor: float) -> None:
    named = scaling("/speed")
    named.take(NOW, factor, True)
    rejection = named.rejection(NOW)
    assert rejection is not None and rejection.cause is Cause.SPEED_SCALING_UNUSABLE


def test_the_broadcaster_counts_and_not_the_state_that_says_one_all_the_time() -> None:
    both = scaling()
    both.take(NOW, 1.0, False)
    both.take(NOW, 0.5, True)
    both.take(NOW + 1, 1.0, False)
    assert both.time.factor == 0.5


def test_an_arm_with_a_broadcaster_is_planned_for_as_one_whose_speed_may_change() -> None:
    broadcast, own = scaling(), scaling()
    broadcast.take(NOW, 1.0, True)
    own.take(NOW, 1.0, False)
    assert broadcast.time.is_scaled and not own.time.is_scaled
    own.take(NOW, 0.8, False)
    assert own.time.is_scaled


def test_a_controller_that_was_scaled_and_falls_silent_holds_the_arm() -> None:
    never, once = scaling(), scaling()
    never.take(NOW, 1.0, False)
    once.take(NOW, 0.7, False)
    assert never.rejection(NOW + 5 * S) is None
    assert once.rejection(NOW + 5 * S) is not None


def test_a_clock_that_is_set_makes_no_time_pass() -> None:
    named = scaling("/speed")
    named.take(NOW, 0.5, True)
    named.forget_time()
    assert named.rejection(NOW) is not None  # until the next report
    named.take(NOW - 100 * S, 0.5, True)
    assert named.time.at(NOW - 99 * S) == NOW - 99 * S - S // 2


def test_a_controller_without_speed_scaling_leaves_the_field_at_zero() -> None:
    reports: list[tuple[float, bool]] = []
    states = ControllerStates(lambda factor, broadcast: reports.append((factor, broadcast)))
    states.take(SimpleNamespace(speed_scaling_factor=0.0))
    states.take(SimpleNamespace())  # an older release
    assert reports == []
    states.take(SimpleNamespace(speed_scaling_factor=0.5))
    states.take(SimpleNamespace(speed_scaling_factor=0.0))
    assert reports == [(0.5, False), (0.0, False)]


def test_the_controllers_state_lies_beside_its_commands() -> None:
    topics = Topics(command="/left/joint_trajectory_controller/joint_trajectory")
    assert controller_state_topic(Configuration(topics=topics)) == "/left/joint_trajectory_controller/controller_state"

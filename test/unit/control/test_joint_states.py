"""The arm's joints, whoever else publishes on the topic, in parts, twice, and out of order."""

from types import SimpleNamespace

import numpy as np
import pytest

from sqap_vla_ros.control.commands import JointState
from sqap_vla_ros.control.joint_states import JointStates

S, MS = 10**9, 10**6
BEGIN_NS = 1_700_000_000 * S
ARM = ("a", "b", "c", "d")


def message(names: str, positions: list[float], at_ms: float, velocities: list[float] | None = None) -> SimpleNamespace:
    at_ns = BEGIN_NS + round(at_ms * MS)
    header = SimpleNamespace(stamp=SimpleNamespace(sec=at_ns // S, nanosec=at_ns % S))
    return SimpleNamespace(header=header, name=list(names), position=positions, velocity=velocities or [])


class Topic:
    """Takes messages as the node does, and keeps the last state and the last reason."""

    def __init__(self) -> None:
        self.states, self.last, self.reason = JointStates(ARM, "/joint_states"), None, None
        self.taken = 0

    def send(self, *arguments: object) -> "JointState | str | None":
        answer = self.states.add(message(*arguments), self.last)  # type: ignore[arg-type]
        if isinstance(answer, JointState):
            self.last, self.reason, self.taken = answer, None, self.taken + 1
        elif answer is not None:
            self.reason = answer
        return answer


@pytest.fixture
def topic() -> Topic:
    return Topic()


def at_ms(state: JointState) -> float:
    return (state.stamp_ns - BEGIN_NS) / MS


def test_a_whole_message_is_a_state_in_the_arms_order(topic: Topic) -> None:
    topic.send("dxcba", [4, 9, 3, 2, 1], 0, [0.4, 9, 0.3, 0.2, 0.1])
    np.testing.assert_array_equal(topic.last.positions, (1, 2, 3, 4))
    np.testing.assert_array_equal(topic.last.velocities, (0.1, 0.2, 0.3, 0.4))


def test_messages_about_other_joints_change_nothing(topic: Topic) -> None:
    topic.send("abcd", [1, 2, 3, 4], 0)
    assert topic.send("f", [0.02], 1) is None
    assert topic.send("fg", [0.02], 2) is None and topic.send("f", [np.nan], 3) is None
    assert topic.reason is None and at_ms(topic.last) == 0


def test_only_messages_about_other_joints_are_named(topic: Topic) -> None:
    topic.send("fg", [0.02, 0.02], 1)
    assert topic.reason == "joint states on /joint_states lack a, b, c, d (command.joints); the last were of f, g"


def test_an_arm_in_two_halves_is_a_state_as_old_as_its_older_half(topic: Topic) -> None:
    topic.send("ab", [1, 2], 0)
    assert "lack c, d" in topic.reason
    topic.send("cd", [3, 4], 4)
    assert at_ms(topic.last) == 0
    np.testing.assert_array_equal(topic.last.positions, (1, 2, 3, 4))
    topic.send("ab", [1.1, 2.1], 10)
    assert at_ms(topic.last) == 4
    np.testing.assert_array_equal(topic.last.positions, (1.1, 2.1, 3, 4))
    assert topic.reason is None


def test_halves_with_one_stamp_are_a_state_once_both_are_there(topic: Topic) -> None:
    for time in (0, 10, 20):
        topic.send("ab", [1 + time, 2], time)
        topic.send("cd", [3, 4], time)
        assert at_ms(topic.last) == time and topic.last.positions[0] == 1 + time
    assert topic.taken == 3 and topic.reason is None


def test_a_half_that_falls_silent_is_named_and_makes_the_state_old(topic: Topic) -> None:
    topic.send("abcd", [1, 2, 3, 4], 0)
    for time in range(10, 310, 10):
        topic.send("ab", [1, 2], time)
    assert at_ms(topic.last) == 0 and "are without c, d for 0.30 s" in topic.reason


def test_what_is_sent_twice_or_late_is_not_taken_again(topic: Topic) -> None:
    topic.send("abcd", [1, 1, 1, 1], 0)
    topic.send("abcd", [2, 2, 2, 2], 10)
    np.testing.assert_allclose(topic.last.velocities, 100)
    assert topic.send("abcd", [2, 2, 2, 2], 10) is None and topic.send("abcd", [1.5, 1, 1, 1], 5) is None
    assert topic.last.positions[0] == 2
    np.testing.assert_allclose(topic.last.velocities, 100)


def test_stamps_that_go_far_back_begin_anew(topic: Topic) -> None:
    topic.send("abcd", [1, 1, 1, 1], 5000)
    topic.send("abcd", [2, 2, 2, 2], 0)
    assert at_ms(topic.last) == 0
    np.testing.assert_array_equal(topic.last.velocities, 0)


def test_after_a_jump_of_the_clock_earlier_stamps_are_taken(topic: Topic) -> None:
    topic.send("abcd", [1, 1, 1, 1], 500)
    topic.last = None  # the inputs forget all that has a stamp
    topic.send("abcd", [2, 2, 2, 2], 0)
    assert topic.last is not None and at_ms(topic.last) == 0


def test_velocities_that_lack_or_are_nan_follow_from_the_positions(topic: Topic) -> None:
    topic.send("abcd", [0, 0, 0, 0], 0)
    topic.send("abcd", [1, 1, 1, 1], 100, [0.5, np.nan, 0, np.nan])
    np.testing.assert_allclose(topic.last.velocities, (0.5, 10, 0, 10))
    topic.send("abcd", [2, 2, 2, 2], 200, [0.5])  # fewer than joints
    np.testing.assert_allclose(topic.last.velocities, 10)


@pytest.mark.parametrize(
    ("names", "positions", "at", "sentence"),
    [
        ("abcd", [1, 2, 3], 10, "4 joints with 3 positions"),
        ("abcd", [1, np.nan, 3, np.inf], 10, "positions of b, d are not finite"),
        ("cd", [np.nan, 1], 10, "positions of c are not finite"),
        ("abcd", [1, 2, 3, 4], -BEGIN_NS / MS, "have no stamp"),
    ],
)
def test_what_cannot_be_used_is_named(
    topic: Topic, names: str, positions: list[float], at: float, sentence: str
) -> None:
    topic.send("abcd", [1, 2, 3, 4], 0)
    topic.send(names, positions, at)
    assert sentence in topic.reason and at_ms(topic.last) == 0


def test_the_pace_follows_from_the_positions_whatever_the_velocities_say(topic: Topic) -> None:
    topic.send("abcd", [1, 2, 3, 4], 0, [0.0] * 4)
    topic.send("abcd", [1.01, 2, 3, 4.02], 10, [0.0] * 4)
    np.testing.assert_allclose(topic.last.pace, (1, 0, 0, 2), atol=1e-9)
    assert not topic.last.velocities.any()

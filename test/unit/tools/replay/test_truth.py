"""What the recording says about the time after a tick."""

from collections.abc import Sequence

import numpy as np
import pytest
from listed_bags import TOPICS, Entry, ListedBag, chunk_at, gripper_to, tool_at
from numpy.typing import NDArray
from synthetic_bags import START_NS

from sqap_vla_ros.config.robot import Robot
from sqap_vla_ros.config.settings import validate
from sqap_vla_ros.tools.replay.metrics import Motion
from sqap_vla_ros.tools.replay.truth import LOOK_AHEAD_NS, Truth

ROBOT = validate(
    Robot,
    {
        "frames.base": "base",
        "frames.tool": "tool",
        "topics.gripper_command": "/gripper",
        "command.gripper_joint": "finger",
    },
    "test",
)
HORIZON, STEP_S, STEP_NS = 4, 0.1, 10**8
SPEED_M_S = 0.2
MS = 10**6


def moving(begin_ms: int, end_ms: int, at_ns: int = START_NS) -> list[Entry]:
    """A transform every 30 ms of a tool that moves along x, recorded at its stamp."""
    return [tool_at(at_ns + t * MS, SPEED_M_S * t * 1e-3) for t in range(begin_ms, end_ms + 1, 30)]


def truth_of(entries: Sequence[Entry], damaged: bool = False) -> Truth:
    """The truth in a list of messages."""
    return Truth(ListedBag(entries, damaged), TOPICS, ROBOT, HORIZON, STEP_S)


def at(truth: Truth, after_ms: int) -> Motion:
    """The truth about a tick so long after the start."""
    at_ns = START_NS + after_ms * MS
    return truth.motion(at_ns, np.eye(4), at_ns)


def x_m(*after_ms: float) -> NDArray[np.float64]:
    """Where the moving tool is."""
    return SPEED_M_S * np.array(after_ms) * 1e-3


def test_the_transforms_tell_where_the_tool_was_after_each_step() -> None:
    truth = at(truth_of(moving(0, 3000)), 500)
    np.testing.assert_allclose(truth.path_m[:, 0], x_m(600, 700, 800, 900), atol=1e-9)


def test_nothing_is_known_past_the_end_of_the_recording() -> None:
    np.testing.assert_allclose(at(truth_of(moving(0, 900)), 650).path_m[:, 0], [*x_m(750, 850), np.nan, np.nan])


def test_damage_ends_the_truth_like_the_end_of_the_recording() -> None:
    path = at(truth_of(moving(0, 900), damaged=True), 650).path_m
    np.testing.assert_allclose(path[:, 0], [*x_m(750, 850), np.nan, np.nan])


def test_nothing_is_known_in_a_gap_of_the_transforms() -> None:
    truth = at(truth_of([*moving(0, 630), *moving(840, 3000)]), 500)  # 0.21 s, and 0.2 s are allowed
    np.testing.assert_allclose(truth.path_m[:, 0], [*x_m(600), np.nan, np.nan, *x_m(900)])


def test_transforms_that_were_recorded_late_count() -> None:
    late = [(topic, recorded_ns + 800 * MS, message) for topic, recorded_ns, message in moving(0, 3000)]
    np.testing.assert_allclose(at(truth_of(late), 500).path_m[:, 0], x_m(600, 700, 800, 900), atol=1e-9)


def test_without_transforms_the_tool_poses_of_recorded_chunks_tell() -> None:
    chunks = [
        chunk_at(START_NS + t * MS, SPEED_M_S * t * 1e-3, [1.0] * HORIZON, STEP_S, START_NS + (t + 80) * MS)
        for t in range(0, 2000, 150)
    ]
    np.testing.assert_allclose(at(truth_of(chunks), 500).path_m[:, 0], x_m(600, 700, 800, 900), atol=1e-9)


def test_the_gripper_is_as_the_last_command_before_the_step_left_it() -> None:
    commands = [gripper_to(START_NS, 0.04), gripper_to(START_NS + 650 * MS, 0.0)]
    truth = at(truth_of([*moving(0, 3000), *commands]), 500)
    np.testing.assert_array_equal(truth.gripper, [1, 1, 0, 0])


def test_the_gripper_is_unknown_before_its_first_command() -> None:
    truth = at(truth_of([*moving(0, 3000), gripper_to(START_NS + 650 * MS, 0.0)]), 500)
    np.testing.assert_array_equal(truth.gripper, [np.nan, np.nan, 0, 0])


def test_without_commands_the_gripper_is_as_the_newest_recorded_chunk_wants_it() -> None:
    chunks = [
        chunk_at(START_NS + 500 * MS, 0.0, [1, 1, 1, 1], STEP_S, START_NS + 950 * MS),
        chunk_at(START_NS + 700 * MS, 0.0, [1, 0, 0, 0], STEP_S, START_NS + 1150 * MS),
    ]
    np.testing.assert_array_equal(at(truth_of([*moving(0, 3000), *chunks]), 500).gripper, [1, 1, 1, 0])


def test_a_chunk_that_cannot_be_used_tells_nothing() -> None:
    topic, recorded_ns, chunk = chunk_at(START_NS + 500 * MS, 0.0, [1, 1, 1, 1], STEP_S, START_NS + 510 * MS)
    chunk.time_step = float("inf")
    truth = at(truth_of([*moving(0, 3000), (topic, recorded_ns, chunk)]), 500)
    assert np.isnan(truth.gripper).all() and np.isfinite(truth.path_m).all()


@pytest.fixture
def set_back() -> Truth:
    """A recording whose clock is set back to its beginning after two seconds, the tool elsewhere from then on."""
    second_life = [tool_at(START_NS + t * MS, 5.0, START_NS + (2000 + t) * MS) for t in range(0, 1000, 30)]
    return truth_of([*moving(0, 1980), *second_life])


def test_the_truth_ends_where_the_clock_is_set_back(set_back: Truth) -> None:
    np.testing.assert_allclose(at(set_back, 1750).path_m[:, 0], [*x_m(1850, 1950), np.nan, np.nan])


def test_after_the_clock_was_set_back_the_new_time_counts(set_back: Truth) -> None:
    at(set_back, 1950)
    at_ns = START_NS + 100 * MS
    truth = set_back.motion(at_ns, np.eye(4), at_ns + 2000 * MS)
    np.testing.assert_allclose(truth.path_m[:, 0], [5.0] * HORIZON)


def test_it_is_read_no_further_ahead_than_needed() -> None:
    bag = ListedBag(moving(0, 60_000))
    at(Truth(bag, TOPICS, ROBOT, HORIZON, STEP_S), 0)
    assert bag.read < 60


def test_the_search_for_missing_transforms_ends() -> None:
    gripper = [gripper_to(START_NS + t * MS, 0.0) for t in range(0, 60_000, 30)]
    bag = ListedBag(gripper)
    assert np.isnan(at(Truth(bag, TOPICS, ROBOT, HORIZON, STEP_S), 0).path_m).all()
    assert bag.read < 1.1 * LOOK_AHEAD_NS / (30 * MS)

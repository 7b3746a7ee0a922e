"""The ticks of a live recording."""

from collections.abc import Sequence

import numpy as np
from listed_bags import TOPICS, Entry, ListedBag, chunk_at, mask_at
from synthetic_bags import START_NS, image

from sqap_vla_ros.bags.recorded import RecordedTick, committed_actions, recorded_stamps_ns, recorded_ticks
from sqap_vla_ros.config.robot import ActionConvention, Configuration
from sqap_vla_ros.core.observation import Observation
from sqap_vla_ros.perception.transforms import rotation_from_rpy, transform_from

STEP_NS, HELD = 200_000_000, 3
CONFIGURATION = Configuration(action=ActionConvention(rate_hz=5))


def tick_at(at_ns: int, encoding: str = "rgb8") -> list[Entry]:
    """Image, chunk and mask of one tick."""
    return [
        ("/image", at_ns, image(at_ns, encoding)),
        chunk_at(at_ns, 0.25, [1.0, 0.0], 0.1, at_ns),
        mask_at(at_ns, (30.0, 40.0)),
    ]


def ticks(entries: Sequence[Entry], damaged: bool = False) -> list[RecordedTick | tuple[int, str]]:
    """The ticks of a list of messages, however it ends."""
    planned = recorded_stamps_ns(ListedBag(entries, damaged), TOPICS)
    return list(recorded_ticks(ListedBag(entries), TOPICS, planned, lambda recorded_ns: None))


def test_a_tick_has_the_inputs_that_chunk_and_mask_tell() -> None:
    (tick,) = ticks(tick_at(START_NS))
    assert isinstance(tick, RecordedTick) and tick.observation.stamp_ns == START_NS
    assert tick.observation.T_base_tool[0, 3] == 0.25 and tick.actions[:, 6].tolist() == [1.0, 0.0]
    assert tick.observation.tool_px is not None and tick.observation.tool_px.tolist() == [30.0, 40.0]


def test_an_image_that_was_not_planned_on_is_no_tick() -> None:
    assert len(ticks([*tick_at(START_NS), ("/image", START_NS + 1, image(START_NS + 10**8))])) == 1


def test_a_tick_that_cannot_be_planned_again_says_why() -> None:
    (tick,) = ticks(tick_at(START_NS, "32FC1"))
    assert not isinstance(tick, RecordedTick) and tick[0] == START_NS and "32FC1" in tick[1]


def test_ticks_that_were_published_again_after_a_jump_of_the_clock_count_again() -> None:
    entries = [(topic, at_ns + lap * 10**10, message) for lap in (0, 1) for topic, at_ns, message in tick_at(START_NS)]
    assert recorded_stamps_ns(ListedBag(entries), TOPICS).total() == len(ticks(entries)) == 2


def test_the_ticks_before_a_damage_are_there() -> None:
    assert len(ticks([*tick_at(START_NS), *tick_at(START_NS + 10**8)], damaged=True)) == 2


def numbered(number: int, actions: np.ndarray, committed_steps: int = 0) -> RecordedTick:
    T_base_tool = transform_from((0.4 + 0.01 * number, 0, 0.3), rotation_from_rpy((np.pi, 0, 0)))
    image = np.zeros((2, 2, 3), np.uint8)
    observation = Observation(number * STEP_NS, image, "pick", T_base_tool, None, "")
    return RecordedTick(observation, actions, "sqap@0", 1, number, 0.2, committed_steps)


def drawn(seed: int) -> np.ndarray:
    actions = np.random.default_rng(seed).normal(scale=0.003, size=(16, 7))
    actions[:, 6] = 1
    return actions


def test_a_chunk_goes_on_from_the_one_whose_actions_it_holds_though_others_were_published_since() -> None:
    followed, refused, other = numbered(0, drawn(0)), numbered(1, drawn(1)), drawn(2)
    running = committed_actions(numbered(2, other, HELD), [followed], CONFIGURATION)
    assert running is not None
    other[:HELD, :6] = running.actions[:HELD, :6]
    found = committed_actions(numbered(2, other, HELD), [followed, refused], CONFIGURATION)
    assert found is not None and found.steps == HELD
    np.testing.assert_array_equal(found.actions, running.actions)


def test_a_chunk_that_ends_before_what_was_held_is_not_gone_on_from() -> None:
    assert committed_actions(numbered(14, drawn(1), HELD), [numbered(0, drawn(0))], CONFIGURATION) is None

"""What a recorded chunk was planned on from."""

import numpy as np

from sqap_vla_ros.config import ActionConvention, Configuration
from sqap_vla_ros.geometry.transforms import rotation_from_rpy, transform_from
from sqap_vla_ros.observation import Observation
from sqap_vla_ros.replay.recorded import RecordedTick, committed_actions

STEP_NS, HELD = 200_000_000, 3
CONFIGURATION = Configuration(action=ActionConvention(rate_hz=5))


def tick(number: int, actions: np.ndarray, committed_steps: int = 0) -> RecordedTick:
    T_base_tool = transform_from((0.4 + 0.01 * number, 0, 0.3), rotation_from_rpy((np.pi, 0, 0)))
    image = np.zeros((2, 2, 3), np.uint8)
    observation = Observation(number * STEP_NS, image, "pick", T_base_tool, None, "")
    return RecordedTick(observation, actions, "sqap@0", 1, number, 0.2, committed_steps)


def drawn(seed: int) -> np.ndarray:
    actions = np.random.default_rng(seed).normal(scale=0.003, size=(16, 7))
    actions[:, 6] = 1
    return actions


def test_a_chunk_goes_on_from_the_one_whose_actions_it_holds_though_others_were_published_since() -> None:
    followed, refused, other = tick(0, drawn(0)), tick(1, drawn(1)), drawn(2)
    running = committed_actions(tick(2, other, HELD), [followed], CONFIGURATION)
    assert running is not None
    other[:HELD, :6] = running.actions[:HELD, :6]
    found = committed_actions(tick(2, other, HELD), [followed, refused], CONFIGURATION)
    assert found is not None and found.steps == HELD
    np.testing.assert_array_equal(found.actions, running.actions)


def test_a_chunk_that_ends_before_what_was_held_is_not_gone_on_from() -> None:
    assert committed_actions(tick(14, drawn(1), HELD), [tick(0, drawn(0))], CONFIGURATION) is None

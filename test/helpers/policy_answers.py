"""Answers of a policy that lead to no command."""

import numpy as np
from hand_driven_loop import HandDrivenLoop, S

from sqap_vla_ros.core.action_chunk import ActionChunk
from sqap_vla_ros.core.observation import Observation


def raises(bench: HandDrivenLoop, observation: Observation) -> str:
    return "RuntimeError: out of cheese"


def gives_nan(bench: HandDrivenLoop, observation: Observation) -> ActionChunk:
    return bench.chunk(observation, actions=np.full((16, 7), np.nan))


def gives_another_shape(bench: HandDrivenLoop, observation: Observation) -> ActionChunk:
    return bench.chunk(observation, actions=np.zeros((16, 6)))


def is_far_away(bench: HandDrivenLoop, observation: Observation) -> ActionChunk:
    T = observation.T_base_tool.copy()
    T[0, 3] -= 0.4
    return bench.chunk(observation, T_base_tool=T)


def lies_in_the_past(bench: HandDrivenLoop, observation: Observation) -> ActionChunk:
    return bench.chunk(observation, stamp_ns=observation.stamp_ns - 3 * S // 10, time_step_s=0.01)


def is_old(bench: HandDrivenLoop, observation: Observation) -> ActionChunk:
    return bench.chunk(observation, stamp_ns=observation.stamp_ns - S)

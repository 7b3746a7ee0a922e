"""A policy that plans what it was told, and remembers what it was shown."""

from collections.abc import Iterable
from types import SimpleNamespace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sqap_vla_ros.core.action_chunk import ActionChunk, CommittedActions
from sqap_vla_ros.core.observation import Observation
from sqap_vla_ros.core.token_selection import keep_all


class ToldPolicy:
    """Plans the given chunks, one after the other."""

    def __init__(self, chunks: Iterable[NDArray[np.float64]], time_step_s: float = 0.2) -> None:
        self.metadata: Any = SimpleNamespace(time_step_s=time_step_s)
        self.seen: list[Observation] = []
        self.resets = 0
        self._chunks = iter(chunks)

    def plan(self, observation: Observation, committed: CommittedActions | None = None) -> ActionChunk:
        self.seen.append(observation)
        return ActionChunk(
            stamp_ns=observation.stamp_ns,
            actions=next(self._chunks),
            time_step_s=self.metadata.time_step_s,
            T_base_tool=observation.T_base_tool,
            instruction=observation.instruction,
            seed=observation.stamp_ns,
            selection=keep_all(16, 16),
        )

    def reset(self) -> None:
        self.resets += 1

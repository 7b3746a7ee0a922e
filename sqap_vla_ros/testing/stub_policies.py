"""Policies that plan nothing clever, for measuring and testing what is around the policy."""

import math
import time
from collections.abc import Callable

import numpy as np

from sqap_vla_ros.config.robot import Configuration
from sqap_vla_ros.core.action_chunk import ActionChunk, CommittedActions
from sqap_vla_ros.core.observation import Observation
from sqap_vla_ros.core.policy import PolicyMetadata
from sqap_vla_ros.core.token_selection import keep_all

HORIZON = 16
TIME_STEP_S = 0.05


class SleepingPolicy:
    """Sleeps as long as an inference takes, then moves the tool slowly to and fro.

    Args:
        plan_s: Duration of a plan.
    """

    def __init__(self, plan_s: float) -> None:
        self.plan_s = plan_s
        self.metadata = PolicyMetadata(
            policy="sleeping",
            checkpoint="",
            checkpoint_sha256="0" * 64,
            statistics_key="",
            weights="none",
            weight_bits=0,
            activation_bits=0,
            visual_tokens=256,
            kept_tokens=256,
            parameters=0,
            memory_bytes=0,
            device="cpu",
            time_step_s=TIME_STEP_S,
            horizon=HORIZON,
        )

    def plan(self, observation: Observation, committed: CommittedActions | None = None) -> ActionChunk:
        """Sleep, then plan."""
        time.sleep(self.plan_s)
        actions = np.zeros((HORIZON, 7))
        actions[:, :3] = 0.002 * math.sin(observation.stamp_ns * 1e-9) * np.array([0.3, 1.0, 0.3])
        actions[:, 6] = 1.0
        return ActionChunk(
            stamp_ns=observation.stamp_ns,
            actions=actions,
            time_step_s=TIME_STEP_S,
            T_base_tool=observation.T_base_tool,
            instruction=observation.instruction,
            seed=observation.stamp_ns,
            selection=keep_all(),
            tool_px=observation.tool_px,
            no_ring_reason=observation.no_ring_reason,
            timings_s={"sleep": self.plan_s},
        )

    def reset(self) -> None:
        """Nothing to forget."""


def sleeping(configuration: Configuration, on_progress: Callable[[str], None]) -> SleepingPolicy:
    """A policy that takes 20 ms."""
    return SleepingPolicy(0.02)

"""The policy node with a policy that fails on demand: the instruction names the fault."""

import os
import signal
import time
from collections.abc import Callable
from dataclasses import replace

import numpy as np

from sqap_vla_ros.config.robot import Configuration
from sqap_vla_ros.core.action_chunk import ActionChunk, CommittedActions
from sqap_vla_ros.core.observation import Observation
from sqap_vla_ros.ros.main import run
from sqap_vla_ros.testing.stub_policies import HORIZON, TIME_STEP_S, SleepingPolicy

PLAN_S = 0.02
HANG_S = 5.0
# The tool goes round: always moving, so that every fault meets a moving arm.
RADIUS_M, TURNS_RAD_S = 0.05, 3.0
# Share of the way to the circle's middle per action: what is measured does not add up to a circle for ever.
PULL = 0.02


class FaultInjectingPolicy(SleepingPolicy):
    """Moves the tool in a circle, unless the instruction is one of "hang", "raise", "die", "nan", "inf" and "still"."""

    def __init__(self) -> None:
        super().__init__(PLAN_S)
        self._middle: np.ndarray | None = None
        self._warms_up = True

    def plan(self, observation: Observation, committed: CommittedActions | None = None) -> ActionChunk:
        """Plan, or fail."""
        chunk = super().plan(observation, committed)
        fault = observation.instruction
        if fault == "hang":
            time.sleep(HANG_S)
        elif fault == "raise":
            raise RuntimeError("on demand")
        elif fault == "die":
            os.kill(os.getpid(), signal.SIGKILL)
        tool_m = observation.T_base_tool[:3, 3]
        if self._middle is None or self._warms_up:
            self._middle, self._warms_up = tool_m, observation.stamp_ns == 0
        angle = TURNS_RAD_S * (observation.stamp_ns * 1e-9 + TIME_STEP_S * np.arange(HORIZON))
        actions = np.zeros((HORIZON, 7))
        actions[:, 1] = RADIUS_M * TURNS_RAD_S * TIME_STEP_S * np.cos(angle)
        actions[:, 2] = RADIUS_M * TURNS_RAD_S * TIME_STEP_S * np.sin(angle)
        actions[:, :3] += PULL * (self._middle - tool_m)
        if fault == "still":
            actions[:] = 0.0
        actions[5, 2] = {"nan": np.nan, "inf": np.inf}.get(fault, actions[5, 2])
        return replace(chunk, actions=actions)

    def reset(self) -> None:
        """The circle stays where it is."""


def fault_injecting(configuration: Configuration, on_progress: Callable[[str], None]) -> FaultInjectingPolicy:
    """The policy."""
    return FaultInjectingPolicy()


if __name__ == "__main__":
    run(fault_injecting)

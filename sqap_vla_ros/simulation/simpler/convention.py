"""Action chunks in the form that the SIMPLER simulator takes, one per control step."""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray
from transforms3d.euler import euler2axangle

from sqap_vla_ros.policies.cogact.ensemble import AdaptiveEnsemble

Action = Mapping[str, NDArray[np.float64]]


@dataclass(frozen=True)
class SimplerSetup:
    """What differs between SIMPLER's robots.

    Attributes:
        statistics_key: Name of the action normalisation.
        ensemble_horizon: Number of chunks that are averaged.
        sticky_steps: Control steps for which a gripper change is held; 0: the gripper is absolute.
    """

    statistics_key: str
    ensemble_horizon: int
    sticky_steps: int


SETUPS: Mapping[str, SimplerSetup] = MappingProxyType(
    {
        "widowx_bridge": SimplerSetup("bridge_orig", ensemble_horizon=7, sticky_steps=0),
        "google_robot": SimplerSetup("fractal20220817_data", ensemble_horizon=2, sticky_steps=10),
    }
)


class SimplerActions:
    """Conversion of chunks into SIMPLER's actions, with the ensemble's and the gripper's state of an episode.

    Args:
        setup: The robot's, one of `SETUPS`.
        action_scale: Factor on translations and rotations.
        alpha: Exponent of the adaptive ensemble.
    """

    def __init__(self, setup: SimplerSetup, action_scale: float = 1.0, alpha: float = 0.1) -> None:
        self._setup = setup
        self._scale = action_scale
        self._ensemble = AdaptiveEnsemble(setup.ensemble_horizon, alpha)
        self._task: str | None = None
        self.reset()

    def reset(self) -> None:
        """Begin an episode."""
        self._ensemble.reset()
        self._gripper_before: NDArray[np.float64] | None = None
        self._held: NDArray[np.float64] | None = None
        self._held_steps = 0

    def step(self, chunk: NDArray[np.float64], task: str) -> tuple[Action, Action]:
        """Convert the chunk of a control step.

        Args:
            chunk: float64 (horizon, 7), un-normalised actions planned now; rotations are fixed-axis roll, pitch, yaw.
            task: The instruction; another one than before resets the state first.

        Returns:
            The averaged action (world_vector, rotation_delta, open_gripper), and the same as SIMPLER takes it
            (world_vector, rot_axangle, gripper, terminate_episode); float64 (3,) and (1,).
        """
        if task != self._task:
            self.reset()
            self._task = task
        action = np.asarray(self._ensemble.mix(chunk), dtype=np.float64)
        axis, angle = euler2axangle(*action[3:6], axes="sxyz")
        raw = {"world_vector": action[:3], "rotation_delta": action[3:6], "open_gripper": action[6:7]}
        taken = {
            "world_vector": action[:3] * self._scale,
            "rot_axangle": axis * angle * self._scale,
            "gripper": self._gripper(action[6:7]),
            "terminate_episode": np.zeros(1),
        }
        return raw, taken

    def _gripper(self, opening: NDArray[np.float64]) -> NDArray[np.float64]:
        """The gripper action: 1 opens and −1 closes; if relative, closing is positive and held for some steps."""
        if self._setup.sticky_steps == 0:
            return np.where(opening > 0.5, 1.0, -1.0)
        change = np.zeros(1) if self._gripper_before is None else self._gripper_before - opening
        if self._gripper_before is None:
            self._gripper_before = opening
        if self._held is None and abs(change[0]) > 0.5:
            # The change is counted from the last change, not from the last step.
            self._held, self._gripper_before = change, opening
        if self._held is None:
            return change
        held = self._held
        self._held_steps += 1
        if self._held_steps == self._setup.sticky_steps:
            self._held, self._held_steps = None, 0
        return held

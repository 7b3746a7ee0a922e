"""A policy behind the interface that SIMPLER's evaluation calls, for this project's runner and for SIMPLER's own.

SIMPLER's environments take one averaged action per control step and have no clock and no transforms. The clock of the
observations, which seeds the plans' noise, is therefore counted here: each episode has a time of its own. The caller
says where the tool is in the image (`sqap_vla_ros.simulation.simpler.tool.tool_in_image`); otherwise there is no ring.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from sqap_vla_ros.core.action_chunk import ActionChunk
from sqap_vla_ros.core.observation import Observation
from sqap_vla_ros.core.policy import Policy
from sqap_vla_ros.simulation.simpler.convention import Action, SimplerActions, SimplerSetup
from sqap_vla_ros.simulation.simpler.tool import ToolInImage

# Simulated time between the starts of two episodes: longer than any of them.
_EPISODE_NS = 1_000_000_000_000

# SIMPLER's own evaluator shows a policy the image alone.
_UNKNOWN_TOOL = ToolInImage(np.full((4, 4), np.nan), None, "the caller did not say where the tool is in the image")

_ACTION_NAMES = ("x [m]", "y [m]", "z [m]", "roll [rad]", "pitch [rad]", "yaw [rad]", "gripper, 1: open")


class SimplerPolicy:
    """The model interface of SIMPLER's evaluator.

    The same episode number gives the same noise, so episodes of two policies are paired.

    Args:
        policy: The policy, whose `time_step_s` is the control period.
        setup: The robot's, one of `sqap_vla_ros.simulation.simpler.convention.SETUPS`.
        action_scale: Factor on translations and rotations.

    Attributes:
        chunk: The chunk of the last step; None before the first.
    """

    def __init__(self, policy: Policy, setup: SimplerSetup, action_scale: float = 1.0) -> None:
        self.chunk: ActionChunk | None = None
        self._policy = policy
        self._actions = SimplerActions(setup, action_scale)
        self._period_ns = round(policy.metadata.time_step_s * 1e9)
        self._task = ""
        self._episode = -1
        self._now_ns = 0

    def reset(self, task_description: str, episode: int | None = None) -> None:
        """Begin an episode.

        Args:
            task_description: The instruction.
            episode: Number of the episode, which seeds its noise; None: one more than the last.
        """
        self._episode = self._episode + 1 if episode is None else episode
        self._now_ns = self._episode * _EPISODE_NS
        self._forget(task_description)

    def step(
        self,
        image: NDArray[np.uint8],
        task_description: str | None = None,
        *args: Any,
        tool: ToolInImage = _UNKNOWN_TOOL,
        **kwargs: Any,
    ) -> tuple[Action, Action]:
        """Plan, and average with the last plans.

        Args:
            image: uint8 (height, width, 3), RGB, as the environment gave it.
            task_description: The instruction; a new one discards earlier plans. None: as before.
            args: Further arguments of SIMPLER's; not used.
            tool: Position of the tool, around which the ring is.
            kwargs: Like args.

        Returns:
            The averaged action, and the same as SIMPLER's environments take it; see `SimplerActions.step`.

        Raises:
            ValueError: There is no instruction, or the image is not uint8.
        """
        if image.dtype != np.uint8:
            raise ValueError(f"image is {image.dtype}, expected uint8 (height, width, 3)")
        if task_description is not None and task_description != self._task:
            self._forget(task_description)
        self.chunk = self._policy.plan(
            Observation(self._now_ns, image, self._task, tool.T_base_tool, tool.tool_px, tool.no_ring_reason)
        )
        self._now_ns += self._period_ns
        return self._actions.step(self.chunk.actions, self._task)

    def visualize_epoch(
        self, predicted_raw_actions: Sequence[Action], images: Sequence[NDArray[np.uint8]], save_path: str | Path
    ) -> None:
        """Draw an episode: every third image, and the seven numbers of the actions over time.

        Args:
            predicted_raw_actions: First results of `step`.
            images: uint8 (height, width, 3) each.
            save_path: Of the picture.
        """
        names = ("world_vector", "rotation_delta", "open_gripper")
        actions = np.array([np.concatenate([action[name] for name in names]) for action in predicted_raw_actions])
        figure = Figure(figsize=(21, 6), layout="constrained")
        rows = figure.add_gridspec(2, len(_ACTION_NAMES))
        strip = figure.add_subplot(rows[0, :])
        strip.imshow(np.concatenate([image[::2, ::2] for image in images[::3]], axis=1))
        strip.set_axis_off()
        for column, (name, values) in enumerate(zip(_ACTION_NAMES, actions.T, strict=True)):
            axes = figure.add_subplot(rows[1, column])
            axes.plot(values)
            axes.set(title=name, xlabel="control step")
        figure.savefig(save_path, dpi=70)

    def _forget(self, task: str) -> None:
        self._task = task
        self._actions.reset()
        self._policy.reset()

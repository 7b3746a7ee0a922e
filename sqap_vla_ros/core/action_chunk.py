"""What the policy answers: a chunk of actions, with everything that is needed to compute it again."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from sqap_vla_ros.core.token_selection import TokenSelection


@dataclass(frozen=True)
class ActionSpace:
    """What the numbers of an action are.

    Attributes:
        kind: Changes of the tool pose (translation, three numbers of a rotation); changes of joint positions; or joint
            positions.
        size: Numbers per action.
        grippers: Which of them are grippers, ascending; the others are the tool's or the joints', in order.
    """

    kind: Literal["tool_deltas", "joint_deltas", "joint_positions"] = "tool_deltas"
    size: int = 7
    grippers: tuple[int, ...] = (6,)

    def __post_init__(self) -> None:
        if sorted({*self.grippers}) != list(self.grippers) or any(not 0 <= g < self.size for g in self.grippers):
            raise ValueError(f"grippers = {self.grippers}: expected ascending indices below {self.size}")
        if not self.of_joints and self.size - len(self.grippers) != 6:
            raise ValueError(f"{self.size} numbers with grippers {self.grippers}: a change of the tool pose has 6")

    @property
    def of_joints(self) -> bool:
        """Whether joints are moved, or the tool."""
        return self.kind in ("joint_deltas", "joint_positions")

    @property
    def moving(self) -> tuple[int, ...]:
        """The numbers that are no grippers."""
        return tuple(index for index in range(self.size) if index not in self.grippers)


TOOL_DELTAS = ActionSpace()


@dataclass(frozen=True)
class CommittedActions:
    """What the running chunk has planned for the time of a new one (real-time chunking).

    Attributes:
        actions: float64 (overlap, 7), un-normalised, on the new chunk's grid of time: row k is that chunk's action k.
        steps: The first rows of these will be done, or under way, before the new chunk can be commanded: they are
            held fixed. The rest pulls, less and less, so that the new chunk goes on where they end.
    """

    actions: NDArray[np.float64]
    steps: int

    def __post_init__(self) -> None:
        if not 0 < self.steps <= len(self.actions):
            raise ValueError(f"committed steps = {self.steps}; expected 1 to {len(self.actions)}, the actions given")


@dataclass(frozen=True)
class ActionChunk:
    """Actions planned from one observation.

    Attributes:
        stamp_ns: Stamp of the observation, not of the moment when the chunk was ready.
        actions: float64 (horizon, numbers), un-normalised; of the tool: translation (m), rotation (rad, three numbers),
            gripper. What a delta means (frame, rotation, what it is added to) is the robot's action convention.
        time_step_s: Time between two actions.
        T_base_tool: float64 (4, 4), the tool pose at `stamp_ns` that the deltas start from.
        instruction: The instruction that was planned for.
        seed: Of the diffusion noise (Philox key).
        selection: Which visual tokens of the first camera's image were kept, and why.
        tool_px: float64 (2,), the projected tool that the ring was drawn around, or None without a ring.
        no_ring_reason: Why there is no ring, a sentence; empty when there is one.
        timings_s: Seconds per stage, by stage name, in the order they ran.
        committed_steps: Leading actions that were held fixed (real-time chunking).
        space: What the numbers of an action are.
        further_selections: Which visual tokens of the other cameras' images were kept, by the camera's name.
    """

    stamp_ns: int
    actions: NDArray[np.float64]
    time_step_s: float
    T_base_tool: NDArray[np.float64]
    instruction: str
    seed: int
    selection: TokenSelection
    tool_px: NDArray[np.float64] | None = None
    no_ring_reason: str = ""
    timings_s: Mapping[str, float] = field(default_factory=dict)
    committed_steps: int = 0
    space: ActionSpace = TOOL_DELTAS
    further_selections: Mapping[str, TokenSelection] = field(default_factory=dict)

"""What disturbs an expert while it is recorded, so that there are recoveries to learn from."""

from dataclasses import dataclass, replace

import numpy as np

from sqap_vla_ros.core.action_chunk import ActionChunk
from sqap_vla_ros.core.policy import Policy
from sqap_vla_ros.core.token_selection import keep_all
from sqap_vla_ros.core.types import Array
from sqap_vla_ros.perception.transforms import vector_from_rotation
from sqap_vla_ros.simulation.closed_loop import ClosedLoop
from sqap_vla_ros.simulation.episode import STEP_NS
from sqap_vla_ros.simulation.experts import Move

_HORIZON = 16
_SPEED_M, _SPEED_RAD = 0.0125, 0.03  # per control step at 20 Hz: a quarter of a metre per second
_GAIN = 0.35  # share of the remaining way per step: the tool slows down towards the target
# Lengths of the turns. A policy that missed its grasp goes on to the goal without the object: its turns are long enough
# for that, so that the expert shows how to return.
_POLICY_STEPS, _EXPERT_STEPS = (10, 150), (20, 50)
_PLAN_EVERY = 4  # control steps, as in an evaluation


@dataclass(frozen=True)
class Bursts:
    """How often and how far an expert is pushed away: now and then the tool goes where it should not for some steps.

    Attributes:
        rate: Bursts per control step.
        near: Factor on the rate where the tool is about to grasp or let go, where an error of a centimetre counts.
        steps: Length of the shortest and of the longest burst [control steps].
        reach_m: Standard deviation of how far the tool is pushed away [m].
        gripper: Share of bursts in which the fingers do the opposite as well.
        start: Chance that an episode begins with a burst, of twice the length.
    """

    rate: float = 0.015
    near: float = 3.0
    steps: tuple[int, int] = (4, 10)
    reach_m: float = 0.05
    gripper: float = 0.1
    start: float = 0.7


class Pushes:
    """Bursts at random times, each of which pushes the tool in a random direction."""

    def __init__(self, bursts: Bursts, draw: np.random.Generator) -> None:
        self._bursts = bursts
        self._draw = draw
        self._left = 0
        if draw.random() < bursts.start:
            self._begin(2)

    def chunk(self, loop: ClosedLoop, T_base_tool: Array, move: Move) -> ActionChunk:
        """A chunk towards where the burst pushes the tool."""
        target = T_base_tool[:3, 3] + self._push
        gripper = 1 - move.gripper if self._inverts_gripper else move.gripper
        return chunk_of(straight_to(T_base_tool, replace(move, target=target, gripper=gripper)), loop)

    def _begin(self, factor: int = 1) -> None:
        bursts, draw = self._bursts, self._draw
        self._left = factor * int(draw.integers(*bursts.steps, endpoint=True))
        self._push = draw.normal(0.0, factor * bursts.reach_m, 3) * (1.0, 1.0, 0.6)
        self._inverts_gripper = bool(draw.random() < bursts.gripper)

    def step(self, is_near: bool) -> bool:
        """Whether the next control step is disturbed.

        Args:
            is_near: Whether the tool is near to where it is going.
        """
        rate = self._bursts.rate * (self._bursts.near if is_near else 1.0)
        if self._left == 0 and self._draw.random() < rate:
            self._begin()
        self._left -= self._left > 0
        return self._left > 0


class Detours:
    """A trained policy that takes turns with the expert, who shows what to do from where the policy has got to.

    This is DAgger (Ross et al. 2011) with turns of some length, so that what is imitated are motions that were really
    made.
    """

    def __init__(self, policy: Policy, draw: np.random.Generator) -> None:
        self._policy = policy
        self._draw = draw
        self._drives = bool(draw.random() < 0.5)
        self._left = 0
        self._since_plan = 0
        policy.reset()

    def step(self, is_near: bool) -> bool:
        """Whether the policy drives in the next control step."""
        if self._left == 0:
            self._drives = not self._drives
            self._left = int(self._draw.integers(*(_POLICY_STEPS if self._drives else _EXPERT_STEPS), endpoint=True))
            self._since_plan = 0
        self._left -= 1
        return self._drives

    def chunk(self, loop: ClosedLoop, T_base_tool: Array, move: Move) -> ActionChunk | None:
        """The policy's plan every few steps; None where the arm continues with the last one."""
        self._since_plan += 1
        return self._policy.plan(loop.observe()) if self._since_plan % _PLAN_EVERY == 1 else None


def straight_to(T_base_tool: Array, move: Move) -> Array:
    """Actions float64 (16, 7) that lead straight to the target of a move, slower as the tool comes near."""
    actions = np.zeros((_HORIZON, 7))
    actions[:, 6] = move.gripper
    way, turn = move.target - T_base_tool[:3, 3], vector_from_rotation(move.rotation @ T_base_tool[:3, :3].T)
    for action in actions:
        for part, left, most in ((slice(0, 3), way, _SPEED_M), (slice(3, 6), turn, _SPEED_RAD)):
            length = float(np.linalg.norm(left))
            action[part] = left * (min(most, _GAIN * length) / max(length, 1e-9))
            left -= action[part]
    return actions


def chunk_of(actions: Array, loop: ClosedLoop) -> ActionChunk:
    """A chunk that starts from the present pose."""
    return ActionChunk(
        stamp_ns=loop.now_ns,
        actions=actions,
        time_step_s=STEP_NS * 1e-9,
        T_base_tool=loop.scene.T_base_tool,
        instruction=loop.scene.instruction,
        seed=0,
        selection=keep_all(),
    )

"""What every policy offers, and what it says about itself."""

from dataclasses import dataclass
from typing import Literal, Protocol

from sqap_vla_ros.core.action_chunk import TOOL_DELTAS, ActionChunk, ActionSpace, CommittedActions
from sqap_vla_ros.core.observation import Observation

StateKind = Literal["none", "tool", "joints"]
"""What the numbers of a state are: none; tool position [m], its rotation vector [rad] and what the gripper's joints
measure; or joint positions [rad] with the gripper of each arm behind its joints."""


@dataclass(frozen=True)
class PolicyNeeds:
    """What a policy needs in an observation, and what its actions are.

    Attributes:
        cameras: Number of camera images.
        state: What the numbers of the state are.
        state_size: How many they are.
        actions: What the numbers of an action are.
    """

    cameras: int = 1
    state: StateKind = "none"
    state_size: int = 0
    actions: ActionSpace = TOOL_DELTAS


ONE_CAMERA = PolicyNeeds()
"""One camera and no state."""


@dataclass(frozen=True)
class PolicyMetadata:
    """What a loaded policy is: the fields of the PolicyMetadata message that the policy knows.

    Attributes:
        weights: "float", or the recipe that compressed them.
        recipe: Name of the recipe that compressed the weights; empty for float weights.
        needs: What it needs in an observation, and what its actions are.
    """

    policy: str
    checkpoint: str
    checkpoint_sha256: str
    statistics_key: str
    weights: str
    weight_bits: int
    activation_bits: int
    visual_tokens: int
    kept_tokens: int
    parameters: int
    memory_bytes: int
    device: str
    time_step_s: float
    horizon: int
    recipe: str = ""
    needs: PolicyNeeds = PolicyNeeds()

    @property
    def policy_id(self) -> str:
        """Name of the policy and the first twelve digits of its checkpoint's hash."""
        return f"{self.policy}@{self.checkpoint_sha256[:12]}"


class Policy(Protocol):
    """Anything that plans: stateless but for what `reset` clears."""

    metadata: PolicyMetadata

    def plan(self, observation: Observation, committed: CommittedActions | None = None) -> ActionChunk:
        """Plan a chunk of actions from one observation; the same arguments give the same chunk, bit for bit.

        Args:
            observation: What the robot sees.
            committed: The part of the running chunk that the new one is to go on from; None: it stands alone.
        """

    def reset(self) -> None:
        """Forget everything carried between plans (new instruction or episode)."""

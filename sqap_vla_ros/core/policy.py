"""What every policy offers."""

from typing import Protocol

from sqap_vla_ros.config.policy import PolicyMetadata
from sqap_vla_ros.core.action_chunk import ActionChunk, CommittedActions
from sqap_vla_ros.core.observation import Observation


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

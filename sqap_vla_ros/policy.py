"""A policy, and the way from a YAML file to one.

`fp16` and `sqap` are the same network and the same code; what differs is data in `config/policies/`. Swapping them is
one launch argument, and every caller (node, replay, simulation) gets its policy from `load_policy`.
"""

from collections.abc import Callable
from typing import Protocol

from sqap_vla_ros.action_chunk import ActionChunk, CommittedActions
from sqap_vla_ros.config import Configuration
from sqap_vla_ros.observation import Observation
from sqap_vla_ros.policy_config import PolicyMetadata, read_policy


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


def load_policy(configuration: Configuration, on_progress: Callable[[str], None]) -> Policy:
    """The policy that the settings name.

    Args:
        configuration: Policy file, checkpoint, tokenizer, statistics key, device.
        on_progress: Told in words what is going on.

    Raises:
        ConfigurationError: The policy file or a setting cannot be used.
        CheckpointError: The checkpoint cannot be used.
        TokenizerError: There is no tokenizer.
    """
    config = read_policy(configuration.policy)
    # Torch and transformers take seconds to import; whoever only asks what a policy is need not wait for them.
    from sqap_vla_ros.cogact.policy import load_cogact_policy

    return load_cogact_policy(config, configuration, on_progress)

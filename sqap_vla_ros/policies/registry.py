"""The way from a YAML file to a policy.

`fp16` and `sqap` are the same network and the same code; what differs is data in `config/policies/`. Swapping them is
one launch argument, and every caller (node, replay, simulation) gets its policy from `load_policy`.
"""

from collections.abc import Callable

from sqap_vla_ros.config.policy import read_policy
from sqap_vla_ros.config.robot import Configuration
from sqap_vla_ros.core.policy import Policy


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
    from sqap_vla_ros.policies.cogact.load import load_cogact_policy

    return load_cogact_policy(config, configuration, on_progress)

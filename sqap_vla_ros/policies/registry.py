"""The one way from a policy file to a policy.

`fp16` and `sqap` run the same network and the same code and differ in data only (`config/policies/`), so swapping them
is one launch argument. Every caller (node, replay, simulation) gets its policy from `load_policy`.
"""

from collections.abc import Callable

from sqap_vla_ros.config.policy import read_policy
from sqap_vla_ros.config.robot import Configuration
from sqap_vla_ros.core.policy import Policy


def load_policy(configuration: Configuration, on_progress: Callable[[str], None]) -> Policy:
    """Load the policy that the settings name.

    Args:
        configuration: Policy file, checkpoint, tokenizer, statistics key, device.
        on_progress: Called with a message at each step.

    Raises:
        ConfigurationError: The policy file or a setting cannot be used.
        CheckpointError: The checkpoint cannot be used.
        TokenizerError: There is no tokenizer.
    """
    config = read_policy(configuration.policy)
    # torch and transformers take seconds to import, which reading a policy's settings does not need.
    from sqap_vla_ros.policies.cogact.load import load_cogact_policy

    return load_cogact_policy(config, configuration, on_progress)

"""The one way from a policy file and a checkpoint to a policy.

`fp16` and `sqap` run the same network and the same code and differ in data only (`config/policies/`), so swapping them
is one launch argument. The checkpoint says which family it is of; the policy file must be for that family. Every caller
(node, replay, simulation) gets its policy from `load_policy`.
"""

from collections.abc import Callable

from sqap_vla_ros.config.files import ConfigurationError
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
    from sqap_vla_ros.policies.openvla.load import load_openvla_policy
    from sqap_vla_ros.vlm.checkpoint import find_checkpoint
    from sqap_vla_ros.vlm.checkpoint_kind import Kind, is_openvla, recognise

    if configuration.checkpoint:
        on_progress(f"looking for checkpoint {configuration.checkpoint}")
        path = find_checkpoint(configuration.checkpoint)
        found = recognise(path)
        # A run of OpenVLA-OFT without its language model is refused below, with what to do.
        is_whole = found.kind in (Kind.OPENVLA, Kind.OPENVLA_OFT) and (path / "config.json").is_file()
        if is_whole or (found.kind is Kind.COMPRESSED and is_openvla(path)):
            return load_openvla_policy(config, configuration, path, on_progress)
        if config.openvla is not None and found.kind is not Kind.UNKNOWN and found.words:
            raise ConfigurationError(
                f"policy {config.name} is for OpenVLA, but {path} is {found.words}; give a checkpoint of OpenVLA, or a "
                "policy without a part 'openvla', such as fp16 or sqap"
            )
    return load_cogact_policy(config, configuration, on_progress)

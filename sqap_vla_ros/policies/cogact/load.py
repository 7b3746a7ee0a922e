"""From a policy file and a checkpoint to a CogACT policy, on the device where it runs."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from sqap_vla_ros.config.files import ConfigurationError, expand_home
from sqap_vla_ros.config.policy import PolicyConfig
from sqap_vla_ros.config.pruning import EfficientVlaConfig, PruningConfig
from sqap_vla_ros.config.robot import Configuration
from sqap_vla_ros.core.policy import PolicyMetadata
from sqap_vla_ros.policies.cogact.checkpoint import load_cogact
from sqap_vla_ros.policies.cogact.compressed import load_compressed
from sqap_vla_ros.policies.cogact.diffusion import ddim_timesteps
from sqap_vla_ros.policies.cogact.layer_importance import drawn_frames, layer_importance
from sqap_vla_ros.policies.cogact.model import CogACT
from sqap_vla_ros.policies.cogact.policy import SAMPLE_INSTRUCTION, CogACTPolicy
from sqap_vla_ros.policies.cogact.store import read_manifest
from sqap_vla_ros.policies.placement import load_where_it_runs, number_format
from sqap_vla_ros.vlm.checkpoint import Checkpoint, open_checkpoint
from sqap_vla_ros.vlm.pruning.efficientvla import least_important
from sqap_vla_ros.vlm.pruning.registry import TokenDropping, prune_before_layer
from sqap_vla_ros.vlm.statistics import ActionStatistics, choose_statistics
from sqap_vla_ros.vlm.tokenizer import PromptTokenizer, load_tokenizer


@dataclass(frozen=True)
class Weights:
    """How the weights of the language model are stored.

    Attributes:
        recipe: Name of the recipe that compressed them; empty for float weights.
        bits: Bits of a weight.
        activation_bits: Bits of the inputs of the linear layers.
    """

    recipe: str
    bits: int
    activation_bits: int


def load_cogact_policy(
    config: PolicyConfig, configuration: Configuration, on_progress: Callable[[str], None]
) -> CogACTPolicy:
    """Load a checkpoint under a policy file.

    Args:
        config: The policy file.
        configuration: Checkpoint, tokenizer, statistics key, device and threads.
        on_progress: Called with a message at each step.

    Raises:
        ConfigurationError: A setting does not fit the checkpoint or the machine.
        CheckpointError: The checkpoint cannot be used.
        TokenizerError: There is no tokenizer.
    """
    if not configuration.checkpoint:
        raise ConfigurationError(
            "checkpoint is empty; give a CogACT run directory, .pt file or Hub id "
            "(`sqap-vla random-checkpoint DIR` writes a small random one to try with)"
        )
    on_progress(f"opening checkpoint {configuration.checkpoint}")
    checkpoint = open_checkpoint(configuration.checkpoint)
    try:
        statistics = choose_statistics(checkpoint.statistics, configuration.statistics_key or None)
    except ValueError as error:
        raise ConfigurationError(f"statistics_key: {error}") from None
    if config.diffusion.sampler == "ddim":
        try:
            ddim_timesteps(config.diffusion.steps)
        except ValueError as error:
            raise ConfigurationError(f"diffusion.steps: {error}") from None
    tokenizer = load_tokenizer(
        checkpoint.directory, expand_home(configuration.tokenizer) if configuration.tokenizer else None
    )
    model, weights = load_where_it_runs(
        configuration, lambda device: _load_model(config, checkpoint, device, on_progress)
    )
    model, dropped = _with_layers_for(config.pruning, model, tokenizer, on_progress)
    # The policy's id lists the dropped layers, because chunks of networks with other layers must not be compared.
    name = "-".join((config.name, *(["without"] if dropped else []), *(str(layer) for layer in dropped)))
    on_progress("hashing the checkpoint")
    metadata = _metadata(name, config, configuration, checkpoint, model, weights, statistics)
    policy = CogACTPolicy(config, model, tokenizer, statistics, metadata)
    if model.device.type == "cuda":
        policy.record_graphs(on_progress)
    return policy


def _load_model(
    config: PolicyConfig, checkpoint: Checkpoint, device: str, on_progress: Callable[[str], None]
) -> tuple[CogACT, Weights]:
    """Load the model on one device, with the description of its weights."""
    precision, dtype = number_format(config.precision, device)
    if not checkpoint.is_compressed:
        on_progress(f"loading {checkpoint.weights.stat().st_size * 1e-9:.2f} GB of weights to {device} as {precision}")
        bits = 8 * dtype.itemsize
        return load_cogact(checkpoint, dtype=dtype, device=device), Weights("", bits, bits)
    manifest = read_manifest(checkpoint.directory)
    recipe, label = manifest.identity.recipe, manifest.identity.label
    if config.weights == "float":
        raise ConfigurationError(
            f"policy {config.name} runs float weights, but {checkpoint.directory} is compressed ({label}); give "
            f"the original checkpoint ({manifest.identity.source.name}), or another policy"
        )
    on_progress(f"loading {manifest.nbytes * 1e-9:.2f} GB of {label} to {device}, the rest as {precision}")
    model = load_compressed(checkpoint.directory, manifest, dtype=dtype, device=device)
    bits = round(recipe.mixed.target_bits) if recipe.mixed else recipe.weights.bits
    return model, Weights(label, bits, recipe.activations.bits)


def _with_layers_for(
    pruning: PruningConfig | None, model: CogACT, tokenizer: PromptTokenizer, on_progress: Callable[[str], None]
) -> tuple[CogACT, Sequence[int]]:
    """The network without the layers that EfficientVLA drops, and the indices of these layers.

    Raises:
        ConfigurationError: A layer to drop, or the layer before which tokens are dropped, does not exist.
    """
    depth = len(model.language.layers)
    dropped: Sequence[int] = ()
    if isinstance(pruning, EfficientVlaConfig):
        if pruning.drop_layers is not None:
            dropped = pruning.drop_layers
        else:
            on_progress("measuring the importance of the language model's layers")
            importance = layer_importance(model, drawn_frames(tokenizer.encode(SAMPLE_INSTRUCTION)))
            dropped = least_important(importance, pruning.layer_ratio)
        if any(layer >= depth for layer in dropped):
            raise ConfigurationError(f"pruning.drop_layers = {list(dropped)}: the layers are 0 to {depth - 1}")
        on_progress(f"language model without layers {list(dropped)} of {depth}")
        language = model.language.without_layers(dropped)
        model = CogACT(model.vision, model.projector, language, model.action_head)
        depth = len(language.layers)
    if isinstance(pruning, TokenDropping) and prune_before_layer(pruning) >= depth:
        raise ConfigurationError(
            f"pruning.prune_before_layer = {prune_before_layer(pruning)}: the language model has {depth} layers, "
            f"give at most {depth - 1}"
        )
    return model, dropped


def _metadata(
    name: str,
    config: PolicyConfig,
    configuration: Configuration,
    checkpoint: Checkpoint,
    model: CogACT,
    weights: Weights,
    statistics: ActionStatistics,
) -> PolicyMetadata:
    visual = model.visual_tokens
    return PolicyMetadata(
        policy=name,
        checkpoint=configuration.checkpoint,
        checkpoint_sha256=checkpoint.sha256(),
        statistics_key=statistics.key,
        weights=weights.recipe or "float",
        weight_bits=weights.bits,
        activation_bits=weights.activation_bits,
        visual_tokens=visual,
        kept_tokens=config.pruning.keep if config.pruning else visual,
        parameters=model.parameter_count,
        memory_bytes=model.memory_bytes,
        device=str(model.device),
        time_step_s=1.0 / configuration.action.rate_hz,
        horizon=model.action_head.shape.horizon,
        recipe=weights.recipe,
    )

"""From a policy file and a published directory to an OpenVLA or OpenVLA-OFT policy, on the device where it runs."""

from collections.abc import Callable
from pathlib import Path

from sqap_vla_ros.config.files import ConfigurationError, expand_home
from sqap_vla_ros.config.openvla import OpenVlaConfig
from sqap_vla_ros.config.policy import PolicyConfig
from sqap_vla_ros.config.pruning import FastVConfig, RandomConfig, SqapConfig
from sqap_vla_ros.config.recipe import Recipe
from sqap_vla_ros.config.robot import ActionConvention, Configuration
from sqap_vla_ros.core.action_chunk import ActionSpace
from sqap_vla_ros.core.policy import PolicyMetadata, PolicyNeeds
from sqap_vla_ros.policies.openvla.build import find_decoding, load_openvla
from sqap_vla_ros.policies.openvla.checkpoint import OpenVlaCheckpoint, open_openvla
from sqap_vla_ros.policies.openvla.components import PROPRIO
from sqap_vla_ros.policies.openvla.compressed import load_compressed_openvla
from sqap_vla_ros.policies.openvla.model import OpenVla
from sqap_vla_ros.policies.openvla.osc import RATE_HZ
from sqap_vla_ros.policies.openvla.policy import OpenVlaPolicy, choose_statistics
from sqap_vla_ros.policies.openvla.statistics import Bounds
from sqap_vla_ros.policies.openvla.store import OpenVlaManifest, read_openvla_manifest
from sqap_vla_ros.policies.placement import load_where_it_runs, number_format
from sqap_vla_ros.vlm.lowbit.footprint import memory_bytes, parameter_count
from sqap_vla_ros.vlm.pruning.registry import TokenDropping, prune_before_layer
from sqap_vla_ros.vlm.tokenizer import load_tokenizer


def load_openvla_policy(
    config: PolicyConfig, configuration: Configuration, directory: Path, on_progress: Callable[[str], None]
) -> OpenVlaPolicy:
    """Load a published directory under a policy file.

    Args:
        config: The policy file, with a part `openvla`.
        configuration: Tokenizer, statistics key, device and threads.
        directory: The directory.
        on_progress: Called with a message at each step.

    Raises:
        ConfigurationError: A setting is missing, or contradicts the files.
        CheckpointError: The checkpoint cannot be used.
        TokenizerError: There is no tokenizer.
    """
    trained, pruning = _settings(config, directory), _pruning(config)
    checkpoint = open_openvla(directory)
    statistics = choose_statistics(checkpoint, configuration.statistics_key)
    manifest = _manifest(config, checkpoint)
    if manifest is None:
        decoding, has_state = find_decoding(checkpoint, trained.decoding), PROPRIO in checkpoint.components
    else:
        decoding, has_state = manifest.shapes.decoding, manifest.shapes.proprio is not None
        if trained.decoding not in (None, decoding):
            raise ConfigurationError(
                f"policy {config.name}: openvla.decoding = {trained.decoding}, but {directory} was "
                f"compressed for {decoding}"
            )
    _check(config, trained, checkpoint, has_state, autoregressive=decoding == "autoregressive")
    _check_convention(config, trained, configuration.action)
    actions = statistics.bounds("action", trained.normalisation)
    state = statistics.bounds("proprio", trained.normalisation) if has_state else None
    tokenizer = load_tokenizer(directory, expand_home(configuration.tokenizer) if configuration.tokenizer else None)

    def load(device: str) -> OpenVla:
        precision, dtype = number_format(config.precision, device)
        size = sum(file.stat().st_size for file in checkpoint.files)
        if manifest is not None:
            name = manifest.identity.recipe.name
            on_progress(f"loading {manifest.nbytes * 1e-9:.2f} GB of {name} to {device}, the rest as {precision}")
            statistics_of_images = checkpoint.image_statistics
            return load_compressed_openvla(directory, manifest, statistics_of_images, dtype=dtype, device=device)
        on_progress(f"loading {size * 1e-9:.2f} GB of weights to {device} as {precision}")
        return load_openvla(checkpoint, decoding=decoding, dtype=dtype, device=device)

    model = load_where_it_runs(configuration, load)
    _check_sizes(trained, checkpoint, model, actions, state)
    depth = model.language.shape.depth
    if pruning is not None and prune_before_layer(pruning) >= depth:
        raise ConfigurationError(
            f"pruning.prune_before_layer = {prune_before_layer(pruning)}: the language model has {depth} layers"
        )
    on_progress("hashing the checkpoint")
    needs = PolicyNeeds(
        cameras=trained.views,
        state=trained.state,
        state_size=0 if state is None else len(state.low),
        actions=_action_space(trained, len(actions.low)),
    )
    recipe = manifest.identity.recipe if manifest else None
    metadata = _metadata(config, configuration, checkpoint, model, statistics.key, trained, needs, recipe)
    return OpenVlaPolicy(trained, pruning, model, tokenizer, actions, state, metadata)


def _settings(config: PolicyConfig, directory: Path) -> OpenVlaConfig:
    if config.openvla is None:
        raise ConfigurationError(
            f"policy {config.name} is for CogACT, but {directory} is an OpenVLA, whose files do not say how many "
            "views, which chunk, normalisation and crop it was trained with; give a policy with a part 'openvla', such "
            "as openvla-oft-libero, openvla-oft-aloha or openvla-bridge"
        )
    return config.openvla


def _pruning(config: PolicyConfig) -> TokenDropping | None:
    pruning = config.pruning
    if pruning is None or isinstance(pruning, (SqapConfig, FastVConfig, RandomConfig)):
        return pruning
    raise ConfigurationError(
        f"policy {config.name}: pruning.method = {pruning.method} is made for one view and a causal model; with "
        "OpenVLA use sqap, fastv or random"
    )


def _check(
    config: PolicyConfig,
    trained: OpenVlaConfig,
    checkpoint: OpenVlaCheckpoint,
    has_state: bool,
    *,
    autoregressive: bool,
) -> None:
    """Compare the settings with which files there are, before time is spent."""
    if autoregressive and (trained.chunk != 1 or trained.views != 1):
        raise ConfigurationError(
            f"policy {config.name}: openvla.decoding = autoregressive is plain OpenVLA, which sees one view and "
            f"plans one action; openvla.views = {trained.views}, openvla.chunk = {trained.chunk}"
        )
    if has_state != (trained.state != "none"):
        file = checkpoint.components.get(PROPRIO)
        found = (file.name if file else "a projector of the state") if has_state else f"no {PROPRIO} file"
        raise ConfigurationError(
            f"policy {config.name}: openvla.state = {trained.state}, but {checkpoint.directory} has {found}; "
            + ("say what the numbers of the state are" if has_state else "set openvla.state to none")
        )


def _manifest(config: PolicyConfig, checkpoint: OpenVlaCheckpoint) -> OpenVlaManifest | None:
    """The manifest of a compressed checkpoint; None for one with float weights."""
    if not checkpoint.is_compressed:
        return None
    manifest = read_openvla_manifest(checkpoint.directory)
    if config.weights == "float":
        raise ConfigurationError(
            f"policy {config.name} runs float weights, but {checkpoint.directory} is compressed "
            f"({manifest.identity.recipe.name}); give the original checkpoint ({manifest.identity.source.name}), or "
            "another policy"
        )
    return manifest


def _check_convention(config: PolicyConfig, trained: OpenVlaConfig, convention: ActionConvention) -> None:
    """Compare what the actions are with how the robot file says they are meant."""
    if trained.actions != "osc_inputs":
        return
    meant = {"increment": "achieved", "rotation": "axis_angle", "frame": "base", "rate_hz": RATE_HZ}
    for name, value in meant.items():
        if (found := getattr(convention, name)) != value:
            raise ConfigurationError(
                f"policy {config.name}: openvla.actions = osc_inputs become motions with action.{name} = {value}, but "
                f"the robot file has {found}; set it, as in libero_panda"
            )


def _check_sizes(
    trained: OpenVlaConfig, checkpoint: OpenVlaCheckpoint, model: OpenVla, actions: Bounds, state: Bounds | None
) -> None:
    """Compare the sizes that the files say with those of the statistics."""
    where = checkpoint.directory
    if model.head is not None and model.head.shape.action_dim != len(actions.low):
        raise ConfigurationError(
            f"{where}: the head plans {model.head.shape.action_dim} numbers per action, the statistics have "
            f"{len(actions.low)}; choose another statistics_key"
        )
    if state is not None and model.proprio is not None and model.proprio.numbers != len(state.low):
        raise ConfigurationError(
            f"{where}: the state has {model.proprio.numbers} numbers, the statistics have {len(state.low)}; choose "
            "another statistics_key"
        )
    _action_space(trained, len(actions.low))


def _action_space(trained: OpenVlaConfig, size: int) -> ActionSpace:
    kind = "tool_deltas" if trained.actions == "osc_inputs" else trained.actions
    try:
        return ActionSpace(kind, size, trained.grippers)
    except ValueError as error:
        raise ConfigurationError(f"openvla.actions = {trained.actions}: {error}; set openvla.grippers") from None


def _metadata(
    config: PolicyConfig,
    configuration: Configuration,
    checkpoint: OpenVlaCheckpoint,
    model: OpenVla,
    key: str,
    trained: OpenVlaConfig,
    needs: PolicyNeeds,
    recipe: Recipe | None,
) -> PolicyMetadata:
    bits = activation_bits = 8 * model.dtype.itemsize
    if recipe is not None:
        bits = round(recipe.mixed.target_bits) if recipe.mixed else recipe.weights.bits
        activation_bits = recipe.activations.bits
    visual = trained.views * model.vision.dino.shape.grid**2
    return PolicyMetadata(
        policy=config.name,
        checkpoint=configuration.checkpoint,
        checkpoint_sha256=checkpoint.sha256(),
        statistics_key=key,
        weights=recipe.name if recipe else "float",
        weight_bits=bits,
        activation_bits=activation_bits,
        visual_tokens=visual,
        kept_tokens=trained.views * config.pruning.keep if config.pruning else visual,
        parameters=parameter_count(model),
        memory_bytes=memory_bytes(model),
        device=str(model.device),
        time_step_s=1.0 / configuration.action.rate_hz,
        horizon=trained.chunk,
        needs=needs,
        recipe=recipe.name if recipe else "",
    )

"""CogACT as a policy: an observation in, an un-normalised action chunk out."""

import logging
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from sqap_vla_ros.config.files import ConfigurationError
from sqap_vla_ros.config.policy import PolicyConfig
from sqap_vla_ros.config.pruning import EfficientVlaConfig, PruningConfig, VlaCacheConfig
from sqap_vla_ros.config.robot import Configuration
from sqap_vla_ros.core.action_chunk import ActionChunk, CommittedActions
from sqap_vla_ros.core.gpu_failures import advice, warn, why_torch_has_no_gpu
from sqap_vla_ros.core.observation import Observation
from sqap_vla_ros.core.policy import PolicyMetadata
from sqap_vla_ros.core.token_selection import keep_all
from sqap_vla_ros.policies.cogact.checkpoint import Checkpoint, load_cogact, open_checkpoint
from sqap_vla_ros.policies.cogact.compressed import load_compressed
from sqap_vla_ros.policies.cogact.continuation import held_actions
from sqap_vla_ros.policies.cogact.diffusion import PROCESS_STEPS, Ddim, Ddpm, Sampler, ddim_timesteps
from sqap_vla_ros.policies.cogact.fast.plans import FastPlans, record_fast_plans
from sqap_vla_ros.policies.cogact.layer_importance import drawn_frames, layer_importance
from sqap_vla_ros.policies.cogact.model import CogACT
from sqap_vla_ros.policies.cogact.store import read_manifest
from sqap_vla_ros.policies.cogact.token_choice import TokenDropping, choose_tokens, prune_before_layer
from sqap_vla_ros.vlm.frame_reuse import FrameReuse
from sqap_vla_ros.vlm.pruning.efficientvla import least_important
from sqap_vla_ros.vlm.pruning.inputs import SelectionInputs
from sqap_vla_ros.vlm.pruning.vla_cache import reuse_report
from sqap_vla_ros.vlm.statistics import ActionStatistics, choose_statistics, denormalise
from sqap_vla_ros.vlm.tokenizer import PromptTokenizer, load_tokenizer

_DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}

_LOG = logging.getLogger(__name__)

# For what is measured or recorded before anybody has said what to do.
_INSTRUCTION = "pick up the object and put it down"


@dataclass(frozen=True)
class Weights:
    """How the weights of the language model are stored.

    Attributes:
        recipe: That compressed them; empty: they are floats.
        bits: Of a weight.
        activation_bits: Of the inputs of the linear layers.
    """

    recipe: str
    bits: int
    activation_bits: int


class CogACTPolicy:
    """The published network under one policy file.

    Args:
        config: The policy file.
        model: The network.
        tokenizer: Of the instruction.
        statistics: Of the actions.
        metadata: What to say about it.
    """

    def __init__(
        self,
        config: PolicyConfig,
        model: CogACT,
        tokenizer: PromptTokenizer,
        statistics: ActionStatistics,
        metadata: PolicyMetadata,
    ) -> None:
        self.metadata = metadata
        self._model = model
        self._tokenizer = tokenizer
        self._statistics = statistics
        self._diffusion = config.diffusion
        self._grid = model.vision.dino.shape.grid
        self._dropping = None if isinstance(config.pruning, VlaCacheConfig) else config.pruning
        self._reuse = FrameReuse(config.pruning) if isinstance(config.pruning, VlaCacheConfig) else None
        self._text: tuple[str, torch.Tensor] | None = None
        self._fast: FastPlans | None = None

    def record_graphs(self, on_progress: Callable[[str], None]) -> None:
        """On a GPU: plan by CUDA graphs from now on, where the policy allows it."""
        _, sampler = self._draw(0)
        if self._reuse is None and isinstance(sampler, Ddim):
            self._fast = record_fast_plans(
                self._model,
                self._dropping,
                sampler,
                self._diffusion.guidance,
                self._token_ids(_INSTRUCTION),
                on_progress,
            )

    def plan(self, observation: Observation, committed: CommittedActions | None = None) -> ActionChunk:
        """Plan a chunk; the same arguments give the same bits on the same machine and number of threads.

        With VLA-Cache these are the same observations since the last `reset`.

        Args:
            observation: What the robot sees.
            committed: The part of the running chunk that the new one goes on from; None: it stands alone.

        Raises:
            ValueError: The instruction is empty, more is committed than a chunk has, or the samples are not finite.
        """
        dropping = self._dropping
        selection = keep_all(self._grid, self._grid)

        def select(evidence: SelectionInputs) -> NDArray[np.int64]:
            nonlocal selection
            assert dropping is not None
            selection = choose_tokens(dropping, evidence, observation, self._grid)
            return selection.indices

        seed = observation.stamp_ns
        ids, (noise, sampler) = self._token_ids(observation.instruction), self._draw(seed)
        held = held_actions(committed, self._statistics, noise.shape[1]) if committed else None
        if self._fast is not None and (planned := self._fast.plan(observation, ids, noise, held)) is not None:
            prediction, selection = planned
        else:
            prediction = self._model.plan(
                observation.image,
                ids,
                noise,
                sampler=sampler,
                guidance=self._diffusion.guidance,
                held=held,
                select=select if dropping else None,
                prune_before_layer=prune_before_layer(dropping) if dropping else 0,
                reuse=self._reuse,
            )
        if self._reuse is not None:
            selection = reuse_report(self._reuse.reused, self._grid, self._grid)
        return ActionChunk(
            stamp_ns=observation.stamp_ns,
            actions=denormalise(prediction.normalised, self._statistics)[0],
            time_step_s=self.metadata.time_step_s,
            T_base_tool=observation.T_base_tool,
            instruction=observation.instruction,
            seed=seed,
            selection=selection,
            tool_px=observation.tool_px,
            no_ring_reason=observation.no_ring_reason,
            timings_s=prediction.timings_s,
            committed_steps=committed.steps if committed else 0,
        )

    def reset(self) -> None:
        """Forget the previous frame, where frames are reused; else every plan stands on its own observation alone."""
        if self._reuse is not None:
            self._reuse.reset()

    def _token_ids(self, instruction: str) -> torch.Tensor:
        if self._text is None or self._text[0] != instruction:
            self._text = instruction, self._tokenizer.encode(instruction)
        return self._text[1]

    def _draw(self, seed: int) -> tuple[torch.Tensor, Sampler]:
        """Initial noise float32 (1, horizon, 7), and the sampler with the noise of its steps if it needs any."""
        head = self._model.action_head.shape
        shape = (1, head.horizon, head.action_dim)
        generator = philox(seed)
        noise = torch.from_numpy(generator.standard_normal(shape, np.float32))
        if self._diffusion.sampler == "ddim":
            return noise, Ddim(self._diffusion.steps, self._diffusion.recompute_every)
        step_noise = torch.from_numpy(generator.standard_normal((PROCESS_STEPS, *shape), np.float32))
        return noise, Ddpm(step_noise, self._diffusion.recompute_every)


def philox(seed: int) -> np.random.Generator:
    """The source of a plan's noise: on the CPU, so that a seed means the same noise on every device and torch build."""
    return np.random.Generator(np.random.Philox(key=seed))


def load_cogact_policy(
    config: PolicyConfig, configuration: Configuration, on_progress: Callable[[str], None]
) -> CogACTPolicy:
    """Load a checkpoint under a policy file.

    Args:
        config: The policy file.
        configuration: Checkpoint, tokenizer, statistics key, device and threads.
        on_progress: Told in words what is going on.

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
        checkpoint.directory, Path(configuration.tokenizer).expanduser() if configuration.tokenizer else None
    )
    model, weights = _load_where_it_runs(config, configuration, checkpoint, on_progress)
    model, dropped = _with_layers_for(config.pruning, model, tokenizer, on_progress)
    # Chunks of networks with other layers are not to be compared: the policy's id tells them apart.
    name = "-".join((config.name, *(["without"] if dropped else []), *(str(layer) for layer in dropped)))
    on_progress("hashing the checkpoint")
    metadata = _metadata(name, config, configuration, checkpoint, model, weights, statistics)
    policy = CogACTPolicy(config, model, tokenizer, statistics, metadata)
    if model.device.type == "cuda":
        policy.record_graphs(on_progress)
    return policy


def _load_where_it_runs(
    config: PolicyConfig, configuration: Configuration, checkpoint: Checkpoint, on_progress: Callable[[str], None]
) -> tuple[CogACT, Weights]:
    """As `_load_model`: on the device that is configured; with auto, on the CPU where the GPU fails."""
    if choose_device(configuration.device) == "cuda":
        try:
            return _load_model(config, checkpoint, "cuda", on_progress)
        except RuntimeError as error:  # of torch: no memory, no code for this GPU, a driver that fails
            if configuration.device == "cuda":
                raise ConfigurationError(f"device = cuda: {advice(error)}; or let device be auto or cpu") from error
            warn("planning on the CPU, which takes seconds", error)
        torch.cuda.empty_cache()
    torch.set_num_threads(configuration.torch_threads or max(1, len(os.sched_getaffinity(0)) - 1))
    return _load_model(config, checkpoint, "cpu", on_progress)


def _load_model(
    config: PolicyConfig, checkpoint: Checkpoint, device: str, on_progress: Callable[[str], None]
) -> tuple[CogACT, Weights]:
    """The network, and how its weights are to be described."""
    auto = "float32" if device == "cpu" else "bfloat16"
    number_format = auto if config.precision == "auto" else config.precision
    dtype = _DTYPES[number_format]
    if not checkpoint.is_compressed:
        on_progress(
            f"loading {checkpoint.weights.stat().st_size * 1e-9:.2f} GB of weights to {device} as {number_format}"
        )
        bits = 8 * dtype.itemsize
        return load_cogact(checkpoint, dtype=dtype, device=device), Weights("", bits, bits)
    manifest = read_manifest(checkpoint.directory)
    recipe = manifest.identity.recipe
    if config.weights == "float":
        raise ConfigurationError(
            f"policy {config.name} runs float weights, but {checkpoint.directory} is compressed ({recipe.name}); give "
            f"the original checkpoint ({manifest.identity.source.name}), or another policy"
        )
    on_progress(f"loading {manifest.nbytes * 1e-9:.2f} GB of {recipe.name} to {device}, the rest as {number_format}")
    model = load_compressed(checkpoint.directory, manifest, dtype=dtype, device=device)
    bits = round(recipe.mixed.target_bits) if recipe.mixed else recipe.weights.bits
    return model, Weights(recipe.name, bits, recipe.activations.bits)


def _with_layers_for(
    pruning: PruningConfig | None, model: CogACT, tokenizer: PromptTokenizer, on_progress: Callable[[str], None]
) -> tuple[CogACT, Sequence[int]]:
    """The network without the layers that EfficientVLA drops, and these; sure that tokens leave before one it has."""
    depth = len(model.language.layers)
    dropped: Sequence[int] = ()
    if isinstance(pruning, EfficientVlaConfig):
        if pruning.drop_layers is not None:
            dropped = pruning.drop_layers
        else:
            on_progress("measuring the importance of the language model's layers")
            importance = layer_importance(model, drawn_frames(tokenizer.encode(_INSTRUCTION)))
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


def choose_device(wanted: str) -> str:
    """ "cuda" or "cpu", from "auto", "cuda" or "cpu".

    Raises:
        ConfigurationError: There is no CUDA GPU, and one was asked for.
    """
    if wanted == "cpu":
        return "cpu"
    if torch.cuda.is_available():
        return "cuda"
    reason = why_torch_has_no_gpu()
    if wanted == "cuda":
        because = f" ({reason})" if reason else ""
        raise ConfigurationError(f"device = cuda, but torch finds no CUDA GPU here{because}; use auto or cpu")
    if reason:
        _say_once(f"planning on the CPU, which takes seconds: {reason}")
    return "cpu"


@lru_cache
def _say_once(words: str) -> None:
    _LOG.warning(words)

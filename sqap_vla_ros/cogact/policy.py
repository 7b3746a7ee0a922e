"""CogACT as a policy: an observation in, an un-normalised action chunk out."""

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from sqap_vla_ros.action_chunk import ActionChunk
from sqap_vla_ros.cogact.checkpoint import Checkpoint, load_cogact, open_checkpoint
from sqap_vla_ros.cogact.diffusion import PROCESS_STEPS, Ddim, Ddpm, Sampler, ddim_timesteps
from sqap_vla_ros.cogact.model import CogACT
from sqap_vla_ros.cogact.preprocessing import model_image_affine
from sqap_vla_ros.cogact.statistics import ActionStatistics, choose_statistics, denormalise
from sqap_vla_ros.cogact.tokenizer import PromptTokenizer, load_tokenizer
from sqap_vla_ros.config import Configuration
from sqap_vla_ros.config_files import ConfigurationError
from sqap_vla_ros.geometry.patches import ring_tokens
from sqap_vla_ros.observation import Observation
from sqap_vla_ros.policy_config import PolicyConfig, PolicyMetadata
from sqap_vla_ros.pruning.config import PruningConfig
from sqap_vla_ros.pruning.selection import keep_all
from sqap_vla_ros.pruning.sqap import select_tokens

_DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


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
        self._pruning = config.pruning
        self._text: tuple[str, torch.Tensor] | None = None

    def plan(self, observation: Observation) -> ActionChunk:
        """Plan a chunk; the same observation gives the same bits on the same machine and number of threads.

        Raises:
            ValueError: The instruction is empty, or the samples are not finite.
        """
        pruning = self._pruning
        selection = keep_all(self._grid, self._grid)

        def select(scores: NDArray[np.float32] | None) -> NDArray[np.int64]:
            nonlocal selection
            assert pruning is not None
            selection = select_tokens(
                scores,
                self._ring(observation, pruning),
                pruning.keep,
                pruning.top_k,
                self._grid,
                self._grid,
            )
            return selection.indices

        seed = observation.stamp_ns
        noise, sampler = self._draw(seed)
        prediction = self._model.plan(
            observation.image,
            self._token_ids(observation.instruction),
            noise,
            sampler=sampler,
            guidance=self._diffusion.guidance,
            select=select if pruning else None,
            prune_before_layer=pruning.prune_before_layer if pruning else 2,
        )
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
        )

    def reset(self) -> None:
        """Nothing to forget: every plan stands on its own observation alone."""

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
            return noise, Ddim(self._diffusion.steps)
        return noise, Ddpm(torch.from_numpy(generator.standard_normal((PROCESS_STEPS, *shape), np.float32)))

    def _ring(self, observation: Observation, pruning: PruningConfig) -> NDArray[np.int64]:
        """Tokens protected around the tool."""
        height, width, _ = observation.image.shape
        affine = model_image_affine(width, height)
        return ring_tokens(observation.tool_px, affine, pruning.ring_radius, self._grid, self._grid)


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
    device = _device(configuration)
    if device == "cpu":
        torch.set_num_threads(configuration.torch_threads or max(1, len(os.sched_getaffinity(0)) - 1))
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
    dtype = _DTYPES[config.precision if config.precision != "auto" else "float32" if device == "cpu" else "bfloat16"]
    size_gb = checkpoint.weights.stat().st_size * 1e-9
    on_progress(f"loading {size_gb:.2f} GB of weights to {device} as {str(dtype).removeprefix('torch.')}")
    model = load_cogact(checkpoint, dtype=dtype, device=device)
    on_progress("hashing the checkpoint")
    metadata = _metadata(config, configuration, checkpoint, model, statistics)
    return CogACTPolicy(config, model, tokenizer, statistics, metadata)


def _metadata(
    config: PolicyConfig,
    configuration: Configuration,
    checkpoint: Checkpoint,
    model: CogACT,
    statistics: ActionStatistics,
) -> PolicyMetadata:
    visual = model.visual_tokens
    bits = 8 * model.dtype.itemsize
    return PolicyMetadata(
        policy=config.name,
        checkpoint=configuration.checkpoint,
        checkpoint_sha256=checkpoint.sha256(),
        statistics_key=statistics.key,
        weights="float",
        weight_bits=bits,
        activation_bits=bits,
        visual_tokens=visual,
        kept_tokens=config.pruning.keep if config.pruning else visual,
        parameters=sum(parameter.numel() for parameter in model.parameters()),
        memory_bytes=sum(parameter.nbytes for parameter in model.parameters()),
        device=str(model.device),
        time_step_s=1.0 / configuration.action.rate_hz,
        horizon=model.action_head.shape.horizon,
    )


def _device(configuration: Configuration) -> str:
    available = torch.cuda.is_available()
    if configuration.device == "cuda" and not available:
        raise ConfigurationError("device = cuda, but torch finds no CUDA GPU here; use auto or cpu")
    return "cuda" if available and configuration.device != "cpu" else "cpu"

"""CogACT as a policy: plans an un-normalised action chunk from an observation."""

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray

from sqap_vla_ros.config.policy import PolicyConfig
from sqap_vla_ros.config.pruning import VlaCacheConfig
from sqap_vla_ros.core.action_chunk import ActionChunk, CommittedActions
from sqap_vla_ros.core.noise import philox
from sqap_vla_ros.core.observation import Observation
from sqap_vla_ros.core.policy import PolicyMetadata
from sqap_vla_ros.core.token_selection import keep_all
from sqap_vla_ros.policies.cogact.continuation import held_actions
from sqap_vla_ros.policies.cogact.diffusion import PROCESS_STEPS, Ddim, Ddpm, Sampler
from sqap_vla_ros.policies.cogact.fast.plans import FastPlans, record_fast_plans
from sqap_vla_ros.policies.cogact.model import CogACT
from sqap_vla_ros.vlm.frame_reuse import FrameReuse
from sqap_vla_ros.vlm.pruning.inputs import SelectionInputs
from sqap_vla_ros.vlm.pruning.registry import kept_tokens, prune_before_layer, scene_of
from sqap_vla_ros.vlm.pruning.vla_cache import reuse_report
from sqap_vla_ros.vlm.statistics import ActionStatistics, denormalise
from sqap_vla_ros.vlm.tokenizer import PromptTokenizer

SAMPLE_INSTRUCTION = "pick up the object and put it down"
"""An instruction of usual length, for what is measured or recorded before the first one is received."""


class CogACTPolicy:
    """A CogACT network with the settings of one policy file.

    Args:
        config: The policy file.
        model: The network.
        tokenizer: Tokenizer of the instruction.
        statistics: Statistics of the actions.
        metadata: Description of the policy, for records and reports.
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
        """On a GPU: plan with CUDA graphs from now on, if the policy allows it."""
        _, sampler = self._draw(0)
        if self._reuse is None and isinstance(sampler, Ddim):
            self._fast = record_fast_plans(
                self._model,
                self._dropping,
                sampler,
                self._diffusion.guidance,
                self._token_ids(SAMPLE_INSTRUCTION),
                on_progress,
            )

    def plan(self, observation: Observation, committed: CommittedActions | None = None) -> ActionChunk:
        """Plan a chunk; the same arguments give the same bits on the same machine and number of threads.

        With VLA-Cache the result also depends on the observations since the last `reset`.

        Args:
            observation: What the robot sees.
            committed: The part of the running chunk that the new chunk continues; None: it is planned alone.

        Raises:
            ValueError: The instruction is empty, more is committed than a chunk has, or the samples are not finite.
        """
        dropping = self._dropping
        selection = keep_all(self._grid, self._grid)

        def select(inputs: SelectionInputs) -> NDArray[np.int64]:
            nonlocal selection
            assert dropping is not None
            selection = kept_tokens(dropping, inputs, scene_of(observation, self._grid))
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
        """Forget the previous frame if frames are reused; otherwise there is no state."""
        if self._reuse is not None:
            self._reuse.reset()

    def _token_ids(self, instruction: str) -> torch.Tensor:
        if self._text is None or self._text[0] != instruction:
            self._text = instruction, self._tokenizer.encode(instruction)
        return self._text[1]

    def _draw(self, seed: int) -> tuple[torch.Tensor, Sampler]:
        """Initial noise float32 (1, horizon, 7), and the sampler with the noise that its steps need."""
        head = self._model.action_head.shape
        shape = (1, head.horizon, head.action_dim)
        generator = philox(seed)
        noise = torch.from_numpy(generator.standard_normal(shape, np.float32))
        if self._diffusion.sampler == "ddim":
            return noise, Ddim(self._diffusion.steps, self._diffusion.recompute_every)
        step_noise = torch.from_numpy(generator.standard_normal((PROCESS_STEPS, *shape), np.float32))
        return noise, Ddpm(step_noise, self._diffusion.recompute_every)

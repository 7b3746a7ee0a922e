"""OpenVLA and OpenVLA-OFT as a policy: plans an un-normalised action chunk from an observation."""

import numpy as np
import torch
from numpy.typing import NDArray

from sqap_vla_ros.config.files import ConfigurationError
from sqap_vla_ros.config.openvla import OpenVlaConfig
from sqap_vla_ros.core.action_chunk import ActionChunk, CommittedActions
from sqap_vla_ros.core.noise import philox
from sqap_vla_ros.core.observation import Observation
from sqap_vla_ros.core.policy import PolicyMetadata
from sqap_vla_ros.core.token_selection import TokenSelection, keep_all
from sqap_vla_ros.core.types import Array
from sqap_vla_ros.policies.openvla.checkpoint import OpenVlaCheckpoint
from sqap_vla_ros.policies.openvla.denoising import Denoising
from sqap_vla_ros.policies.openvla.images import as_in_training, center_crop, model_image_affine
from sqap_vla_ros.policies.openvla.model import Inputs, OpenVla
from sqap_vla_ros.policies.openvla.osc import reached_changes
from sqap_vla_ros.policies.openvla.statistics import GUARD, Bounds, DatasetStatistics, denormalise, normalise_state
from sqap_vla_ros.vlm.layers import BeforeLayer
from sqap_vla_ros.vlm.preprocessing import resize
from sqap_vla_ros.vlm.pruning.inputs import SelectionInputs
from sqap_vla_ros.vlm.pruning.registry import Scene, TokenDropping, kept_tokens, prune_before_layer
from sqap_vla_ros.vlm.pruning.views import ViewPruningHook
from sqap_vla_ros.vlm.stopwatch import Stopwatch
from sqap_vla_ros.vlm.tokenizer import BLANK_ID, PromptTokenizer


class OpenVlaPolicy:
    """A network with the settings of one policy file.

    Args:
        config: The policy file's part about it.
        pruning: Which visual tokens are dropped in each view; None: none.
        model: The network.
        tokenizer: Tokenizer of the instruction.
        actions: Bounds of the actions.
        state: Bounds of the state; None where the network takes none.
        metadata: Description of the policy, for records and reports.
    """

    def __init__(
        self,
        config: OpenVlaConfig,
        pruning: TokenDropping | None,
        model: OpenVla,
        tokenizer: PromptTokenizer,
        actions: Bounds,
        state: Bounds | None,
        metadata: PolicyMetadata,
    ) -> None:
        self.metadata = metadata
        self._config, self._pruning, self._model, self._tokenizer = config, pruning, model, tokenizer
        self._actions, self._state = actions, state
        # OpenVLA-OFT keeps spans from being zero, OpenVLA does not.
        self._guard = 0.0 if model.decoding == "autoregressive" else GUARD
        self._denoising = Denoising(config.denoising_steps)
        self._grid = model.vision.dino.shape.grid
        self._text: tuple[str, torch.Tensor] | None = None

    @torch.inference_mode()
    def plan(self, observation: Observation, committed: CommittedActions | None = None) -> ActionChunk:
        """Plan a chunk; the same arguments give the same bits on the same machine and number of threads.

        Args:
            observation: What the robot sees, with the views and the state that `metadata.needs` names.
            committed: Must be None: only a head that is sampled can continue a running chunk.

        Raises:
            ValueError: The instruction is empty, views or state are not those that are needed, or the actions are not
                finite.
        """
        if committed is not None:
            raise ValueError("OpenVLA cannot continue committed actions; set command.blending to another value")
        watch = Stopwatch(self._model.device)
        inputs = Inputs(
            self._images(observation), self._token_ids(observation.instruction), self._state_of(observation)
        )
        watch.stage("preprocess")
        visual = self._model.visual(inputs)
        watch.stage("vision")
        space = self.metadata.needs.actions
        seed = observation.stamp_ns
        shape = (1, self._config.chunk, space.size)
        noise = torch.from_numpy(philox(seed).standard_normal(shape, np.float32))
        selections = [keep_all(self._grid, self._grid)] * len(observation.views)
        normalised = self._model.predict(
            inputs,
            visual,
            self._config.chunk,
            space.size,
            noise=noise,
            denoising=self._denoising,
            before_layer=self._dropping(observation, selections),
        )
        watch.stage("language")
        return ActionChunk(
            stamp_ns=observation.stamp_ns,
            actions=self._in_units(normalised),
            time_step_s=self.metadata.time_step_s,
            T_base_tool=observation.T_base_tool,
            instruction=observation.instruction,
            seed=seed,
            selection=selections[0],
            tool_px=observation.tool_px,
            no_ring_reason=observation.no_ring_reason,
            timings_s=watch.timings_s,
            space=space,
            further_selections=dict(zip(observation.further, selections[1:], strict=True)),
        )

    def _dropping(self, observation: Observation, selections: list[TokenSelection]) -> BeforeLayer | None:
        """The hook that drops tokens, and puts what it kept into `selections`, one for each view.

        A diffusion head reads the sequence once per step; all steps keep what the first one chose.
        """
        pruning, model = self._pruning, self._model
        if pruning is None:
            return None
        chosen: dict[int, TokenSelection] = {}

        def select(view: int, inputs: SelectionInputs) -> NDArray[np.int64]:
            if view not in chosen:
                chosen[view] = selections[view] = kept_tokens(pruning, inputs, self._scene(observation, view))
            return chosen[view].indices

        return ViewPruningHook(
            select,
            prune_before_layer(pruning),
            len(observation.views),
            self._grid**2,
            model.language.shape.head_width,
            model.task_rows(self._config.chunk * self.metadata.needs.actions.size),
            model.language.shape.causal,
        )

    def _scene(self, observation: Observation, number: int) -> Scene:
        view = observation.views[number]
        height, width, _ = view.image.shape
        affine = model_image_affine(width, height, mirrored=self._config.mirrored, cropped=self._config.center_crop)
        # Each view draws its own random tokens.
        return Scene((width, height), view.tool_px, observation.stamp_ns + number, self._grid, affine)

    def reset(self) -> None:
        """There is no state."""

    def _images(self, observation: Observation) -> NDArray[np.uint8]:
        views = observation.views
        if len(views) != self._config.views:
            raise ValueError(f"{len(views)} camera images, expected {self._config.views} (openvla.views)")
        return np.stack([model_image(self._config, view.image) for view in views])

    def _state_of(self, observation: Observation) -> Array | None:
        if self._state is None:
            return None
        if observation.state is None or observation.state.shape != self._state.low.shape:
            found = "none" if observation.state is None else str(len(observation.state))
            raise ValueError(f"the state has {found} numbers, expected {len(self._state.low)} ({self._config.state})")
        if not np.isfinite(observation.state).all():
            raise ValueError("the state is not finite")
        return normalise_state(observation.state, self._state)

    def _in_units(self, normalised: NDArray[np.floating]) -> Array:
        actions = denormalise(normalised, self._actions, self._guard)
        return reached_changes(actions) if self._config.actions == "osc_inputs" else actions

    def _token_ids(self, instruction: str) -> torch.Tensor:
        if self._text is None or self._text[0] != instruction:
            self._text = instruction, token_ids(self._tokenizer, instruction)
        return self._text[1]


def model_image(trained: OpenVlaConfig, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The network's image, uint8 (224, 224, 3), of a camera's."""
    if trained.mirrored:
        image = np.ascontiguousarray(image[:, ::-1])
    if trained.resize == "lanczos":
        image = as_in_training(image)
    if trained.center_crop:
        image = center_crop(image)
    return resize(image)


def choose_statistics(checkpoint: OpenVlaCheckpoint, key: str) -> DatasetStatistics:
    """The statistics of one data set; an empty key: the only one.

    Raises:
        ConfigurationError: There is no such key, or it is empty and there are several.
    """
    statistics = checkpoint.statistics
    if not key and len(statistics) == 1:
        return next(iter(statistics.values()))
    if key not in statistics:
        problem = f"'{key}' is not in the checkpoint" if key else f"the checkpoint has {len(statistics)} data sets"
        raise ConfigurationError(f"statistics_key: {problem}; choose one of: {', '.join(statistics)}")
    return statistics[key]


def token_ids(tokenizer: PromptTokenizer, instruction: str) -> torch.Tensor:
    """Token ids of an instruction, int64 (1, text): BOS, the prompt, and 29871 unless the prompt ends with it.

    Raises:
        ValueError: The instruction is empty.
    """
    if not instruction.strip():
        raise ValueError("the instruction is empty; describe the task in plain English")
    ids = tokenizer.encode_text(f"In: What action should the robot take to {instruction.lower()}?\nOut:")
    return torch.tensor([ids if ids[-1] == BLANK_ID else [*ids, BLANK_ID]])

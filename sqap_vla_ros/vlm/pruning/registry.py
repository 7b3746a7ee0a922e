"""The table of token selectors: how each method of a policy file chooses the visual tokens that stay.

A selector's reference runs in numpy on the host. Where a method can also choose on the device, with static shapes so
that a CUDA graph can contain it, both choose the same tokens for the same scores, ties included.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, TypeGuard

import numpy as np
from numpy.typing import NDArray

from sqap_vla_ros.config.pruning import EfficientVlaConfig, FastVConfig, PruningConfig, RandomConfig, SqapConfig
from sqap_vla_ros.core.observation import Observation
from sqap_vla_ros.core.token_selection import TokenSelection
from sqap_vla_ros.perception.patches import ring_tokens
from sqap_vla_ros.vlm.preprocessing import model_image_affine
from sqap_vla_ros.vlm.pruning.efficientvla import relevant_and_diverse
from sqap_vla_ros.vlm.pruning.fastv import most_attended
from sqap_vla_ros.vlm.pruning.inputs import SelectionInputs
from sqap_vla_ros.vlm.pruning.on_device import SelectOnDevice, select_sqap_on_device
from sqap_vla_ros.vlm.pruning.random_dropping import random_tokens
from sqap_vla_ros.vlm.pruning.sqap import select_tokens

TokenDropping = SqapConfig | RandomConfig | FastVConfig | EfficientVlaConfig
"""Settings of a method that drops tokens; VLA-Cache drops none, it reuses them."""


@dataclass(frozen=True)
class Scene:
    """What a selection depends on besides the language model.

    Attributes:
        image_size: Width and height of the camera image, pixels.
        tool_px: float64 (2,), the projected tool in the camera image; None: there is no ring.
        seed: Seed of random choices.
        grid: Patches along each side of the model image.
        affine: float64 (2, 3), from points of the camera image to those of the model image; None: it is resized as
            CogACT's is.
    """

    image_size: tuple[int, int]
    tool_px: NDArray[np.float64] | None = None
    seed: int = 0
    grid: int = 16
    affine: NDArray[np.float64] | None = None


@dataclass(frozen=True)
class Selector:
    """How one method chooses tokens.

    Attributes:
        reference: Chooses on the host, for one sample.
        on_device: Chooses on the device with static shapes; None where the method has no such backend.
    """

    reference: Callable[[Any, SelectionInputs, Scene], TokenSelection]
    on_device: SelectOnDevice | None = None


def _sqap(config: SqapConfig, inputs: SelectionInputs, scene: Scene) -> TokenSelection:
    affine = model_image_affine(*scene.image_size) if scene.affine is None else scene.affine
    ring = ring_tokens(scene.tool_px, affine, config.ring_radius, scene.grid, scene.grid)
    return select_tokens(inputs.scores, ring, config.keep, config.top_k, scene.grid, scene.grid)


def _fastv(config: FastVConfig, inputs: SelectionInputs, scene: Scene) -> TokenSelection:
    return most_attended(inputs.scores, config.keep, scene.grid, scene.grid)


def _efficientvla(config: EfficientVlaConfig, inputs: SelectionInputs, scene: Scene) -> TokenSelection:
    settings = config.keep, config.key_tokens, config.relevance_share
    return relevant_and_diverse(inputs.text_attention(), inputs.states(), *settings, scene.grid, scene.grid)


def _random(config: RandomConfig, inputs: SelectionInputs, scene: Scene) -> TokenSelection:
    return random_tokens(scene.seed, config.keep, scene.grid, scene.grid)


SELECTORS: Mapping[str, Selector] = MappingProxyType(
    {
        "sqap": Selector(_sqap, on_device=select_sqap_on_device),
        "fastv": Selector(_fastv),
        "efficientvla": Selector(_efficientvla),
        "random": Selector(_random),
    }
)


def scene_of(observation: Observation, grid: int) -> Scene:
    """The scene of an observation; random choices are seeded by its stamp."""
    height, width, _ = observation.image.shape
    return Scene((width, height), observation.tool_px, observation.stamp_ns, grid)


def kept_tokens(config: TokenDropping, inputs: SelectionInputs, scene: Scene) -> TokenSelection:
    """Choose the visual tokens of one sample that stay, by the reference of the method."""
    return SELECTORS[config.method].reference(config, inputs, scene)


def prune_before_layer(config: TokenDropping) -> int:
    """Layer of the language model before which tokens are dropped."""
    return 0 if isinstance(config, RandomConfig) else config.prune_before_layer


def runs_on_device(config: PruningConfig | None) -> TypeGuard[SqapConfig | None]:
    """Whether a policy's tokens can be chosen on the device; True also for a policy that drops none."""
    if config is None:
        return True
    selector = SELECTORS.get(config.method)
    return selector is not None and selector.on_device is not None

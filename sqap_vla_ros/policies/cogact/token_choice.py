"""From a policy file's `pruning` part to the visual tokens that stay for one observation."""

import numpy as np
from numpy.typing import NDArray

from sqap_vla_ros.config.pruning import EfficientVlaConfig, FastVConfig, RandomConfig, SqapConfig
from sqap_vla_ros.core.observation import Observation
from sqap_vla_ros.core.token_selection import TokenSelection
from sqap_vla_ros.perception.patches import ring_tokens
from sqap_vla_ros.vlm.preprocessing import model_image_affine
from sqap_vla_ros.vlm.pruning.efficientvla import relevant_and_diverse
from sqap_vla_ros.vlm.pruning.fastv import most_attended
from sqap_vla_ros.vlm.pruning.inputs import SelectionInputs
from sqap_vla_ros.vlm.pruning.random_dropping import random_tokens
from sqap_vla_ros.vlm.pruning.sqap import select_tokens

TokenDropping = SqapConfig | RandomConfig | FastVConfig | EfficientVlaConfig


def choose_tokens(
    config: TokenDropping, evidence: SelectionInputs, observation: Observation, grid: int
) -> TokenSelection:
    """The visual tokens that stay.

    Args:
        config: The method and its settings.
        evidence: What the language model says; in front of its first layer for random dropping.
        observation: Says where the tool is, and seeds the random choice by its stamp.
        grid: Patches along a side of the model image.
    """
    match config:
        case SqapConfig():
            ring = _ring(observation, config.ring_radius, grid)
            return select_tokens(evidence.scores, ring, config.keep, config.top_k, grid, grid)
        case FastVConfig():
            return most_attended(evidence.scores, config.keep, grid, grid)
        case EfficientVlaConfig():
            return relevant_and_diverse(
                evidence.text_attention(),
                evidence.states(),
                config.keep,
                config.key_tokens,
                config.relevance_share,
                grid,
                grid,
            )
        case RandomConfig():
            return random_tokens(observation.stamp_ns, config.keep, grid, grid)


def prune_before_layer(config: TokenDropping) -> int:
    """Layer of the language model before which tokens leave."""
    return 0 if isinstance(config, RandomConfig) else config.prune_before_layer


def _ring(observation: Observation, radius: int, grid: int) -> NDArray[np.int64]:
    """Tokens protected around the tool."""
    height, width, _ = observation.image.shape
    return ring_tokens(observation.tool_px, model_image_affine(width, height), radius, grid, grid)

"""How far two networks agree on the same frames: cognition feature, actions, and attention to the image."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sqap_vla_ros.config.pruning import SqapConfig
from sqap_vla_ros.perception.patches import ring_tokens
from sqap_vla_ros.tools.compression.calibration import CalibrationFrame
from sqap_vla_ros.vlm.preprocessing import model_image_affine
from sqap_vla_ros.vlm.pruning.sqap import select_tokens

TOP_K = (8, 16, 32, 64)


@dataclass(frozen=True)
class Answer:
    """What a network answers to one frame with all visual tokens.

    Attributes:
        cognition: float32 (width,), the cognition feature.
        actions: float32 (horizon, 7), the sampler's output.
        scores: float32 (visual,), attention of the last position to the visual tokens, mean over heads, in the layer
            before the pruning.
    """

    cognition: NDArray[np.float32]
    actions: NDArray[np.float32]
    scores: NDArray[np.float32]


@dataclass(frozen=True)
class Fidelity:
    """How close a quantised model is to the float one; means over frames.

    Attributes:
        name: Name of the recipe, or the directory where several models have the same recipe.
        cognition_error: ‖difference‖ / ‖float‖ of the cognition feature.
        action_error: Likewise for the sampler's whole output with the same noise.
        topk_overlap: Share of the k visual tokens with the highest scores that both agree on, by k.
        kept_overlap: Share of the tokens that SQAP-VLA keeps, with the same ring, that both agree on.
        layer_errors: ‖difference‖ / ‖float‖ that rounding the weight alone makes in each linear layer's output on the
            calibration frames, by the layer's name in the language model; empty where there were no frames.
    """

    name: str
    cognition_error: float
    action_error: float
    topk_overlap: Mapping[int, float]
    kept_overlap: float
    layer_errors: Mapping[str, float]


def compare(
    name: str,
    reference: Sequence[Answer],
    answers: Sequence[Answer],
    frames: Sequence[CalibrationFrame],
    pruning: SqapConfig,
    errors: Mapping[str, float],
) -> Fidelity:
    """Compare a quantised model's answers with the float one's.

    Args:
        name: Name of the quantised model.
        reference: The float model's answers.
        answers: The quantised model's answers to the same frames.
        frames: The frames. They do not say where the tool is, so the ring is around the middle of the image.
        pruning: Settings by which tokens would be kept.
        errors: Errors of its layers, see `fidelity.layer_errors`.
    """
    pairs = list(zip(reference, answers, strict=True))
    scores, theirs = [one.scores for one, _ in pairs], [other.scores for _, other in pairs]
    return Fidelity(
        name=name,
        cognition_error=_mean(relative_error(one.cognition, other.cognition) for one, other in pairs),
        action_error=_mean(relative_error(one.actions, other.actions) for one, other in pairs),
        topk_overlap=topk_overlaps(scores, theirs),
        kept_overlap=kept_overlap(scores, theirs, [middle_ring(frame, pruning) for frame in frames], pruning),
        layer_errors=errors,
    )


def relative_error(exact: NDArray[np.floating], approximate: NDArray[np.floating]) -> float:
    """‖difference‖ / ‖exact‖ over all entries."""
    return float(np.linalg.norm(approximate - exact) / max(np.linalg.norm(exact), np.finfo(np.float32).tiny))


def topk_overlaps(scores: Sequence[NDArray[np.floating]], others: Sequence[NDArray[np.floating]]) -> dict[int, float]:
    """Share of the highest k that two rankings have in common, by k. Equals go to the lower index, as in the pruning.

    Args:
        scores: float (n,) per frame.
        others: The other ranking, likewise.
    """
    orders = [[np.argsort(-row, kind="stable") for row in pair] for pair in zip(scores, others, strict=True)]
    return {k: _mean(len(np.intersect1d(one[:k], other[:k])) / k for one, other in orders) for k in TOP_K}


def kept_overlap(
    scores: Sequence[NDArray[np.floating]],
    others: Sequence[NDArray[np.floating]],
    rings: Sequence[NDArray[np.int64]],
    pruning: SqapConfig,
) -> float:
    """Share of the tokens kept by one ranking that the other keeps, too, with the same ring per frame."""
    shares = []
    for one, other, ring in zip(scores, others, rings, strict=True):
        ours, theirs = (select_tokens(row, ring, pruning.keep, pruning.top_k).indices for row in (one, other))
        shares.append(len(np.intersect1d(ours, theirs)) / pruning.keep)
    return _mean(shares)


def middle_ring(frame: CalibrationFrame, pruning: SqapConfig) -> NDArray[np.int64]:
    """Tokens of a ring around the middle of the image."""
    height, width, _ = frame.image.shape
    middle = np.array([(width - 1) / 2, (height - 1) / 2])
    return ring_tokens(middle, model_image_affine(width, height), pruning.ring_radius)


def _mean(values: Iterable[float]) -> float:
    return float(np.mean(list(values)))

"""How close quantised models stay to the float one: cognition feature, actions, and attention to the image.

All are asked the same frames with the same noise, and none drops tokens while it is asked, so that what differs is the
arithmetic alone. Which tokens each would have kept is compared beside that.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from sqap_vla_ros.config.pruning import SqapConfig
from sqap_vla_ros.perception.patches import ring_tokens
from sqap_vla_ros.policies.cogact.checkpoint import load_cogact
from sqap_vla_ros.policies.cogact.compressed import load_compressed
from sqap_vla_ros.policies.cogact.model import CogACT
from sqap_vla_ros.policies.cogact.policy import philox
from sqap_vla_ros.policies.cogact.store import Manifest, read_manifest
from sqap_vla_ros.tools.compression.calibration import CalibrationFrame, CalibrationFrames
from sqap_vla_ros.vlm.checkpoint import Checkpoint
from sqap_vla_ros.vlm.preprocessing import model_image_affine
from sqap_vla_ros.vlm.pruning.inputs import SelectionInputs
from sqap_vla_ros.vlm.pruning.sqap import select_tokens
from sqap_vla_ros.vlm.tokenizer import PromptTokenizer, load_tokenizer

TOP_K = (8, 16, 32, 64)
_LANGUAGE = "llm.model.layers."


class FidelityError(ValueError):
    """Checkpoints that cannot be compared; the message says why, and what to do."""


@dataclass(frozen=True)
class Answer:
    """What a network says to one frame with all visual tokens.

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
    """One quantised model beside the float one; means over frames.

    Attributes:
        name: Of the recipe, or of the directory where several have the same recipe.
        cognition_error: ‖difference‖ / ‖float‖ of the cognition feature.
        action_error: Likewise of the sampler's whole output, same noise.
        topk_overlap: Share of the k visual tokens with the highest scores that both agree on, by k.
        kept_overlap: Share of the tokens that SQAP-VLA keeps, with the same ring, that both agree on.
        layer_errors: ‖difference‖ / ‖float‖ that rounding the weight alone makes in each linear layer's output on the
            calibration frames, by the layer's name in the language model; empty when there were none.
    """

    name: str
    cognition_error: float
    action_error: float
    topk_overlap: Mapping[int, float]
    kept_overlap: float
    layer_errors: Mapping[str, float]


@dataclass(frozen=True)
class FidelityReport:
    """Several quantised models beside the same float one.

    Attributes:
        sources: Where the frames come from.
        frames: How many.
        models: In the order given.
        shuffled_topk_overlap: What `topk_overlap` is when scores say nothing: the float model's, each frame shuffled.
        shuffled_kept_overlap: Likewise `kept_overlap`, of which ring and spread alone are a large share.
        notes: In words, what must be known to read the figures.
    """

    sources: tuple[str, ...]
    frames: int
    models: tuple[Fidelity, ...]
    shuffled_topk_overlap: Mapping[int, float]
    shuffled_kept_overlap: float
    notes: tuple[str, ...] = ()


def report(
    checkpoint: Checkpoint,
    compressed: Sequence[Path],
    frames: CalibrationFrames,
    *,
    tokenizer: Path | None = None,
    dtype: torch.dtype = torch.float32,
    device: torch.device | str = "cpu",
    on_progress: Callable[[str], None] = lambda words: None,
) -> FidelityReport:
    """Ask the float model and then each compressed one; a single one is in memory at a time.

    Args:
        checkpoint: The original.
        compressed: Directories that were compressed from it.
        frames: What to ask; others than those of the calibration.
        tokenizer: Directory of the Llama-2 tokenizer; None: beside the checkpoint.
        dtype: Number format of what is not quantised.
        device: Where the models run.
        on_progress: Told in words what is going on.

    Raises:
        FidelityError: The first is compressed, there is nothing to compare, or one was made from other weights.
        CheckpointError: A checkpoint cannot be used.
        TokenizerError: There is no tokenizer.
    """
    pruning = SqapConfig()
    if checkpoint.is_compressed:
        raise FidelityError(f"{checkpoint.directory}: is compressed; give the float checkpoint first")
    if not compressed:
        raise FidelityError("no compressed checkpoint to compare; give at least one directory")
    manifests = {path: read_manifest(path) for path in compressed}
    prompts = load_tokenizer(checkpoint.directory, tokenizer)
    on_progress(f"hashing {checkpoint.weights.name}")
    for path, manifest in manifests.items():
        _check_origin(checkpoint, path, manifest)
    on_progress("asking the float model")
    reference = ask(load_cogact(checkpoint, dtype=dtype, device=device), prompts, frames.frames, pruning)
    recipes = [manifest.identity.recipe.name for manifest in manifests.values()]
    models = []
    for path, manifest in manifests.items():
        recipe = manifest.identity.recipe.name
        name = recipe if recipes.count(recipe) == 1 else str(path)
        on_progress(f"asking {name}")
        answers = ask(load_compressed(path, manifest, dtype=dtype, device=device), prompts, frames.frames, pruning)
        models.append(compare(name, reference, answers, frames.frames, pruning, layer_errors(manifest)))
    rings = [_middle_ring(frame, pruning) for frame in frames.frames]
    shuffled = [philox(index).permutation(answer.scores) for index, answer in enumerate(reference)]
    scores = [answer.scores for answer in reference]
    return FidelityReport(
        sources=frames.sources,
        frames=len(frames.frames),
        models=tuple(models),
        shuffled_topk_overlap=topk_overlaps(scores, shuffled),
        shuffled_kept_overlap=kept_overlap(scores, shuffled, rings, pruning),
        notes=_notes(frames, manifests),
    )


def ask(
    model: CogACT, tokenizer: PromptTokenizer, frames: Sequence[CalibrationFrame], pruning: SqapConfig
) -> list[Answer]:
    """Answers to all frames; the noise depends on a frame's place alone.

    Args:
        model: Float or quantised.
        tokenizer: Of the instructions.
        frames: Images and instructions.
        pruning: Says at which layer tokens would leave.
    """
    head = model.action_head.shape
    answers = []
    for index, frame in enumerate(frames):
        noise = philox(index).standard_normal((1, head.horizon, head.action_dim), np.float32)
        prediction = model.plan(
            frame.image,
            tokenizer.encode(frame.instruction),
            torch.from_numpy(noise),
            select=_keep_all,
            prune_before_layer=pruning.prune_before_layer,
        )
        assert prediction.scores is not None  # the layer before the pruning exists: `SqapConfig` sees to it
        answers.append(Answer(prediction.cognition[0], prediction.raw_samples[0], prediction.scores[0]))
    return answers


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
        name: Of the quantised model.
        reference: The float model's answers.
        answers: Those of the quantised one, to the same frames.
        frames: Which these were. They do not say where the tool is: the ring is put around the middle of the image.
        pruning: Which tokens would be kept.
        errors: Of its layers, see `layer_errors`.
    """
    pairs = list(zip(reference, answers, strict=True))
    scores, theirs = [one.scores for one, _ in pairs], [other.scores for _, other in pairs]
    return Fidelity(
        name=name,
        cognition_error=_mean(relative_error(one.cognition, other.cognition) for one, other in pairs),
        action_error=_mean(relative_error(one.actions, other.actions) for one, other in pairs),
        topk_overlap=topk_overlaps(scores, theirs),
        kept_overlap=kept_overlap(scores, theirs, [_middle_ring(frame, pruning) for frame in frames], pruning),
        layer_errors=errors,
    )


def relative_error(exact: NDArray[np.floating], approximate: NDArray[np.floating]) -> float:
    """‖difference‖ / ‖exact‖ over all entries."""
    return float(np.linalg.norm(approximate - exact) / max(np.linalg.norm(exact), np.finfo(np.float32).tiny))


def topk_overlaps(scores: Sequence[NDArray[np.floating]], others: Sequence[NDArray[np.floating]]) -> dict[int, float]:
    """Share of the highest k that two rankings have in common, by k; equals go to the lower index, as in the pruning.

    Args:
        scores: float (n,) per frame.
        others: Likewise.
    """
    orders = [[np.argsort(-row, kind="stable") for row in pair] for pair in zip(scores, others, strict=True)]
    return {k: _mean(len(np.intersect1d(one[:k], other[:k])) / k for one, other in orders) for k in TOP_K}


def kept_overlap(
    scores: Sequence[NDArray[np.floating]],
    others: Sequence[NDArray[np.floating]],
    rings: Sequence[NDArray[np.int64]],
    pruning: SqapConfig,
) -> float:
    """Share of the kept tokens that two rankings lead to alike, with the same ring per frame."""
    shares = []
    for one, other, ring in zip(scores, others, rings, strict=True):
        ours, theirs = (select_tokens(row, ring, pruning.keep, pruning.top_k).indices for row in (one, other))
        shares.append(len(np.intersect1d(ours, theirs)) / pruning.keep)
    return _mean(shares)


def layer_errors(manifest: Manifest) -> dict[str, float]:
    """What rounding each weight of the language model does to its layer's output, as compression measured it."""
    return {
        name.removeprefix(_LANGUAGE): entry.output_error
        for name, entry in manifest.linears.items()
        if name.startswith(_LANGUAGE) and entry.output_error is not None
    }


def _keep_all(evidence: SelectionInputs) -> NDArray[np.int64]:
    return np.arange(evidence.visual_tokens)


def _middle_ring(frame: CalibrationFrame, pruning: SqapConfig) -> NDArray[np.int64]:
    height, width, _ = frame.image.shape
    middle = np.array([(width - 1) / 2, (height - 1) / 2])
    return ring_tokens(middle, model_image_affine(width, height), pruning.ring_radius)


def _check_origin(checkpoint: Checkpoint, path: Path, manifest: Manifest) -> None:
    ours, theirs = checkpoint.sha256(), manifest.identity.source.sha256
    if ours != theirs:
        raise FidelityError(
            f"{path}: was compressed from {manifest.identity.source.name} with SHA-256 {theirs[:12]}…, but "
            f"{checkpoint.weights} has {ours[:12]}…; give the checkpoint that it was made from"
        )


def _notes(frames: CalibrationFrames, manifests: Mapping[Path, Manifest]) -> tuple[str, ...]:
    notes = ["the frames do not say where the tool is: the ring is around the middle of the image", *frames.notes]
    for path, manifest in manifests.items():
        notes += (f"{path}: {note}" for note in manifest.notes)
        calibration = manifest.identity.calibration
        if calibration is not None and calibration.sha256 == frames.sha256:
            notes.append(f"{path}: was calibrated on these very frames; give others for an honest comparison")
    return tuple(notes)


def _mean(values: Iterable[float]) -> float:
    return float(np.mean(list(values)))

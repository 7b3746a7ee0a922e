"""Compare quantised models with the float one.

All models are asked about the same frames with the same noise, and none drops tokens, so only the arithmetic differs.
The tokens that each would have kept are compared as well.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from sqap_vla_ros.config.pruning import SqapConfig
from sqap_vla_ros.core.noise import philox
from sqap_vla_ros.policies.cogact.checkpoint import load_cogact
from sqap_vla_ros.policies.cogact.compressed import load_compressed
from sqap_vla_ros.policies.cogact.model import CogACT
from sqap_vla_ros.policies.cogact.store import Manifest, read_manifest
from sqap_vla_ros.tools.compression.agreement import Answer, Fidelity, compare, kept_overlap, middle_ring, topk_overlaps
from sqap_vla_ros.tools.compression.calibration import CalibrationFrame, CalibrationFrames
from sqap_vla_ros.vlm.checkpoint import Checkpoint
from sqap_vla_ros.vlm.pruning.inputs import SelectionInputs
from sqap_vla_ros.vlm.tokenizer import PromptTokenizer, load_tokenizer

_LANGUAGE = "llm.model.layers."


class FidelityError(ValueError):
    """Checkpoints that cannot be compared; the message says why, and what to do."""


@dataclass(frozen=True)
class FidelityReport:
    """Several quantised models compared with the same float one.

    Attributes:
        sources: Where the frames come from.
        frames: Number of frames.
        models: The models in the order given.
        shuffled_topk_overlap: `topk_overlap` of meaningless scores: the float model's, shuffled in each frame.
        shuffled_kept_overlap: `kept_overlap` of these scores. Ring and spread alone are a large share of it.
        notes: Sentences about what must be known to read the figures.
    """

    sources: tuple[str, ...]
    frames: int
    models: tuple[Fidelity, ...]
    shuffled_topk_overlap: Mapping[int, float]
    shuffled_kept_overlap: float
    notes: tuple[str, ...] = ()


def same_frames(frames: CalibrationFrames, manifests: Mapping[Path, Manifest]) -> list[str]:
    """A sentence for each compressed checkpoint that was calibrated on the frames it is about to be judged by."""
    sources = {_place(source) for source in frames.sources}
    notes = []
    for path, manifest in manifests.items():
        calibration = manifest.identity.calibration
        if calibration is None:
            continue
        same = {_place(source) for source in calibration.sources} & sources
        if same or calibration.sha256 == frames.sha256:
            notes.append(
                f"{path} was calibrated on frames of {', '.join(sorted(same)) or 'the same content'}: it fits them "
                "better than others; judge it by other ones"
            )
    return notes


def _place(source: str) -> str:
    """A source of frames under one name, however it was written."""
    return str(Path(source).resolve()) if Path(source).exists() else source


def report(
    checkpoint: Checkpoint,
    compressed: Sequence[Path],
    frames: CalibrationFrames,
    *,
    tokenizer: Path | None = None,
    dtype: torch.dtype = torch.float32,
    device: torch.device | str = "cpu",
    on_progress: Callable[[str], None] = lambda line: None,
) -> FidelityReport:
    """Ask the float model and then each compressed one; a single model is in memory at a time.

    Args:
        checkpoint: The original checkpoint.
        compressed: Directories that were compressed from it.
        frames: Frames to ask about, other than those of the calibration.
        tokenizer: Directory of the Llama-2 tokenizer; None: the checkpoint's directory.
        dtype: Number format of what is not quantised.
        device: Where the models run.
        on_progress: Called with a line about what begins.

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
    recipes = [manifest.identity.label for manifest in manifests.values()]
    models = []
    for path, manifest in manifests.items():
        recipe = manifest.identity.label
        name = recipe if recipes.count(recipe) == 1 else str(path)
        on_progress(f"asking {name}")
        answers = ask(load_compressed(path, manifest, dtype=dtype, device=device), prompts, frames.frames, pruning)
        models.append(compare(name, reference, answers, frames.frames, pruning, layer_errors(manifest)))
    rings = [middle_ring(frame, pruning) for frame in frames.frames]
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
    """Return a model's answers to all frames; the noise depends only on a frame's place.

    Args:
        model: The float or a quantised model.
        tokenizer: Tokenizer of the instructions.
        frames: Images and instructions.
        pruning: Its layer is the one before which tokens would be dropped.
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


def layer_errors(manifest: Manifest) -> dict[str, float]:
    """Return the relative output errors of the language model's linear layers, as compression measured them."""
    return {
        name.removeprefix(_LANGUAGE): entry.output_error
        for name, entry in manifest.linears.items()
        if name.startswith(_LANGUAGE) and entry.output_error is not None
    }


def _keep_all(evidence: SelectionInputs) -> NDArray[np.int64]:
    return np.arange(evidence.visual_tokens)


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

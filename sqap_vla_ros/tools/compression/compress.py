"""From a checkpoint to a compressed one, part by part.

The checkpoint is mapped; one part or decoder layer is in memory at a time. What is done is on disk, so that a run that
was stopped, or had no more space, goes on where it was.
"""

import hashlib
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from sqap_vla_ros.config.recipe import Recipe
from sqap_vla_ros.core.files import write_whole
from sqap_vla_ros.core.run_directory import RunDirectory, difference
from sqap_vla_ros.policies.cogact.action_head import ActionHead
from sqap_vla_ros.policies.cogact.checkpoint import HEAD, LLM, PROJECTOR, VISION, read_parts
from sqap_vla_ros.policies.cogact.compressed import EMBEDDING, layer_file, read_decoder_layer
from sqap_vla_ros.policies.cogact.store import (
    Manifest,
    Shapes,
    Stored,
    embedding_tensors,
    head_tensors,
    projector_tensors,
    read_manifest,
    read_shapes,
    vision_tensors,
)
from sqap_vla_ros.tools.compression.allocation import allocate_layers
from sqap_vla_ros.tools.compression.calibration import CalibrationFrames
from sqap_vla_ros.tools.compression.embed_frames import embed_frames
from sqap_vla_ros.tools.compression.layer_calibration import LayerCalibration
from sqap_vla_ros.tools.compression.rounding import round_linear
from sqap_vla_ros.tools.compression.sensitivity import action_sensitivities
from sqap_vla_ros.vlm.checkpoint import COMPRESSED, UNFINISHED, Checkpoint
from sqap_vla_ros.vlm.lowbit.layer import LINEARS, NORMS, QuantDecoderLayer
from sqap_vla_ros.vlm.lowbit.store import (
    Calibration,
    Identity,
    Origin,
    linear_tensors,
    read_weights,
    write_manifest,
    write_weights,
)
from sqap_vla_ros.vlm.lowbit.transform import PreparedLayer, prepare
from sqap_vla_ros.vlm.statistics import STATISTICS_FILE
from sqap_vla_ros.vlm.tokenizer import find_tokenizer
from sqap_vla_ros.vlm.weights import CheckpointError, Part, Source

# Files beside the weights that make the directory complete in itself.
_BESIDE = ("config.json", STATISTICS_FILE)


class CompressionError(Exception):
    """A compression that cannot be done; the message says why and what to do."""


@dataclass(frozen=True)
class Step:
    """Where a compression is.

    Attributes:
        done: Parts that are finished.
        total: Parts in all.
        name: Of the part that comes now; empty at the end.
        resumed: It is on disk already.
    """

    done: int
    total: int
    name: str
    resumed: bool = False


def compress(
    checkpoint: Checkpoint,
    recipe: Recipe,
    directory: Path,
    *,
    frames: CalibrationFrames | None = None,
    tokenizer: Path | None = None,
    device: torch.device | str = "cpu",
    on_step: Callable[[Step], None] = lambda step: None,
    on_note: Callable[[str], None] = lambda note: None,
) -> Manifest:
    """Compress a checkpoint into a directory that loads and runs without the original.

    Args:
        checkpoint: What to compress.
        recipe: How.
        directory: Where to; an unfinished compression of the same there goes on.
        frames: What GPTQ, smoothing and mixed precision look at; None: they are left out, which is noted.
        tokenizer: Directory of the Llama-2 tokenizer; None: beside the checkpoint.
        device: Where rounding computes.
        on_step: Told before each part, and at the end.
        on_note: Told in words where the result differs from the recipe.

    Raises:
        CompressionError: The directory is in use for something else, the recipe needs frames, or the disk is full.
        DirectoryInUse: Another process compresses into it.
        CheckpointError: The checkpoint cannot be used, or has NaN weights.
        TokenizerError: There is no tokenizer.
    """
    if recipe.needs_frames and frames is None:
        raise CompressionError(f"recipe {recipe.name}: {recipe.needs_frames} needs camera frames; give --calibration")
    if checkpoint.is_compressed:
        raise CompressionError(f"{checkpoint.directory}: is compressed already; give the original checkpoint")
    refuse_other_use(directory)
    beside = _read_beside(checkpoint, tokenizer)
    parts = read_parts(checkpoint.weights)
    try:
        shapes = read_shapes(parts, checkpoint.architecture)
    except CheckpointError as error:
        raise CheckpointError(f"{checkpoint.weights}: {error}") from None
    on_note(f"hashing {checkpoint.weights.name}")
    identity = Identity(
        recipe=recipe,
        source=Origin(name=checkpoint.weights.name, sha256=checkpoint.sha256()),
        beside=_hashes(beside),
        calibration=frames and Calibration(sources=frames.sources, frames=len(frames.frames), sha256=frames.sha256),
    )
    manifest = _begun(directory, identity, shapes) or Manifest(
        identity=identity, shapes=shapes, notes=_notes(recipe, frames)
    )
    for note in manifest.notes:
        on_note(note)
    try:
        directory.mkdir(parents=True, exist_ok=True)
        with RunDirectory(directory, resumed=bool(manifest.files)).lock():
            # Before anything else, so that the directory can be recognised.
            write_manifest(directory, manifest, UNFINISHED)
            for name, content in beside.items():
                write_whole(directory / name, content)
            compression = _Compression(parts, checkpoint.weights, directory, manifest, torch.device(device), on_step)
            return compression.run(frames)
    except OSError as error:
        raise CompressionError(
            f"{error} ({_free_gib(directory):.2f} GiB free in {directory}). What is done stays: make room if that "
            "is what is missing, and run the same command again"
        ) from None


def _read_beside(checkpoint: Checkpoint, tokenizer: Path | None) -> dict[str, bytes]:
    paths = (*(checkpoint.directory / name for name in _BESIDE), find_tokenizer(checkpoint.directory, tokenizer))
    return {path.name: path.read_bytes() for path in paths}


def hashes_beside(checkpoint: Checkpoint, tokenizer: Path | None) -> dict[str, str]:
    """SHA-256 of configuration, statistics and tokenizer, by file name: what beside the weights decides on actions.

    Raises:
        TokenizerError: There is no tokenizer.
    """
    return _hashes(_read_beside(checkpoint, tokenizer))


def _hashes(contents: dict[str, bytes]) -> dict[str, str]:
    return {name: hashlib.sha256(content).hexdigest() for name, content in contents.items()}


def refuse_other_use(directory: Path) -> None:
    """Refuse a directory that is neither new nor an unfinished compression.

    Raises:
        CompressionError: It holds something else.
    """
    if (directory / COMPRESSED).exists():
        raise CompressionError(f"{directory}: holds a complete compressed checkpoint; choose another directory")
    if (directory / UNFINISHED).exists():
        return
    if directory.exists() and (not directory.is_dir() or any(directory.iterdir())):
        raise CompressionError(f"{directory}: not empty, and not an unfinished compression; choose another directory")


def _begun(directory: Path, identity: Identity, shapes: Shapes) -> Manifest | None:
    """The manifest of an unfinished compression with the same identity; None where nothing was begun.

    Raises:
        CompressionError: An unfinished compression has another identity.
    """
    if not (directory / UNFINISHED).exists():
        return None
    manifest = read_manifest(directory, UNFINISHED)
    if found := difference(_compared(manifest.identity, manifest.shapes), _compared(identity, shapes)):
        raise CompressionError(
            f"{directory}: an unfinished compression with another {found}; remove it or choose another directory"
        )
    return manifest


def _compared(identity: Identity, shapes: Shapes) -> dict[str, Any]:
    """What must be the same for a compression to be resumed, by the names that users know."""
    made_of = identity.model_dump(mode="json")
    return {
        "checkpoint": made_of["source"]["sha256"],
        "recipe": made_of["recipe"],
        "configuration, statistics or tokenizer": made_of["beside"],
        "calibration": made_of["calibration"],
        "network": shapes.model_dump(mode="json"),
    }


def _notes(recipe: Recipe, frames: CalibrationFrames | None) -> tuple[str, ...]:
    if frames is not None:
        return frames.notes
    left_out = ["GPTQ (weights are rounded to nearest)"] if recipe.weights.rounding == "gptq" else []
    left_out += ["smoothing"] if recipe.smoothing is not None else []
    return (f"no calibration frames, so without {' and without '.join(left_out)}",) if left_out else ()


def _prefix(index: int) -> str:
    return f"llm.model.layers.{index}."


def _free_gib(directory: Path) -> float:
    there = next(path for path in (directory, *directory.absolute().parents) if path.exists())
    return shutil.disk_usage(there).free / 2**30


class _Compression:
    """One run."""

    def __init__(
        self,
        parts: Mapping[str, Part],
        source: Path,
        directory: Path,
        manifest: Manifest,
        device: torch.device,
        on_step: Callable[[Step], None],
    ) -> None:
        self._parts = parts
        self._source = source
        self._directory = directory
        self._manifest = manifest
        self._device = device
        self._on_step = on_step
        self._recipe = manifest.identity.recipe
        self._calibration: LayerCalibration | None = None
        self._channel_bits: dict[str, Tensor] = {}

    @torch.no_grad()  # not inference_mode, whose tensors autograd refuses where mixed precision needs it
    def run(self, frames: CalibrationFrames | None) -> Manifest:
        parts, shapes, recipe = self._parts, self._manifest.shapes, self._recipe
        around: dict[str, Callable[[], Stored]] = {
            VISION: lambda: vision_tensors(parts[VISION], shapes, recipe),
            PROJECTOR: lambda: projector_tensors(parts[PROJECTOR], recipe),
            EMBEDDING: lambda: embedding_tensors(parts[LLM], recipe),
            HEAD: lambda: head_tensors(parts[HEAD], shapes),
        }
        depth = shapes.language.depth
        # Mixed precision goes through the layers twice before they are rounded.
        first_layer = len(around) + (2 * depth if recipe.mixed else 0)
        total = first_layer + depth
        for done, (name, make) in enumerate(around.items()):
            self._take_step(done, total, name, make)
        if frames is not None:
            self._on_step(Step(len(around), total, "calibration frames"))
            embeddings = embed_frames(self._directory, self._manifest, frames, self._device)
            self._calibration = LayerCalibration(embeddings, shapes.language)
            if recipe.mixed:
                self._choose_bits(embeddings, recipe.mixed.target_bits, Step(len(around), total, "channel_bits"))
        for index in range(depth):
            self._take_step(first_layer + index, total, layer_file(index), partial(self._layer, index))
            if self._calibration is not None and index + 1 < depth:
                self._calibration.advance(self._stored_layer(index))
        write_manifest(self._directory, self._manifest, COMPRESSED)
        (self._directory / UNFINISHED).unlink()
        self._on_step(Step(total, total, ""))
        return self._manifest

    def _take_step(self, done: int, total: int, name: str, make: Callable[[], Stored]) -> None:
        resumed = name in self._manifest.files
        self._on_step(Step(done, total, name, resumed))
        if resumed:
            return
        try:
            tensors, entries = make()
        except CheckpointError as error:
            raise CheckpointError(f"{self._source}: {error}. What is done stays") from None
        file = write_weights(self._directory, name, tensors)
        self._manifest = self._manifest.model_copy(
            update={
                "files": {**self._manifest.files, name: file},
                "linears": {**self._manifest.linears, **entries},
            }
        )
        write_manifest(self._directory, self._manifest, UNFINISHED)

    def _choose_bits(self, embeddings: list[Tensor], target_bits: float, step: Step) -> None:
        """Bits per output channel, in a file of their own; each of the 2 · depth layers run for it counts as a step."""
        shapes = self._manifest.shapes

        def allocate() -> Stored:
            with torch.device("meta"):
                head = ActionHead(shapes.action_head)
            self._parts[HEAD].load(head, lambda name: Source(f"net.{name}"), torch.float32, self._device)
            gain = self._parts[LLM].take(Source("llm.model.norm.weight"), torch.float32, self._device)
            steps = (replace(step, done=step.done + layer) for layer in range(2 * shapes.language.depth))
            costs = action_sensitivities(
                self._prepared, gain, head, embeddings, shapes.language, lambda: self._on_step(next(steps))
            )
            named = {_prefix(index) + name: cost for (index, name), cost in costs.items()}
            return allocate_layers(named, target_bits), {}

        self._take_step(step.done, step.total, step.name, allocate)
        stored = read_weights(self._directory, step.name, self._manifest.files[step.name])
        self._channel_bits = {name: bits.to(self._device) for name, bits in stored.items()}

    def _prepared(self, index: int) -> PreparedLayer:
        part, shape, recipe = self._parts[LLM], self._manifest.shapes.language, self._recipe
        weights, gains = (
            {name: part.take(Source(f"{_prefix(index)}{name}.weight"), torch.float32, self._device) for name in names}
            for names in (LINEARS, NORMS)
        )
        largest = None
        if self._calibration is not None and recipe.smoothing is not None:
            unsmoothed = prepare(weights, gains, recipe, head_width=shape.head_width)
            largest = self._calibration.largest_inputs(unsmoothed)
            del unsmoothed
        return prepare(weights, gains, recipe, largest, shape.head_width)

    def _layer(self, index: int) -> Stored:
        prepared, prefix = self._prepared(index), _prefix(index)
        seen = {} if self._calibration is None else self._calibration.inputs(prepared)
        tensors = {f"{prefix}{name}.weight": gain for name, gain in prepared.gains.items() if gain is not None}
        entries = {}
        for name in LINEARS:
            linear, entries[prefix + name] = round_linear(
                name, index, prepared, self._recipe, seen.get(name), self._channel_bits.get(prefix + name)
            )
            tensors |= linear_tensors(prefix + name, linear)
        return tensors, entries

    def _stored_layer(self, index: int) -> QuantDecoderLayer:
        name = layer_file(index)
        tensors = read_weights(self._directory, name, self._manifest.files[name])
        return read_decoder_layer(tensors, index, self._manifest, device=self._device)

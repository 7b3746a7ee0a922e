"""One compression, part by part.

One part or decoder layer is in memory at a time. What is done is on disk, so that a compression that was stopped, or
had no more space, resumes where it was.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from sqap_vla_ros.config.recipe import MixedPrecision
from sqap_vla_ros.policies.cogact.compressed import layer_file, read_decoder_layer
from sqap_vla_ros.policies.cogact.store import Stored
from sqap_vla_ros.tools.compression.allocation import allocate_layers
from sqap_vla_ros.tools.compression.calibration import CalibrationFrames
from sqap_vla_ros.tools.compression.family import Family
from sqap_vla_ros.tools.compression.layer_calibration import LayerCalibration
from sqap_vla_ros.tools.compression.layer_sensitivity import layer_sensitivities
from sqap_vla_ros.tools.compression.rounding import round_linear
from sqap_vla_ros.tools.compression.sensitivity import channel_sensitivities
from sqap_vla_ros.vlm.checkpoint import COMPRESSED, UNFINISHED
from sqap_vla_ros.vlm.lowbit.layer import LINEARS, NORMS, QuantDecoderLayer
from sqap_vla_ros.vlm.lowbit.store import StoredManifest, linear_tensors, read_weights, write_manifest, write_weights
from sqap_vla_ros.vlm.lowbit.transform import PreparedLayer, prepare
from sqap_vla_ros.vlm.weights import CheckpointError, Source


@dataclass(frozen=True)
class Step:
    """The progress of a compression.

    Attributes:
        done: Parts that are finished.
        total: Parts in all.
        name: Name of the part that comes next; empty at the end.
        resumed: Whether an earlier run has finished that part.
    """

    done: int
    total: int
    name: str
    resumed: bool = False


def _prefix(index: int) -> str:
    return f"llm.model.layers.{index}."


class Compression:
    """A compression that is under way.

    Args:
        family: The original checkpoint.
        directory: Where the compressed checkpoint is written; `unfinished.json` is there already.
        manifest: What is asked for, and what is done so far.
        device: Where rounding computes.
        on_step: Called before each part, and at the end.
    """

    def __init__(
        self,
        family: Family,
        directory: Path,
        manifest: StoredManifest[Any],
        device: torch.device,
        on_step: Callable[[Step], None],
    ) -> None:
        self._family = family
        self._directory = directory
        self._manifest = manifest
        self._device = device
        self._on_step = on_step
        self._recipe = manifest.identity.recipe
        self._calibration: LayerCalibration | None = None
        self._channel_bits: dict[str, Tensor] = {}

    @torch.no_grad()  # not inference_mode, whose tensors autograd refuses where mixed precision needs it
    def run(self, frames: CalibrationFrames | None) -> StoredManifest[Any]:
        """Do what is left to do, and return the manifest of the finished checkpoint.

        Raises:
            CheckpointError: A weight is NaN or infinite.
            OSError: The disk is full, or the directory cannot be written.
        """
        shapes, recipe = self._manifest.shapes, self._recipe
        around = self._family.around(recipe)
        depth = shapes.language.depth
        # Mixed precision goes through the layers twice before they are rounded.
        first_layer = len(around) + (2 * depth if recipe.mixed else 0)
        total = first_layer + depth
        for done, (name, make) in enumerate(around.items()):
            self._take_step(done, total, name, make)
        if frames is not None:
            self._on_step(Step(len(around), total, "calibration frames"))
            embeddings = self._family.embed(self._directory, self._manifest, frames, self._device)
            self._calibration = LayerCalibration(embeddings, shapes.language)
            if recipe.mixed:
                self._choose_bits(frames, embeddings, recipe.mixed, Step(len(around), total, "channel_bits"))
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
            raise CheckpointError(f"{self._family.source}: {error}. What is done stays") from None
        file = write_weights(self._directory, name, tensors)
        self._manifest = self._manifest.model_copy(
            update={
                "files": {**self._manifest.files, name: file},
                "linears": {**self._manifest.linears, **entries},
            }
        )
        write_manifest(self._directory, self._manifest, UNFINISHED)

    def _choose_bits(
        self, frames: CalibrationFrames, embeddings: list[Tensor], mixed: MixedPrecision, step: Step
    ) -> None:
        """Choose the bits per output channel, which get a file of their own. Each of the 2 · depth layers is a step."""
        shapes = self._manifest.shapes

        def allocate() -> Stored:
            steps = (replace(step, done=step.done + layer) for layer in range(2 * shapes.language.depth))
            if mixed.sensitivity == "layer":
                costs = layer_sensitivities(
                    self._prepared, embeddings, shapes.language, lambda: self._on_step(next(steps))
                )
            else:
                plan = self._family.plan(frames, self._device)
                costs = channel_sensitivities(
                    self._prepared, plan, embeddings, shapes.language, lambda: self._on_step(next(steps))
                )
            named = {_prefix(index) + name: cost for (index, name), cost in costs.items()}
            return allocate_layers(named, mixed.target_bits, as_released=mixed.sensitivity == "layer"), {}

        self._take_step(step.done, step.total, step.name, allocate)
        stored = read_weights(self._directory, step.name, self._manifest.files[step.name])
        self._channel_bits = {name: bits.to(self._device) for name, bits in stored.items()}

    def _prepared(self, index: int) -> PreparedLayer:
        part, shape, recipe = self._family.language, self._manifest.shapes.language, self._recipe
        weights, gains = (
            {name: part.take(Source(f"{_prefix(index)}{name}.weight"), torch.float32, self._device) for name in names}
            for names in (LINEARS, NORMS)
        )
        magnitudes = None
        if self._calibration is not None and recipe.smoothing is not None:
            unsmoothed = prepare(weights, gains, recipe, head_width=shape.head_width)
            magnitudes = self._calibration.input_magnitudes(unsmoothed, recipe.smoothing_by)
            del unsmoothed
        return prepare(weights, gains, recipe, magnitudes, shape.head_width)

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

"""What a compression must know about the network around the decoder layers: one class per family of policies."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor

from sqap_vla_ros.config.recipe import Recipe
from sqap_vla_ros.policies.cogact import checkpoint as cogact
from sqap_vla_ros.policies.cogact.action_head import ActionHead
from sqap_vla_ros.policies.cogact.compressed import EMBEDDING
from sqap_vla_ros.policies.cogact.store import (
    Manifest,
    Shapes,
    Stored,
    embedding_tensors,
    head_tensors,
    projector_tensors,
    read_shapes,
    vision_tensors,
)
from sqap_vla_ros.tools.compression.calibration import CalibrationFrames
from sqap_vla_ros.tools.compression.companions import read_companions
from sqap_vla_ros.tools.compression.embed_frames import embed_frames
from sqap_vla_ros.tools.compression.sensitivity import Plan, diffusion_plan
from sqap_vla_ros.vlm.checkpoint import Checkpoint
from sqap_vla_ros.vlm.lowbit.store import StoredManifest
from sqap_vla_ros.vlm.weights import CheckpointError, Part, Source

Around = Mapping[str, Callable[[], Stored]]
"""The files around the decoder layers: name -> what makes its tensors, towers, projector and embeddings first."""


class Family(Protocol):
    """A checkpoint of one family of policies that is compressed.

    Attributes:
        manifest: Its kind of manifest.
    """

    manifest: type[StoredManifest[Any]]

    @property
    def source(self) -> Path:
        """The weights file, or the directory of weights files."""

    @property
    def shapes(self) -> Any:
        """Sizes of the network; raises CheckpointError where the tensors do not fit."""

    @property
    def language(self) -> Part:
        """The language model's tensors, under CogACT's names."""

    def sha256(self) -> str:
        """Hash of the weights."""

    def companions(self, tokenizer: Path | None) -> dict[str, bytes]:
        """Files that belong to the weights, by name; arguments and errors as in `read_companions`."""

    def around(self, recipe: Recipe) -> Around:
        """The files around the decoder layers."""

    def embed(
        self, directory: Path, manifest: StoredManifest[Any], frames: CalibrationFrames, device: torch.device
    ) -> list[Tensor]:
        """Embeddings float32 (1, positions, width) of each frame, by the files that are compressed already."""

    def plan(self, frames: CalibrationFrames, device: torch.device) -> Plan:
        """How the actions of a frame follow from the language model, for mixed precision."""


@dataclass(frozen=True)
class CogActFamily:
    """A checkpoint of CogACT."""

    checkpoint: Checkpoint
    manifest = Manifest

    @cached_property
    def parts(self) -> dict[str, Part]:
        """The mapped parts."""
        return cogact.read_parts(self.checkpoint.weights)

    @property
    def source(self) -> Path:
        """See `Family`."""
        return self.checkpoint.weights

    @cached_property
    def shapes(self) -> Shapes:
        """See `Family`."""
        try:
            return read_shapes(self.parts, self.checkpoint.architecture)
        except CheckpointError as error:
            raise CheckpointError(f"{self.checkpoint.weights}: {error}") from None

    @property
    def language(self) -> Part:
        """See `Family`."""
        return self.parts[cogact.LLM]

    def sha256(self) -> str:
        """See `Family`."""
        return self.checkpoint.sha256()

    def companions(self, tokenizer: Path | None) -> dict[str, bytes]:
        """See `Family`."""
        return read_companions(self.checkpoint, tokenizer)

    def around(self, recipe: Recipe) -> Around:
        """See `Family`."""
        parts, shapes = self.parts, self.shapes
        return {
            cogact.VISION: lambda: vision_tensors(parts[cogact.VISION], shapes, recipe),
            cogact.PROJECTOR: lambda: projector_tensors(parts[cogact.PROJECTOR], recipe),
            EMBEDDING: lambda: embedding_tensors(parts[cogact.LLM], recipe),
            cogact.HEAD: lambda: head_tensors(parts[cogact.HEAD], shapes),
        }

    def embed(
        self, directory: Path, manifest: StoredManifest[Any], frames: CalibrationFrames, device: torch.device
    ) -> list[Tensor]:
        """See `Family`."""
        return embed_frames(directory, manifest, frames, device)

    def plan(self, frames: CalibrationFrames, device: torch.device) -> Plan:
        """See `Family`."""
        with torch.device("meta"):
            head = ActionHead(self.shapes.action_head)
        self.parts[cogact.HEAD].load(head, lambda name: Source(f"net.{name}"), torch.float32, device)
        gain = self.language.take(Source("llm.model.norm.weight"), torch.float32, device)
        return diffusion_plan(head, gain, len(frames.frames), self.shapes.language.epsilon)

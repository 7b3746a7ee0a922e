"""Compresses an OpenVLA or OpenVLA-OFT: see `family`."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from sqap_vla_ros.config.openvla import OpenVlaConfig
from sqap_vla_ros.config.recipe import Recipe
from sqap_vla_ros.policies.cogact.compressed import EMBEDDING
from sqap_vla_ros.policies.cogact.store import embedding_tensors, projector_tensors, vision_tensors
from sqap_vla_ros.policies.openvla.checkpoint import LANGUAGE as LANGUAGE_PART
from sqap_vla_ros.policies.openvla.checkpoint import PREPROCESSOR, OpenVlaCheckpoint
from sqap_vla_ros.policies.openvla.checkpoint import PROJECTOR as PROJECTOR_PART
from sqap_vla_ros.policies.openvla.components import HEAD, PROPRIO, VISION
from sqap_vla_ros.policies.openvla.compressed import component_parts, load_towers
from sqap_vla_ros.policies.openvla.heads import load_action_mlp, load_token_projector
from sqap_vla_ros.policies.openvla.model import STOP_ID
from sqap_vla_ros.policies.openvla.policy import choose_statistics, model_image, token_ids
from sqap_vla_ros.policies.openvla.statistics import normalise_state
from sqap_vla_ros.policies.openvla.store import (
    COMPONENTS,
    MODULATION,
    OpenVlaManifest,
    OpenVlaShapes,
    component_tensors,
    modulation_tensors,
    read_all_parts,
    read_openvla_shapes,
)
from sqap_vla_ros.tools.compression.calibration import CalibrationError, CalibrationFrame, CalibrationFrames
from sqap_vla_ros.tools.compression.family import Around
from sqap_vla_ros.tools.compression.sensitivity import Plan
from sqap_vla_ros.vlm.lowbit.store import StoredManifest, read_weights
from sqap_vla_ros.vlm.preprocessing import normalise
from sqap_vla_ros.vlm.statistics import STATISTICS_FILE
from sqap_vla_ros.vlm.tokenizer import PromptTokenizer, find_tokenizer, load_tokenizer
from sqap_vla_ros.vlm.weights import Part, Source


@dataclass(frozen=True)
class OpenVlaFamily:
    """A checkpoint of OpenVLA or OpenVLA-OFT, with how it was trained.

    Attributes:
        checkpoint: The checkpoint.
        trained: How it was trained, from a policy file.
        statistics_key: Data set whose statistics normalise the state of calibration frames; empty: the only one.
    """

    checkpoint: OpenVlaCheckpoint
    trained: OpenVlaConfig
    statistics_key: str = ""
    manifest = OpenVlaManifest

    @property
    def directory(self) -> Path:
        """The checkpoint's directory."""
        return self.checkpoint.directory

    @cached_property
    def parts(self) -> Mapping[str, Part]:
        """The mapped parts."""
        return read_all_parts(self.checkpoint)

    @property
    def source(self) -> Path:
        """See `Family`."""
        return self.checkpoint.directory

    @cached_property
    def shapes(self) -> OpenVlaShapes:
        """See `Family`."""
        return read_openvla_shapes(self.checkpoint, self.parts, self.trained.decoding)

    @property
    def language(self) -> Part:
        """See `Family`."""
        return self.parts[LANGUAGE_PART]

    def sha256(self) -> str:
        """See `Family`."""
        return self.checkpoint.sha256()

    def companions(self, tokenizer: Path | None) -> dict[str, bytes]:
        """See `Family`."""
        directory = self.checkpoint.directory
        paths = [directory / name for name in ("config.json", PREPROCESSOR, STATISTICS_FILE)]
        paths = [path for path in paths if path.is_file()] + [find_tokenizer(directory, tokenizer)]
        return {path.name: path.read_bytes() for path in paths}

    def around(self, recipe: Recipe) -> Around:
        """See `Family`."""
        parts, shapes = self.parts, self.shapes
        files: dict[str, Any] = {
            VISION: lambda: vision_tensors(parts[VISION], shapes, recipe),
            PROJECTOR_PART: lambda: projector_tensors(parts[PROJECTOR_PART], recipe),
            EMBEDDING: lambda: embedding_tensors(parts[LANGUAGE_PART], recipe),
            COMPONENTS: lambda: component_tensors(parts, recipe),
        }
        if shapes.modulated:
            files[MODULATION] = lambda: modulation_tensors(parts[MODULATION], recipe)
        return files

    def embed(
        self, directory: Path, manifest: StoredManifest[Any], frames: CalibrationFrames, device: torch.device
    ) -> list[Tensor]:
        """See `Family`.

        Raises:
            CalibrationError: A frame has not the views or the state that the network takes.
        """
        vision, projector = load_towers(directory, manifest, device=device)
        tokenizer = load_tokenizer(directory)
        table = read_weights(directory, EMBEDDING, manifest.files[EMBEDDING])["llm.model.embed_tokens.weight"]
        components = component_parts(read_weights(directory, COMPONENTS, manifest.files[COMPONENTS]))
        width = self.shapes.language.width
        proprio = None
        if PROPRIO in components:
            proprio = load_token_projector(components[PROPRIO], width, torch.float32, device)
        embedded = []
        for frame in frames.frames:
            text = functional.embedding(self._ids(tokenizer, frame), table).float().to(device)
            images = torch.from_numpy(self._images(frame)).to(device)
            mean = text.mean(1).expand(len(images), -1) if self.shapes.modulated else None
            pixels = normalise(images, self.checkpoint.image_statistics)
            parts = [text[:, :1], projector(vision(*pixels, mean)).flatten(0, 1)[None]]
            if proprio is not None:
                state = torch.from_numpy(self._state(frame)).to(device, torch.float32)
                parts.append(proprio(state)[None, None])
            if self.shapes.decoding == "autoregressive":
                embedded.append(torch.cat((*parts, text[:, 1:-1]), dim=1))
            else:
                slots = torch.zeros(1, self._slots, width, device=device)
                embedded.append(torch.cat((*parts, text[:, 1:-1], slots, text[:, -1:]), dim=1))
        return embedded

    def plan(self, frames: CalibrationFrames, device: torch.device) -> Plan:
        """See `Family`: through the L1 head.

        Raises:
            CalibrationError: The checkpoint has no L1 head.
        """
        if self.shapes.decoding != "regression":
            raise CalibrationError(
                f"{self.source}: mixed precision needs actions that change smoothly, from an L1 head; this "
                f"checkpoint's come out by {self.shapes.decoding}; choose a recipe without mixed precision"
            )
        head = load_action_mlp(self.parts[HEAD], self.shapes.language.width, torch.float32, device)
        gain = self.language.take(Source("llm.model.norm.weight"), torch.float32, device)
        epsilon, slots = self.shapes.language.epsilon, self._slots

        def plan(frame: int, hidden: Tensor) -> Tensor:
            rows = hidden[:, -2 - slots : -2]
            return head(functional.rms_norm(rows, rows.shape[-1:], gain, epsilon))

        return plan

    @property
    def _slots(self) -> int:
        head = self.shapes.head
        statistics = choose_statistics(self.checkpoint, self.statistics_key)
        size = head.action_dim if head else len(statistics.bounds("action", self.trained.normalisation).low)
        return self.trained.chunk * size

    def _ids(self, tokenizer: PromptTokenizer, frame: CalibrationFrame) -> Tensor:
        return functional.pad(token_ids(tokenizer, frame.instruction), (0, 1), value=STOP_ID)

    def _images(self, frame: CalibrationFrame) -> np.ndarray:
        images = (frame.image, *frame.further)
        if len(images) != self.trained.views:
            raise CalibrationError(
                f"a calibration frame has {len(images)} camera images, the network sees {self.trained.views}; "
                "calibrate on recordings of all its cameras, or leave --calibration out"
            )
        return np.stack([model_image(self.trained, image) for image in images])

    def _state(self, frame: CalibrationFrame) -> np.ndarray:
        statistics = choose_statistics(self.checkpoint, self.statistics_key)
        bounds = statistics.bounds("proprio", self.trained.normalisation)
        if frame.state is None or frame.state.shape != bounds.low.shape:
            raise CalibrationError(
                f"a calibration frame has no state of {len(bounds.low)} numbers; calibrate on recordings with the "
                "robot's state, or leave --calibration out"
            )
        return normalise_state(frame.state, bounds)

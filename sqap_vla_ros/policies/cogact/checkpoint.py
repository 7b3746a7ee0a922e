"""Checkpoints in the published layout: found, opened without executing anything in them, and built into a model.

A run directory holds `config.json`, `dataset_statistics.json` and `checkpoints/<name>.pt` (or `.safetensors`, whose
names are those of the `.pt` with the part in front: `action_model.net.…`).
"""

import hashlib
import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import huggingface_hub
import safetensors
import torch
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError
from torch import Tensor

from sqap_vla_ros.config.files import named_checkpoint
from sqap_vla_ros.policies.cogact.action_head import load_action_head
from sqap_vla_ros.policies.cogact.model import CogACT
from sqap_vla_ros.vlm.language import load_language
from sqap_vla_ros.vlm.projector import load_projector
from sqap_vla_ros.vlm.statistics import STATISTICS_FILE, ActionStatistics, read_statistics
from sqap_vla_ros.vlm.vision import load_vision
from sqap_vla_ros.vlm.weights import CheckpointError, Part, check_architecture

COMPRESSED = "compressed.json"
UNFINISHED = "unfinished.json"
BASE_VLM = "prism-dinosiglip-224px+7b"
PARTS = ("vision_backbone", "projector", "llm_backbone", "action_model")
_SUFFIXES = (".pt", ".safetensors")
_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint that was found; its weights are not read yet.

    Attributes:
        directory: The run directory, where a tokenizer may lie too.
        weights: The weights file; of a compressed checkpoint its JSON, which names its files and their hashes.
        architecture: Numbers of attention heads that config.json states (`architecture`); empty for published sizes.
        statistics: Action statistics by data set key.
    """

    directory: Path
    weights: Path
    architecture: Mapping[str, int]
    statistics: Mapping[str, ActionStatistics]

    @property
    def is_compressed(self) -> bool:
        """Whether `sqap-vla compress` made it."""
        return self.weights.name == COMPRESSED

    def sha256(self) -> str:
        """SHA-256 of the weights file, hexadecimal; computed once as long as the file does not change."""
        status = self.weights.stat()
        return _sha256(self.weights, status.st_size, status.st_mtime_ns)


@lru_cache
def _sha256(path: Path, size: int, changed_ns: int) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def open_checkpoint(source: str | os.PathLike[str]) -> Checkpoint:
    """Find a checkpoint and read what is beside its weights.

    Args:
        source: A run directory, its weights file, a name in config/checkpoints, or a Hub id (`owner/name`; downloaded
            when online).

    Raises:
        CheckpointError: There is none, or files of it are missing or cannot be read.
    """
    path = Path(named_checkpoint(str(source))).expanduser()
    if path.is_file():
        if path.suffix not in _SUFFIXES or path.parent.name != "checkpoints":
            raise CheckpointError(f"{path}: expected a .pt or .safetensors file in a directory named 'checkpoints'")
        return _open(path.parent.parent, path)
    if not path.is_dir():
        if not _HUB_ID.fullmatch(str(source)):
            raise CheckpointError(f"{source}: no such run directory or weights file")
        path = _download(str(source))
    if (path / COMPRESSED).is_file():
        return _open(path, path / COMPRESSED)
    if (path / UNFINISHED).is_file():
        raise CheckpointError(f"{path}: its compression is unfinished; run the same `sqap-vla compress` again")
    weights = sorted(file for file in path.glob("checkpoints/*") if file.suffix in _SUFFIXES)
    if len(weights) != 1:
        found = ", ".join(file.name for file in weights) or "none"
        raise CheckpointError(
            f"{path}: expected one .pt or .safetensors file in checkpoints/, found {found}; name the file"
        )
    return _open(path, weights[0])


def _download(hub_id: str) -> Path:
    patterns = ["*.json", "checkpoints/*", "weights/*.safetensors"]
    try:
        # Answers from the local cache when the Hub is off or out of reach.
        return Path(huggingface_hub.snapshot_download(hub_id, allow_patterns=patterns))
    except (HfHubHTTPError, LocalEntryNotFoundError, HFValidationError, OSError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise CheckpointError(
            f"{hub_id}: neither a run directory here nor to be had from the Hub ({reason}); give a local path"
        ) from None


def _open(directory: Path, weights: Path) -> Checkpoint:
    path = directory / "config.json"
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise CheckpointError(f"{path}: no such file; it belongs to the checkpoint, copy it there") from None
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{path}: cannot be read as JSON: {error}") from None
    if not isinstance(config, dict) or not isinstance(config.get("vla"), dict):
        raise CheckpointError(f"{path}: expected a CogACT configuration with a 'vla' section")
    base = config["vla"].get("base_vlm")
    if base != BASE_VLM:
        raise CheckpointError(f"{path}: vla.base_vlm = {base!r}, expected '{BASE_VLM}'; other bases see other images")
    architecture = config.get("architecture", {})
    if not isinstance(architecture, dict):
        raise CheckpointError(f"{path}: architecture = {architecture!r}, expected names with numbers of heads")
    check_architecture(architecture)
    return Checkpoint(directory, weights, architecture, read_statistics(directory / STATISTICS_FILE))


def load_cogact(
    checkpoint: Checkpoint,
    *,
    dtype: torch.dtype = torch.float32,
    device: torch.device | str = "cpu",
    architecture: Mapping[str, int] | None = None,
) -> CogACT:
    """Build the model.

    The file is mapped and each tensor is copied once, to its place and number format: host memory never holds the
    weights twice. What does not influence actions is not copied at all.

    Args:
        checkpoint: From `open_checkpoint`.
        dtype: Number format of the vision-language part; the action head is float32.
        device: Where the model goes.
        architecture: Numbers of attention heads for sizes other than the published ones, before config.json's:
            dino_heads, siglip_heads, llm_heads, llm_kv_heads, dit_heads.

    Raises:
        CheckpointError: The weights are truncated, not those of a CogACT model, or would execute code.
    """
    heads = {**checkpoint.architecture, **(architecture or {})}
    check_architecture(heads)
    parts = read_parts(checkpoint.weights)
    try:
        return assemble(parts, heads, dtype=dtype, device=device)
    except CheckpointError as error:
        raise CheckpointError(f"{checkpoint.weights}: {error}") from None


def assemble(
    parts: Mapping[str, Part],
    heads: Mapping[str, int],
    *,
    dtype: torch.dtype = torch.float32,
    device: torch.device | str = "cpu",
) -> CogACT:
    """Build the model from its parts (`PARTS`); arguments as in `load_cogact`.

    Raises:
        CheckpointError: The tensors are not those of a CogACT model, or the parts do not fit each other.
    """
    model = CogACT(
        vision=load_vision(parts["vision_backbone"], heads, dtype, device),
        projector=load_projector(parts["projector"], dtype, device),
        language=load_language(parts["llm_backbone"], heads, dtype, device),
        action_head=load_action_head(parts["action_model"], heads, torch.float32, device),
    )
    _check_joints(model)
    return model


def _check_joints(model: CogACT) -> None:
    vision = model.vision.dino.shape.width + model.vision.siglip.shape.width
    language = model.language.shape.width
    for name, found, expected in (
        ("projector: 'projector.0.weight' takes", model.projector.vision_width, vision),
        ("projector: 'projector.4.weight' gives", model.projector.language_width, language),
        ("action_model: 'net.z_embedder.linear.weight' takes", model.action_head.shape.token_size, language),
    ):
        if found != expected:
            raise CheckpointError(f"{name} {found} channels, expected {expected} as in the part it joins")


def read_parts(path: Path) -> dict[str, Part]:
    """Map the weights file; nothing is copied yet."""
    tensors = _read_safetensors(path) if path.suffix == ".safetensors" else _read_torch(path)
    missing = [part for part in PARTS if not isinstance(tensors.get(part), dict)]
    if missing:
        raise CheckpointError(f"{path}: the part '{missing[0]}' is missing; a CogACT checkpoint has {', '.join(PARTS)}")
    try:
        return {part: Part(part, tensors[part], mapped=True) for part in PARTS}
    except CheckpointError as error:
        raise CheckpointError(f"{path}: {error}") from None


def _read_torch(path: Path) -> dict[str, Any]:
    try:
        content = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    # A file that is truncated, of another kind or made to run code fails in as many ways as unpickling has.
    except Exception as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise CheckpointError(
            f"{path}: refused, not tensors alone or not whole ({reason}); download it again, compare its size and hash"
        ) from None
    if not isinstance(content, dict) or not isinstance(content.get("model"), dict):
        raise CheckpointError(f"{path}: not a CogACT checkpoint: expected a dictionary with an entry 'model'")
    return content["model"]


def _read_safetensors(path: Path) -> dict[str, Any]:
    parts: dict[str, dict[str, Tensor]] = {}
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            for name in file.keys():  # noqa: SIM118 - not a mapping
                part, _, rest = name.partition(".")
                parts.setdefault(part, {})[rest] = file.get_tensor(name)
    except (safetensors.SafetensorError, OSError) as error:
        raise CheckpointError(f"{path}: not a whole safetensors file ({error}); download it again") from None
    return parts

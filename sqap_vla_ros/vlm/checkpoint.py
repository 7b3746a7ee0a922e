"""Checkpoints in the published layout: found, hashed, and read without executing anything in them.

A run directory holds `config.json`, `dataset_statistics.json` and `checkpoints/<name>.pt`, a dictionary of parts under
the key `model`. A `.safetensors` file may take its place; its tensors are named `<part>.<name in the part>`. In a
compressed checkpoint, `compressed.json` and `weights/` take the place of `checkpoints/`.
"""

import hashlib
import json
import os
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import huggingface_hub
import safetensors
import torch
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError
from torch import Tensor

from sqap_vla_ros.config.files import config_directory, did_you_mean, expand_home, named_checkpoint
from sqap_vla_ros.vlm.checkpoint_kind import COMPRESSED, UNFINISHED, WEIGHT_SUFFIXES, Kind, recognise
from sqap_vla_ros.vlm.statistics import STATISTICS_FILE, ActionStatistics, read_statistics
from sqap_vla_ros.vlm.weights import CheckpointError, Part, check_architecture

BASE_VLM = "prism-dinosiglip-224px+7b"
_ANSI = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")
_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint that was found; its weights are not read yet.

    Attributes:
        directory: The run directory, which may hold a tokenizer too.
        weights: The weights file; of a compressed checkpoint its JSON, which lists its files and their hashes.
        architecture: Numbers of attention heads from config.json (`architecture`); empty for the published sizes.
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
        """SHA-256 of the weights file, hexadecimal; it is computed again only when the file changes."""
        return file_sha256(self.weights)


def file_sha256(path: Path) -> str:
    """SHA-256 of a file, hexadecimal; it is computed again only when the file changes."""
    status = path.stat()
    return _sha256(path, status.st_size, status.st_mtime_ns)


@lru_cache
def _sha256(path: Path, size: int, changed_ns: int) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def open_checkpoint(source: str | os.PathLike[str]) -> Checkpoint:
    """Find a checkpoint of CogACT, and read its configuration and statistics.

    Args:
        source: A run directory, its weights file, a name in config/checkpoints, or a Hub id (`owner/name`, downloaded
            when online).

    Raises:
        CheckpointError: There is no checkpoint, or some of its files are missing or cannot be read; or it is another
            policy's, which the message names.
    """
    path = find_checkpoint(source)
    found = recognise(path)
    is_ours = found.kind in (Kind.COGACT, Kind.COMPRESSED)
    if found.words and not is_ours:
        raise CheckpointError(f"{path}: is {found.words}; {found.advice}")
    if path.is_file():
        if path.suffix not in WEIGHT_SUFFIXES or path.parent.name != "checkpoints":
            raise CheckpointError(f"{path}: expected a .pt or .safetensors file in a directory named 'checkpoints'")
        return _open(path.parent.parent, path)
    if (path / COMPRESSED).is_file():
        return _open(path, path / COMPRESSED)
    if (path / UNFINISHED).is_file():
        raise CheckpointError(f"{path}: its compression is unfinished; run the same `sqap-vla compress` again")
    weights = sorted(file for file in path.glob("checkpoints/*") if file.suffix in WEIGHT_SUFFIXES)
    if len(weights) != 1:
        names = ", ".join(file.name for file in weights) or "none"
        what_to_do = "name the file" if weights else "a run directory of CogACT has its weights there; copy them"
        raise CheckpointError(
            f"{path}: expected one .pt or .safetensors file in checkpoints/, found {names}; {what_to_do}"
        )
    return _open(path, weights[0])


def find_checkpoint(source: str | os.PathLike[str]) -> Path:
    """Find a checkpoint's directory or weights file, whatever it holds; `recognise` says what it is.

    Args:
        source: See `open_checkpoint`.

    Raises:
        CheckpointError: There is no such directory or file, and it cannot be downloaded.
    """
    path = expand_home(named_checkpoint(str(source)))
    if path.exists():
        return path
    if not _HUB_ID.fullmatch(str(source)):
        names = sorted(folder.name for folder in (config_directory() / "checkpoints").iterdir())
        raise CheckpointError(
            f"{source}: no such run directory or weights file{did_you_mean(str(source), names)}; "
            f"with the package come: {', '.join(names)}"
        )
    return _download(str(source))


def _download(hub_id: str) -> Path:
    patterns = ["*.json", "checkpoints/*", "*.safetensors", "*--*checkpoint.pt"]
    try:
        # The local cache answers when the Hub is switched off or cannot be reached.
        return Path(huggingface_hub.snapshot_download(hub_id, allow_patterns=patterns))
    except (HfHubHTTPError, LocalEntryNotFoundError, HFValidationError, OSError) as error:
        raise CheckpointError(
            f"{hub_id}: neither a run directory here nor available from the Hub ({_first_line(error)}); "
            "give a local path"
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
        raise CheckpointError(f"{path}: expected the configuration of a policy, with a section 'vla'")
    base = config["vla"].get("base_vlm")
    if base != BASE_VLM:
        raise CheckpointError(
            f"{path}: vla.base_vlm = {base!r}, expected '{BASE_VLM}'; other base models preprocess images differently"
        )
    architecture = config.get("architecture", {})
    if not isinstance(architecture, dict):
        raise CheckpointError(f"{path}: architecture = {architecture!r}, expected names with numbers of heads")
    check_architecture(architecture)
    return Checkpoint(directory, weights, architecture, read_statistics(directory / STATISTICS_FILE))


def read_parts(path: Path, names: Collection[str]) -> dict[str, Part]:
    """Map the parts of a weights file; nothing is copied yet.

    Args:
        path: The weights file.
        names: The parts that it must have.

    Raises:
        CheckpointError: The file is truncated, would execute code, or lacks a part.
    """
    tensors = _read_safetensors(path) if path.suffix == ".safetensors" else _read_torch(path)
    missing = [name for name in names if not isinstance(tensors.get(name), dict)]
    if missing:
        no_head = "; a base model, and an OpenVLA in Prismatic's layout, has no action head and is no CogACT"
        raise CheckpointError(
            f"{path}: the part '{missing[0]}' is missing; expected {', '.join(names)}"
            + no_head * (missing == ["action_model"])
        )
    try:
        return {name: Part(name, tensors[name], mapped=True) for name in names}
    except CheckpointError as error:
        raise CheckpointError(f"{path}: {error}") from None


def read_tensors(path: Path) -> dict[str, Any]:
    """Map a `.pt` file that holds a dictionary; nothing in it is executed.

    Raises:
        CheckpointError: The file is truncated, would execute code, or holds no dictionary.
    """
    try:
        content = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    # Unpickling a file that is truncated, of another kind or made to run code raises many kinds of errors.
    except Exception as error:
        raise CheckpointError(
            f"{path}: refused, because it is damaged or holds more than tensors ({_first_line(error)}); "
            "download it again, and compare its size and hash"
        ) from None
    if not isinstance(content, dict):
        raise CheckpointError(
            f"{path}: not a checkpoint of a policy: expected a dictionary, found {type(content).__name__}"
        )
    return content


def _read_torch(path: Path) -> dict[str, Any]:
    content = read_tensors(path)
    if not isinstance(content.get("model"), dict):
        raise CheckpointError(f"{path}: not a checkpoint of a policy: expected a dictionary with an entry 'model'")
    return content["model"]


def _read_safetensors(path: Path) -> dict[str, Any]:
    parts: dict[str, dict[str, Tensor]] = {}
    for name, tensor in read_safetensors(path).items():
        part, _, rest = name.partition(".")
        parts.setdefault(part, {})[rest] = tensor
    return parts


def read_safetensors(path: Path) -> dict[str, Tensor]:
    """Map the tensors of a safetensors file.

    Raises:
        CheckpointError: The file is truncated or of another kind.
    """
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a mapping
    except (safetensors.SafetensorError, OSError) as error:
        raise CheckpointError(f"{path}: not a whole safetensors file ({error}); download it again") from None


def _first_line(error: Exception) -> str:
    """The first line of a library's message, without the control sequences with which torch makes words bold."""
    return _ANSI.sub("", str(error)).splitlines()[0] if str(error) else type(error).__name__

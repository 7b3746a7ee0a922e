"""Which project's checkpoint a directory or a file is, from its file names and JSON alone; no weights are read."""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

COMPRESSED = "compressed.json"
UNFINISHED = "unfinished.json"
WEIGHT_SUFFIXES = (".pt", ".safetensors")
_OTHER_SUFFIXES = (".bin", ".ckpt", ".gguf", ".msgpack", ".onnx", ".pkl", ".pth")
# The components that OpenVLA-OFT saves next to the language model, as "action_head--50000_checkpoint.pt".
_OFT_COMPONENT = re.compile(
    r"(action_head|proprio_projector|noisy_action_projector|vision_backbone)--.*checkpoint\.pt$"
)
_SHARD = re.compile(r"-\d+-of-\d+\.(safetensors|bin)$")
_FILES_OF_COGACT = "config.json, dataset_statistics.json and checkpoints/<name>.pt"


class Kind(StrEnum):
    """What a checkpoint was made by."""

    COGACT = "CogACT"
    COMPRESSED = "compressed by sqap-vla"
    OPENVLA = "OpenVLA"
    OPENVLA_OFT = "OpenVLA-OFT"
    LORA = "LoRA adapter"
    PRISMATIC = "Prismatic"
    OPENPI = "openpi"
    LEROBOT = "LeRobot"
    LEROBOT_DATASET = "LeRobot data set"
    OCTO = "Octo"
    TRANSFORMERS = "Hugging Face transformers"
    UNKNOWN = "unknown"


@dataclass(frozen=True)
class Recognised:
    """A checkpoint that was recognised.

    Attributes:
        kind: What made it.
        words: What it is, to follow "is", as "a LoRA adapter for openvla/openvla-7b"; empty if it is unknown.
        advice: What to do where it cannot be used; empty if it is unknown.
    """

    kind: Kind
    words: str = ""
    advice: str = ""


_UNKNOWN = Recognised(Kind.UNKNOWN)


def recognise(path: Path) -> Recognised:
    """Say what a directory or a weights file is.

    Args:
        path: A directory, or a file.
    """
    return _file(path) if path.is_file() else _directory(path)


def _directory(path: Path) -> Recognised:
    names = {entry.name for entry in path.iterdir()}
    if COMPRESSED in names or UNFINISHED in names:
        return Recognised(Kind.COMPRESSED, "a checkpoint that `sqap-vla compress` made", "give it as it is")
    if "adapter_config.json" in names:
        return _lora(path)
    config = _json(path / "config.json")
    if (found := _by_config(path, config, names)).kind is not Kind.UNKNOWN:
        return found
    if {"meta", "data"} <= names and (path / "meta" / "info.json").is_file():
        return Recognised(Kind.LEROBOT_DATASET, "a LeRobot data set, not a policy", "give a checkpoint")
    if _is_openpi(path, names):
        return Recognised(Kind.OPENPI, "a checkpoint of openpi (π0 or π0.5)", _ONLY)
    if any(_OFT_COMPONENT.fullmatch(name) for name in names):
        return Recognised(
            Kind.OPENVLA_OFT,
            "an OpenVLA-OFT run without its language model",
            "merge its lora_adapter into the base model with OpenVLA-OFT's merging script, which writes config.json "
            "and model-*.safetensors here",
        )
    return _inside(path)


def is_openvla(directory: Path) -> bool:
    """Whether the configuration of a directory is that of an OpenVLA or OpenVLA-OFT."""
    config = _json(directory / "config.json")
    named = "openvla" in json.dumps(config.get("architectures", "")).lower()
    return str(config.get("model_type", "")) == "openvla" or named


def _by_config(path: Path, config: dict[str, Any], names: set[str]) -> Recognised:
    """Recognise a directory by its config.json."""
    if isinstance(config.get("vla"), dict):
        return Recognised(Kind.COGACT, "a run directory of CogACT", "give it as it is")
    model_type = str(config.get("model_type", ""))
    if is_openvla(path):
        if any(_OFT_COMPONENT.fullmatch(name) for name in names):
            return Recognised(Kind.OPENVLA_OFT, "a checkpoint of OpenVLA-OFT", _OPENVLA)
        return Recognised(Kind.OPENVLA, "a checkpoint of OpenVLA", _OPENVLA)
    if isinstance(config.get("model"), dict) and "model_id" in config["model"]:
        base = config["model"]["model_id"]
        return Recognised(
            Kind.PRISMATIC,
            f"a base model of Prismatic ({base}), which describes images and plans no actions",
            "give a CogACT that was trained from it",
        )
    if "input_features" in config and "output_features" in config:
        return Recognised(Kind.LEROBOT, f"a LeRobot policy of type {config.get('type', 'unknown')!r}", _ONLY)
    if "example_batch.msgpack" in names:
        return Recognised(Kind.OCTO, "a checkpoint of Octo", _ONLY)
    if model_type:
        return Recognised(Kind.TRANSFORMERS, f"a Hugging Face model of type {model_type!r}, not a robot policy", _ONLY)
    return _UNKNOWN


_OPENVLA = (
    "it can be driven and replayed under a policy file with a part 'openvla' (such as openvla-oft-libero), but this "
    "command takes a CogACT"
)
_ONLY = f"here a checkpoint is a run directory of CogACT ({_FILES_OF_COGACT})"


def _lora(path: Path) -> Recognised:
    base = _json(path / "adapter_config.json").get("base_model_name_or_path")
    return Recognised(
        Kind.LORA,
        "a LoRA adapter" + (f" for {base}" if base else "") + ", which holds changes to a model and no model",
        "merge it into its base model (peft: merge_and_unload, then save_pretrained), and give the merged checkpoint",
    )


def _is_openpi(path: Path, names: set[str]) -> bool:
    """Orbax parameters as JAX writes them, or normalisation statistics in `assets` as in a conversion to PyTorch."""
    is_orbax = (path / "params" / "_METADATA").is_file() or {"_METADATA", "manifest.ocdbt"} <= names
    return is_orbax or ("assets" in names and any((path / "assets").rglob("norm_stats.json")))


def _inside(path: Path) -> Recognised:
    """Recognise a directory around checkpoints: training runs and the Hub's cache keep them some folders down."""
    for folder in _folders(path, depth=3):
        names = {entry.name for entry in folder.iterdir()}
        is_one = names & {"config.json", "adapter_config.json", COMPRESSED} or _is_openpi(folder, names)
        if is_one and (found := _directory(folder)).kind is not Kind.UNKNOWN:
            around = f"a directory around {folder.relative_to(path)}, {found.words}"
            is_usable = found.kind in (Kind.COGACT, Kind.COMPRESSED, Kind.OPENVLA, Kind.OPENVLA_OFT)
            return Recognised(Kind.UNKNOWN, around, f"give {folder}" if is_usable else found.advice)
    return _UNKNOWN


def _folders(path: Path, depth: int) -> Iterator[Path]:
    inner = sorted(entry for entry in path.iterdir() if entry.is_dir())[:50]
    yield from inner
    if depth > 1:
        for folder in inner:
            yield from _folders(folder, depth - 1)


def _file(path: Path) -> Recognised:
    if path.parent.name == "checkpoints" and path.suffix in WEIGHT_SUFFIXES:
        return _directory(path.parent.parent)
    if _OFT_COMPONENT.fullmatch(path.name):
        return Recognised(Kind.OPENVLA_OFT, "one component of an OpenVLA-OFT checkpoint", f"{path.parent} is all of it")
    if path.name.startswith("adapter_model."):
        return _lora(path.parent)
    beside = _directory(path.parent)
    is_part = bool(_SHARD.search(path.name)) or path.name in ("model.safetensors", "pytorch_model.bin")
    if is_part and beside.kind is not Kind.UNKNOWN:
        return Recognised(beside.kind, f"the weights of {beside.words}", beside.advice)
    if path.suffix in WEIGHT_SUFFIXES:
        return Recognised(
            Kind.UNKNOWN,
            "a weights file alone",
            "put it in a directory named 'checkpoints', put config.json and dataset_statistics.json of the same "
            "training next to that directory, and give the directory that holds all three",
        )
    if path.suffix in _OTHER_SUFFIXES:
        words = f"a {path.suffix} file, and weights are read from .pt and .safetensors files"
        return Recognised(Kind.UNKNOWN, words, _ONLY)
    return Recognised(Kind.UNKNOWN, "not a weights file", _ONLY)


def _json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}

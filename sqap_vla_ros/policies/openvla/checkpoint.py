"""A published OpenVLA or OpenVLA-OFT directory: what its files say, and the network in them.

Weights are safetensors in shards, heads and projectors are files of their own (`components`). Names differ from
CogACT's for the same networks; parts are read under CogACT's names.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from sqap_vla_ros.policies.openvla.components import VISION, find_components, read_component
from sqap_vla_ros.policies.openvla.statistics import DatasetStatistics, read_dataset_statistics
from sqap_vla_ros.vlm.checkpoint import COMPRESSED, file_sha256, read_safetensors
from sqap_vla_ros.vlm.preprocessing import MODEL_IMAGE_PX, ImageStatistics
from sqap_vla_ros.vlm.weights import CheckpointError, Part, check_architecture

INDEX, SINGLE = "model.safetensors.index.json", "model.safetensors"
PREPROCESSOR = "preprocessor_config.json"
PROJECTOR, LANGUAGE = "projector", "language_model"
# What the configuration of a supported network says; another value means another network.
_EXPECTED: Mapping[str, Any] = {
    "vision_backbone_id": "dinosiglip-vit-so-224px",
    "llm_backbone_id": "llama2-7b-pure",
    "arch_specifier": "no-align+fused-gelu-mlp",
    "image_resize_strategy": "resize-naive",
    "use_fused_vision_backbone": True,
    "n_action_bins": 256,
}
_EXPECTED_TEXT: Mapping[str, Any] = {"model_type": "llama", "hidden_act": "silu", "rope_theta": 10000.0}
# transformers' default, which published configurations leave out; Llama-2's own 1e-5 is never read.
_EPSILON = 1e-6
_TOWERS = {"featurizer.": "dino_featurizer.", "fused_featurizer.": "siglip_featurizer."}
_PROJECTOR = {"fc1.": "projector.0.", "fc2.": "projector.2.", "fc3.": "projector.4."}


@dataclass(frozen=True)
class OpenVlaCheckpoint:
    """A directory that was found; its weights are not read yet.

    Attributes:
        directory: The directory, which holds the tokenizer too.
        shards: The safetensors files, by name of the tensors in them; empty where the checkpoint is compressed.
        components: Files of heads and projectors, by kind.
        architecture: Numbers of attention heads.
        epsilon: Of the language model's norms.
        image_statistics: By which pixels are normalised.
        statistics: Statistics by data set.
    """

    directory: Path
    shards: Mapping[str, Path]
    components: Mapping[str, Path]
    architecture: Mapping[str, int]
    epsilon: float
    image_statistics: ImageStatistics
    statistics: Mapping[str, DatasetStatistics]

    @property
    def is_compressed(self) -> bool:
        """Whether `sqap-vla compress` made it."""
        return not self.shards

    @property
    def files(self) -> list[Path]:
        """All files with weights, in the order of their names; of a compressed checkpoint the JSON that lists them."""
        if self.is_compressed:
            return [self.directory / COMPRESSED]
        return sorted({*self.shards.values(), *self.components.values()})

    def sha256(self) -> str:
        """One hash over all files with weights, hexadecimal."""
        if self.is_compressed:
            return file_sha256(self.directory / COMPRESSED)
        lines = "".join(f"{file_sha256(file)}  {file.name}\n" for file in self.files)
        return hashlib.sha256(lines.encode()).hexdigest()


def open_openvla(directory: Path) -> OpenVlaCheckpoint:
    """Read configuration, statistics and names of the files of a directory.

    Raises:
        CheckpointError: Files are missing or cannot be read, or are those of another network.
    """
    config = _read_json(directory / "config.json")
    text = config.get("text_config", {})
    _check(directory / "config.json", "", config, _EXPECTED)
    _check(directory / "config.json", "text_config.", text, _EXPECTED_TEXT)
    heads: dict[str, int] = {key: value for key, value in config.get("architecture", {}).items()}
    heads.setdefault("llm_heads", text.get("num_attention_heads", 32))
    if "num_key_value_heads" in text:
        heads.setdefault("llm_kv_heads", text["num_key_value_heads"])
    check_architecture(heads)
    is_compressed = (directory / COMPRESSED).is_file()
    return OpenVlaCheckpoint(
        directory=directory,
        shards={} if is_compressed else _find_shards(directory),
        components={} if is_compressed else find_components(directory),
        architecture=heads,
        epsilon=float(text.get("rms_norm_eps", _EPSILON)),
        image_statistics=_read_image_statistics(directory / PREPROCESSOR),
        statistics=read_dataset_statistics(directory, config),
    )


def _read_json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise CheckpointError(f"{path}: no such file; it belongs to the checkpoint, copy it there") from None
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{path}: cannot be read as JSON: {error}") from None
    if not isinstance(content, dict):
        raise CheckpointError(f"{path}: expected names with values, found {type(content).__name__}")
    return content


def _check(path: Path, prefix: str, found: Mapping[str, Any], expected: Mapping[str, Any]) -> None:
    for name, value in expected.items():
        if found.get(name, value) != value:
            raise CheckpointError(
                f"{path}: {prefix}{name} = {found[name]!r}, expected {value!r}; this network is not supported"
            )


def _find_shards(directory: Path) -> dict[str, Path]:
    """The file of each tensor.

    Raises:
        CheckpointError: There are no weights, or a shard is missing.
    """
    if not (directory / INDEX).is_file():
        if not (directory / SINGLE).is_file():
            raise CheckpointError(f"{directory}: neither {INDEX} nor {SINGLE}; the weights are not here")
        return {name: directory / SINGLE for name in read_safetensors(directory / SINGLE)}
    names = _read_json(directory / INDEX).get("weight_map")
    if not isinstance(names, dict) or not names:
        raise CheckpointError(f"{directory / INDEX}: expected 'weight_map', names of tensors with their files")
    files = sorted(set(map(str, names.values())))
    if outside := [name for name in files if Path(name).name != name]:
        raise CheckpointError(f"{directory / INDEX}: '{outside[0]}' is not a file of this directory")
    if missing := [name for name in files if not (directory / name).is_file()]:
        raise CheckpointError(
            f"{directory}: {len(missing)} of {len(files)} shards are missing: {', '.join(missing[:4])}; download them"
        )
    return {name: directory / str(file) for name, file in names.items()}


def _read_image_statistics(path: Path) -> ImageStatistics:
    """The means and deviations that the processor applies: those of its transform, rounded as the weights were.

    The file also has `means` and `stds`, which are not rounded and not applied.
    """
    try:
        dino, siglip = _read_json(path)["tvf_normalize_params"]
        channels = [tuple(map(float, tower[name])) for tower in (dino, siglip) for name in ("mean", "std")]
        size = _read_json(path).get("input_sizes", [[3, MODEL_IMAGE_PX, MODEL_IMAGE_PX]])[0]
    except (KeyError, TypeError, ValueError) as error:
        raise CheckpointError(f"{path}: expected 'tvf_normalize_params' of two towers: {error!r}") from None
    if any(len(values) != 3 for values in channels) or size[1:] != [MODEL_IMAGE_PX] * 2:
        raise CheckpointError(f"{path}: expected three channels and images of {MODEL_IMAGE_PX} pixels, found {size}")
    return ImageStatistics(*channels)  # type: ignore[arg-type]


def read_parts(checkpoint: OpenVlaCheckpoint) -> dict[str, Part]:
    """Map the tensors of the shards, as parts with CogACT's names: vision_backbone, projector, language_model.

    Raises:
        CheckpointError: A shard is truncated or lacks a tensor of the index, or there are other tensors.
    """
    files = {path: read_safetensors(path) for path in sorted(set(checkpoint.shards.values()))}
    parts: dict[str, dict[str, Tensor]] = {VISION: {}, PROJECTOR: {}, LANGUAGE: {}}
    for name, path in checkpoint.shards.items():
        if name not in files[path]:
            raise CheckpointError(f"{path}: lacks '{name}', which the index says it has; download it again")
        part, _, rest = name.partition(".")
        if part not in parts:
            raise CheckpointError(f"{path}: '{name}' is not a tensor of an OpenVLA")
        parts[part][_shared_name(part, rest)] = files[path][name]
    return {name: Part(name, tensors, mapped=True) for name, tensors in parts.items()}


def read_modulated_towers(path: Path) -> Part:
    """Map the towers of a FiLM run, which take the place of those in the shards; names as in `adapted.split_towers`."""
    tensors = read_component(path).tensors
    return Part(
        VISION,
        {_shared_name(VISION, name.removeprefix(f"{VISION}.")): tensor for name, tensor in tensors.items()},
        mapped=True,
    )


def _shared_name(part: str, name: str) -> str:
    """CogACT's name of a tensor."""
    if part == LANGUAGE:
        return f"llm.{name}"
    for here, shared in (_TOWERS if part == VISION else _PROJECTOR).items():
        if name.startswith(here):
            return shared + name.removeprefix(here).replace(".scale_factor", ".gamma")
    return name

"""A compressed checkpoint on disk: safetensors files, and one JSON that is written last.

    DIR/compressed.json           recipe, hashes, sizes and errors; without it the directory is not a checkpoint
    DIR/weights/*.safetensors     one file per part of the network and per decoder layer
    DIR/config.json, dataset_statistics.json, tokenizer.json    copies of the original's companion files

While a compression runs, `unfinished.json` takes the place of `compressed.json` and lists what is done so far.
"""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Generic, Literal, TypeVar

import safetensors
import torch
from pydantic import Field, ValidationError
from safetensors.torch import save_file
from torch import Tensor

from sqap_vla_ros.config.recipe import Granularity, Recipe
from sqap_vla_ros.config.settings import Group
from sqap_vla_ros.core.files import whole_file, write_whole
from sqap_vla_ros.vlm.checkpoint import COMPRESSED, UNFINISHED
from sqap_vla_ros.vlm.lowbit.linear import InputFormat, StoredLinear
from sqap_vla_ros.vlm.lowbit.weight import WEIGHT_FIELDS, weight_from_tensors
from sqap_vla_ros.vlm.weights import CheckpointError

_SMALL_BYTES = 2**20

ShapesT = TypeVar("ShapesT", bound=Group)


class LinearEntry(Group):
    """One quantised linear layer, as `sqap-vla inspect` shows it."""

    rows: int
    columns: int
    bits: float = Field(description="Stored bits per weight, without scales")
    activation_bits: int
    block: int
    clip: float
    granularity: Granularity
    nbytes: int = Field(description="Bytes on disk")
    weight_error: float = Field(description="Relative to the weight, Frobenius norm")
    output_error: float | None = Field(None, description="Relative to the output on the calibration frames")


class FileEntry(Group):
    """One file of weights."""

    sha256: str
    nbytes: int


class Origin(Group):
    """The checkpoint that was compressed."""

    name: str
    sha256: str


class Calibration(Group):
    """The frames that the compression was calibrated on."""

    sources: tuple[str, ...]
    frames: int
    sha256: str


class Identity(Group):
    """What a compression was asked for; an unfinished one is resumed only under the same identity."""

    format: Literal[1] = 1
    recipe: Recipe
    source: Origin
    beside: dict[str, str] = Field(description="SHA-256 of configuration, statistics and tokenizer, by file name")
    calibration: Calibration | None

    @property
    def label(self) -> str:
        """The recipe's name, with a mark where its calibration was left out."""
        is_calibrated = self.calibration is not None or not self.recipe.left_out_without_frames
        return self.recipe.name if is_calibrated else f"{self.recipe.name} (uncalibrated)"


class StoredManifest(Group, Generic[ShapesT]):
    """The JSON of a compressed checkpoint; `ShapesT` holds the sizes of the network."""

    identity: Identity
    shapes: ShapesT
    notes: tuple[str, ...] = Field((), description="Where the result differs from what the recipe asks, and why")
    files: dict[str, FileEntry] = {}
    linears: dict[str, LinearEntry] = {}

    @property
    def nbytes(self) -> int:
        """Bytes of all weights on disk."""
        return sum(entry.nbytes for entry in self.files.values())


ManifestT = TypeVar("ManifestT", bound=StoredManifest[Any])


def read_manifest_as(kind: type[ManifestT], directory: Path, name: str = COMPRESSED) -> ManifestT:
    """Read the JSON of a compressed checkpoint.

    Args:
        kind: The manifest of the network.
        directory: The compressed checkpoint.
        name: Name of the JSON file.

    Raises:
        CheckpointError: The file is missing, or is not one that this version reads; the message of an unfinished
            compression differs.
    """
    path = directory / name
    try:
        return kind.model_validate_json(path.read_bytes())
    except (FileNotFoundError, NotADirectoryError):
        if (directory / UNFINISHED).is_file():
            raise CheckpointError(
                f"{directory}: the compression is unfinished; run the same `sqap-vla compress` again, it goes on"
            ) from None
        raise CheckpointError(
            f"{directory}: no {name}; not a compressed checkpoint, which `sqap-vla compress` makes"
        ) from None
    except ValidationError as error:
        problem = error.errors()[0]
        reason = ": ".join((*map(str, problem["loc"]), problem["msg"]))
    except OSError as error:
        reason = str(error)
    raise CheckpointError(f"{path}: cannot be used ({reason}); remove {directory} and compress again")


def write_manifest(directory: Path, manifest: StoredManifest[Any], name: str) -> None:
    """Write the JSON so that a crash leaves the old file or the new one, never a part."""
    write_whole(directory / name, (json.dumps(manifest.model_dump(mode="json"), indent=1) + "\n").encode())


def write_weights(directory: Path, name: str, tensors: Mapping[str, Tensor]) -> FileEntry:
    """Write one file of weights, as a whole or not at all.

    Raises:
        OSError: The disk is full, or the directory cannot be written.
    """
    path = directory / "weights" / f"{name}.safetensors"
    path.parent.mkdir(exist_ok=True)
    with whole_file(path) as part:
        try:
            save_file({key: tensor.contiguous().cpu() for key, tensor in tensors.items()}, part)
        except safetensors.SafetensorError as error:
            raise OSError(f"{path}: {error}") from None
        with part.open("rb") as file:
            entry = FileEntry(sha256=hashlib.file_digest(file, "sha256").hexdigest(), nbytes=part.stat().st_size)
        part.chmod(0o644)  # safetensors lets only the owner read
    return entry


def read_weights(directory: Path, name: str, entry: FileEntry) -> dict[str, Tensor]:
    """Map one file of weights, after its hash was checked.

    Args:
        directory: The compressed checkpoint.
        name: Name of the file in the manifest.
        entry: The manifest's entry of the file.

    Raises:
        CheckpointError: The file is missing, or is not the one that the manifest lists.
    """
    path = directory / "weights" / f"{name}.safetensors"
    try:
        with path.open("rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
        if found != entry.sha256:
            raise CheckpointError(f"{path}: not the file that was written (its hash differs); copy or compress again")
        with safetensors.safe_open(path, framework="pt") as opened:
            return {key: _apart(opened.get_tensor(key)) for key in opened.keys()}  # noqa: SIM118 - not a mapping
    except (OSError, safetensors.SafetensorError) as error:
        raise CheckpointError(f"{path}: cannot be read ({error}); copy or compress again") from None


def _apart(tensor: Tensor) -> Tensor:
    """A copy of a small tensor: as a view, one scale that is kept would keep the whole mapped file in memory."""
    return tensor.clone() if tensor.nbytes < _SMALL_BYTES else tensor


def check_companions(directory: Path, identity: Identity) -> None:
    """Compare configuration, statistics and tokenizer with what was compressed: they scale the arm's motion.

    Raises:
        CheckpointError: A file is missing or differs.
    """
    for name, sha256 in identity.beside.items():
        path = directory / name
        if not path.is_file() or hashlib.sha256(path.read_bytes()).hexdigest() != sha256:
            raise CheckpointError(f"{path}: missing, or not the file that was written; copy it from the original")


def linear_tensors(name: str, linear: StoredLinear) -> dict[str, Tensor]:
    """The tensors that a file holds of a quantised linear layer."""
    named = {f"{name}.{field}": tensor for field, tensor in linear.weight.tensors().items()}
    return named if linear.divisor is None else {**named, f"{name}.divisor": linear.divisor}


def read_linear(tensors: Mapping[str, Tensor], name: str, entry: LinearEntry) -> StoredLinear:
    """A quantised linear layer from the tensors of its file."""
    fields = {field: tensors[f"{name}.{field}"] for field in WEIGHT_FIELDS if f"{name}.{field}" in tensors}
    weight = weight_from_tensors(fields, entry.rows, entry.columns)
    divisor = tensors.get(f"{name}.divisor")
    return StoredLinear(weight, InputFormat(entry.activation_bits, entry.block, entry.clip, entry.granularity), divisor)


def describe(linear: StoredLinear, exact: Tensor, output_error: float | None = None) -> LinearEntry:
    """The manifest's entry of a quantised linear layer.

    Args:
        linear: What is stored.
        exact: float32 (rows, columns), the weight that it approximates.
        output_error: Relative error of the outputs on the calibration frames.
    """
    rounded = linear.weight.dequantised()
    if linear.divisor is not None:
        rounded /= linear.divisor
    least = torch.finfo(torch.float32).tiny
    return LinearEntry(
        rows=linear.weight.rows,
        columns=linear.weight.columns,
        bits=linear.weight.mean_bits,
        activation_bits=linear.input_format.bits,
        block=linear.input_format.block,
        clip=linear.input_format.clip,
        granularity=linear.input_format.granularity,
        nbytes=linear.weight.nbytes,
        weight_error=float(rounded.sub_(exact).norm() / exact.norm().clamp_min(least)),
        output_error=output_error,
    )

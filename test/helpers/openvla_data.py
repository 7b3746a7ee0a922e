"""The golden data of OpenVLA: arrays, pictures, whole directories, networks, and the inputs of a case."""

import json
import shutil
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from paths import DATA
from PIL import Image

from sqap_vla_ros.policies.openvla.build import load_openvla
from sqap_vla_ros.policies.openvla.checkpoint import OpenVlaCheckpoint, open_openvla
from sqap_vla_ros.policies.openvla.model import Inputs, OpenVla
from sqap_vla_ros.policies.openvla.statistics import DatasetStatistics, normalise_state

GOLDEN = DATA / "openvla_oft"
BASE = "libero_l1"
HEADS = {"dino_heads": 3, "siglip_heads": 2}
"""Heads of the small towers, which no file of the directory says."""


@cache
def arrays(name: str) -> dict[str, NDArray[Any]]:
    """Arrays of a golden file, not to be changed."""
    return dict(np.load(GOLDEN / name))


@cache
def picture(name: str) -> NDArray[np.uint8]:
    """A golden picture, uint8 (height, width, 3), not to be changed."""
    return np.array(Image.open(GOLDEN / "images" / f"{name}.png").convert("RGB"))


def turned(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """A picture turned by 180 degrees."""
    return np.ascontiguousarray(image[::-1, ::-1])


def write_directory(directory: Path, checkpoint: str) -> Path:
    """Write a whole directory: the model files of `libero_l1`, and the files that differ."""
    shutil.copytree(
        GOLDEN / "checkpoints" / BASE, directory, ignore=shutil.ignore_patterns("*.pt", "dataset_statistics.json")
    )
    shutil.copytree(GOLDEN / "checkpoints" / checkpoint, directory, dirs_exist_ok=True)
    return directory


@dataclass(frozen=True)
class Case:
    """A golden run.

    Attributes:
        name: Name in `cases.json`.
        directory: Directory of its checkpoint.
    """

    name: str
    directory: Path

    @cached_property
    def about(self) -> dict[str, Any]:
        return json.loads((GOLDEN / "cases" / "cases.json").read_text())[self.name]

    def array(self, quantity: str) -> NDArray[Any]:
        """A recorded array; what the run with 10 diffusion steps shares is recorded with the one of 50."""
        stored = arrays(f"cases/{self.about['file']}")
        name = f"{self.name}_{quantity}"
        return stored[name if name in stored else f"{self._inputs}_{quantity}"]

    def recorded(self, quantity: str) -> bool:
        return f"{self.name}_{quantity}" in arrays(f"cases/{self.about['file']}")

    @property
    def _inputs(self) -> str:
        return self.name.replace("diffusion10", "diffusion50")

    @cached_property
    def checkpoint(self) -> OpenVlaCheckpoint:
        return open_openvla(self.directory)

    @cached_property
    def network(self) -> OpenVla:
        return load_network(self.checkpoint)

    @property
    def statistics(self) -> DatasetStatistics:
        return self.checkpoint.statistics[self.about["unnorm_key"]]

    @property
    def slots(self) -> int:
        return self.about["chunk"] * self.about["action_dim"]

    @cached_property
    def inputs(self) -> Inputs:
        images = np.stack([picture(f"{name}_cropped") for name in self.about["images"]])
        stored, state = arrays(f"cases/{self.about['file']}"), None
        if f"{self._inputs}_state" in stored:
            bounds = self.statistics.bounds("proprio", self.about["normalization"])
            state = normalise_state(self.array("state"), bounds)
        return Inputs(images, torch.from_numpy(self.array("input_ids")), state)


def load_network(checkpoint: OpenVlaCheckpoint) -> OpenVla:
    """The network of a golden checkpoint."""
    told = {"discrete": "parallel", "openvla": "autoregressive"}.get(checkpoint.directory.name)
    return load_openvla(checkpoint, decoding=told, architecture=HEADS)


def close(found: Any, expected: NDArray[Any], tolerance: float) -> None:
    """Compare with an absolute tolerance."""
    np.testing.assert_allclose(np.asarray(found, dtype=expected.dtype), expected, rtol=0, atol=tolerance)

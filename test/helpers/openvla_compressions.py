"""Small compressions of the golden OpenVLA-OFT checkpoints, and what calibrates them."""

import json
from pathlib import Path
from typing import Any

import numpy as np
from openvla_data import HEADS, write_directory

from sqap_vla_ros.config.openvla import OpenVlaConfig
from sqap_vla_ros.config.policy import read_policy
from sqap_vla_ros.config.recipe import Recipe
from sqap_vla_ros.policies.openvla.checkpoint import open_openvla
from sqap_vla_ros.testing.small_tokenizer import write_small_tokenizer
from sqap_vla_ros.tools.compression.calibration import CalibrationFrame, CalibrationFrames
from sqap_vla_ros.tools.compression.compress import compress
from sqap_vla_ros.tools.compression.openvla_family import OpenVlaFamily
from sqap_vla_ros.vlm.lowbit.store import StoredManifest

KEY = "libero_spatial_no_noops"
POLICIES = {
    "libero_l1": "openvla-oft-libero",
    "aloha_film": "openvla-oft-aloha",
    "aloha_diffusion": "openvla-oft-aloha",
    "discrete": "openvla-oft-bridge",
    "openvla": "openvla-bridge",
}


def write_run(directory: Path, checkpoint: str) -> Path:
    """A directory that a user would have: with a tokenizer, and the heads of its small towers."""
    write_directory(directory, checkpoint)
    write_small_tokenizer(directory, ["open the drawer"])
    config = json.loads((directory / "config.json").read_text())
    (directory / "config.json").write_text(json.dumps({**config, "architecture": HEADS}))
    return directory


def trained_as(checkpoint: str) -> OpenVlaConfig:
    """How a golden checkpoint was trained."""
    config = read_policy(POLICIES[checkpoint]).openvla
    assert config is not None
    return config


def family_of(run: Path) -> OpenVlaFamily:
    """A run that is compressed."""
    key = {"libero_l1": KEY, "openvla": "bridge_orig"}.get(run.name, "")
    return OpenVlaFamily(open_openvla(run), trained_as(run.name), key)


def compressed_openvla(run: Path, recipe: Recipe, directory: Path, **options: Any) -> StoredManifest[Any]:
    """Compress a run."""
    return compress(family_of(run), recipe, directory, **options)


def drawn_views(count: int, views: int = 2, state: int = 8, seed: int = 0) -> CalibrationFrames:
    """Frames of several cameras of coarse noise, with a state."""
    generator = np.random.default_rng(seed)
    frames = []
    for _ in range(count):
        first, *further = generator.integers(0, 256, (views, 8, 8, 3), np.uint8).repeat(16, 1).repeat(16, 2)
        numbers = generator.normal(0, 0.3, state) if state else None
        frames.append(CalibrationFrame(first, "open the drawer", tuple(further), numbers))
    return CalibrationFrames((f"noise {seed}",), tuple(frames))

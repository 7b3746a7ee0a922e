"""A small CogACT checkpoint with random weights in the published layout, for tests and for trying things out.

It plans in milliseconds. Its actions are moderate and mean nothing: the arm wanders.
"""

import io
import json
import shutil
from pathlib import Path
from typing import Any

import torch

from sqap_vla_ros.config.files import ConfigurationError
from sqap_vla_ros.core.files import write_whole
from sqap_vla_ros.testing.networks import ATTENTION_HEADS, SMALL, random_parts
from sqap_vla_ros.testing.small_tokenizer import write_small_tokenizer
from sqap_vla_ros.vlm.checkpoint import BASE_VLM
from sqap_vla_ros.vlm.statistics import STATISTICS_FILE

STATISTICS_KEY = "libero"
_RUN_ID = "random-"
# Largest steps of the tool at 20 Hz, metres and radians: slow enough that an arm with random weights stays in view.
_STEP_M, _STEP_RAD = 0.006, 0.012
_INSTRUCTIONS = (
    "pick up the black bowl between the plate and the ramekin and place it on the plate",
    "pick up the alphabet soup and place it in the basket",
    "put both the cream cheese box and the butter in the basket",
    "put the white mug on the left plate and put the yellow and white mug on the right plate",
    "open the middle drawer of the cabinet",
    "open the top drawer and put the bowl inside",
    "push the plate to the front of the stove",
    "turn on the stove and put the moka pot on it",
    "put the wine bottle on top of the cabinet",
    "close the microwave",
)


def write_random_checkpoint(directory: Path, size: str = "small", seed: int = 0) -> Path:
    """Write a run directory: weights, configuration, statistics and tokenizer.

    Args:
        directory: The run directory; made when it is not there. An earlier random checkpoint in it is replaced.
        size: A key of `networks.SMALL`.
        seed: The same seed gives the same file.

    Returns:
        The run directory.

    Raises:
        ConfigurationError: The directory holds something else.
        OSError: It cannot be written.
    """
    _refuse_other_use(directory)
    try:
        _write(directory, size, seed)
    except OSError:
        if not (directory / "config.json").exists():  # nothing incomplete is left
            shutil.rmtree(directory, ignore_errors=True)
        raise
    return directory


def _write(directory: Path, size: str, seed: int) -> None:
    weights = directory / "checkpoints" / "random-cogact.pt"
    content = io.BytesIO()
    torch.save({"model": random_parts(SMALL[size], seed)}, content)
    directory.mkdir(parents=True, exist_ok=True)
    weights.parent.mkdir(exist_ok=True)
    write_whole(weights, content.getvalue())
    heads = dict.fromkeys(("dino_heads", "siglip_heads", "llm_heads", "llm_kv_heads", "dit_heads"), ATTENTION_HEADS)
    write_run_files(directory, f"{_RUN_ID}{size}", heads, seed)


def write_run_files(directory: Path, kind: str, heads: dict[str, int], seed: int = 0) -> None:
    """Write the companion files of the weights: tokenizer, statistics, and last the configuration.

    Args:
        directory: The run directory.
        kind: Name of the network's size.
        heads: Numbers of attention heads; empty for the published sizes.
        seed: Seed that the weights were drawn with.
    """
    config = {
        "run_id": f"{kind}-cogact",
        "seed": seed,
        "vla": {"base_vlm": BASE_VLM},
        "action_model_type": kind,
        "future_action_window_size": 15,
        "past_action_window_size": 0,
        "action_dim": 7,
        "architecture": heads,
    }
    limit = [_STEP_M] * 3 + [_STEP_RAD] * 3
    action = {"q01": [*(-value for value in limit), 0.0], "q99": [*limit, 1.0], "mask": [True] * 6 + [False]}
    _write_json(directory / STATISTICS_FILE, {STATISTICS_KEY: {"action": action}})
    write_small_tokenizer(directory, _INSTRUCTIONS)
    _write_json(directory / "config.json", config)  # last: without it nothing takes the directory for a checkpoint


def _refuse_other_use(directory: Path) -> None:
    if not directory.exists() or (directory.is_dir() and not any(directory.iterdir())):
        return
    try:
        is_random = json.loads((directory / "config.json").read_text(encoding="utf-8"))["run_id"].startswith(_RUN_ID)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        is_random = False
    if not is_random:
        raise ConfigurationError(f"{directory}: not empty, and not a random checkpoint; choose another directory")


def _write_json(path: Path, content: dict[str, Any]) -> None:
    write_whole(path, (json.dumps(content, indent=2) + "\n").encode())

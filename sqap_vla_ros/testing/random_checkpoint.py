"""A small CogACT with random weights in the published layout, for the demo and for tests.

It plans in milliseconds and its actions are moderate and mean nothing: the arm wanders.
"""

import json
import math
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor

from sqap_vla_ros.policies.cogact.action_head import ActionHeadShape, action_head_layout
from sqap_vla_ros.policies.cogact.checkpoint import BASE_VLM
from sqap_vla_ros.testing.small_tokenizer import write_small_tokenizer
from sqap_vla_ros.vlm.language import LanguageShape, language_layout
from sqap_vla_ros.vlm.projector import projector_layout
from sqap_vla_ros.vlm.statistics import STATISTICS_FILE
from sqap_vla_ros.vlm.vision import TowerShape, tower_layout
from sqap_vla_ros.vlm.weights import Layout

STATISTICS_KEY = "libero"
_VOCABULARY = 32064
_HEADS = 4
# (tower width, tower depth), (language width, depth), (action head width, depth)
SIZES = MappingProxyType(
    {
        "tiny": ((32, 2), (64, 3), (48, 2)),
        "small": ((64, 3), (128, 4), (96, 3)),
    }
)
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
    """Write a run directory: weights, configuration, statistics, tokenizer.

    Args:
        directory: The run directory; made when it is not there.
        size: A key of `SIZES`; "small" has about two million parameters beside the embedding table.
        seed: The same seed gives the same file.

    Returns:
        The run directory.
    """
    weights = directory / "checkpoints" / "random-cogact.pt"
    weights.parent.mkdir(parents=True, exist_ok=True)
    torch.save({"model": _random_parts(size, torch.Generator().manual_seed(seed))}, weights)
    heads = dict.fromkeys(("dino_heads", "siglip_heads", "llm_heads", "llm_kv_heads", "dit_heads"), _HEADS)
    write_run_files(directory, f"random-{size}", heads, seed)
    return directory


def write_run_files(directory: Path, kind: str, heads: dict[str, int], seed: int = 0) -> None:
    """Write what lies beside the weights: configuration, statistics, tokenizer.

    Args:
        directory: The run directory.
        kind: Of the network.
        heads: Numbers of attention heads; empty for the published sizes.
        seed: That the weights were drawn with.
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
    _write_json(directory / "config.json", config)
    limit = [_STEP_M] * 3 + [_STEP_RAD] * 3
    action = {"q01": [*(-value for value in limit), 0.0], "q99": [*limit, 1.0], "mask": [True] * 6 + [False]}
    _write_json(directory / STATISTICS_FILE, {STATISTICS_KEY: {"action": action}})
    write_small_tokenizer(directory, _INSTRUCTIONS)


def _write_json(path: Path, content: dict[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def _random_parts(size: str, generator: torch.Generator) -> dict[str, dict[str, Tensor]]:
    (tower_width, tower_depth), (language_width, language_depth), (head_width, head_depth) = SIZES[size]
    dino = TowerShape("dino", tower_width, tower_depth, _HEADS, 4 * tower_width, grid=16, patch_px=14, registers=4)
    siglip = TowerShape("siglip", tower_width, tower_depth, _HEADS, 4 * tower_width, grid=16, patch_px=14)
    per_head = language_width // _HEADS
    language = LanguageShape(
        language_width, language_depth, _HEADS, _HEADS, per_head, round(language_width * 2.6875), _VOCABULARY
    )
    head = ActionHeadShape(head_width, head_depth, _HEADS, 4 * head_width, language_width, action_dim=7, horizon=16)
    projector = projector_layout(2 * tower_width, 8 * tower_width, language_width)
    parts = {
        "vision_backbone": _draw(tower_layout(dino), generator) | _draw(tower_layout(siglip), generator),
        "projector": _draw(projector, generator),
        "llm_backbone": _draw(language_layout(language), generator),
        "action_model": _draw(action_head_layout(head), generator),
    }
    llm = parts["llm_backbone"]
    llm["llm.lm_head.weight"] = llm["llm.model.embed_tokens.weight"]
    _look_around(llm)
    _see_noise_as_noise(parts["action_model"])
    return parts


def _draw(layout: Layout, generator: torch.Generator) -> dict[str, Tensor]:
    """Weights that keep the size of what passes through them; identity norms, no biases."""
    tensors = {}
    for name, shape in {**layout.required, **layout.optional}.items():
        if "norm" in name or name.endswith("gamma"):
            tensors[name] = torch.zeros(shape) if name.endswith(".bias") else torch.ones(shape)
        elif name.endswith(".bias"):
            tensors[name] = torch.zeros(shape)
        else:
            matrix = name.endswith(".weight") and "embed_tokens" not in name
            scale = math.prod(shape[1:]) ** -0.5 if matrix else 0.5
            tensors[name] = torch.randn(shape, generator=generator) * scale
    return tensors


def _look_around(llm: dict[str, Tensor]) -> None:
    """Let attention choose and count: with plain random weights it is even, and the image hardly matters."""
    for name in llm:
        if name.endswith(("q_proj.weight", "k_proj.weight", "o_proj.weight")):
            llm[name] = llm[name] * 2.0


def _see_noise_as_noise(head: dict[str, Tensor]) -> None:
    """Let the head predict its input and a share of the condition: then sampling ends within a few times the limits."""
    into = head["net.x_embedder.linear.weight"]
    head["net.final_layer.linear.weight"] = into.T.contiguous() * (into.shape[1] / into.shape[0])
    for name in head:
        if name.endswith(("mlp.fc2.weight", "positional_embedding")):
            head[name] = head[name] * 0.2
        elif name.endswith("z_embedder.linear.weight"):
            head[name] = head[name] * 4.0

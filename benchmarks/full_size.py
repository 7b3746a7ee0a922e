"""CogACT-Base at its full size, with random weights, as a checkpoint on disk.

Random weights cost the same time and memory as trained ones.
"""

import json
import math
import struct
from collections.abc import Mapping
from pathlib import Path

import torch
from rich.progress import Progress

from sqap_vla_ros.policies.cogact.action_head import action_head_layout
from sqap_vla_ros.policies.cogact.published import DINO, HEADS, LANGUAGE, PROJECTOR_HIDDEN, SIGLIP
from sqap_vla_ros.testing.random_checkpoint import write_run_files
from sqap_vla_ros.vlm.language import LanguageShape, language_layout
from sqap_vla_ros.vlm.projector import projector_layout
from sqap_vla_ros.vlm.vision import tower_layout
from sqap_vla_ros.vlm.weights import Layout, Shape


def layouts(language: LanguageShape = LANGUAGE) -> dict[str, Layout]:
    """Names and shapes of the whole checkpoint, by its parts."""
    towers = tower_layout(DINO), tower_layout(SIGLIP)
    return {
        "vision_backbone": Layout(
            {**towers[0].required, **towers[1].required}, {**towers[0].optional, **towers[1].optional}
        ),
        "projector": projector_layout(DINO.width + SIGLIP.width, PROJECTOR_HIDDEN, language.width),
        "llm_backbone": language_layout(language),
        "action_model": action_head_layout(HEADS["base"]),
    }


def write_full_size(directory: Path, language: LanguageShape = LANGUAGE) -> Path:
    """Write a run directory with bfloat16 weights, a tensor at a time; one that is there already is kept.

    Args:
        directory: The run directory.
        language: Fewer layers make a shorter checkpoint of the same widths.
    """
    weights = directory / "checkpoints" / "random-cogact-base.safetensors"
    if weights.is_file():
        return directory
    weights.parent.mkdir(parents=True, exist_ok=True)
    shapes = {
        f"{part}.{name}": shape
        for part, layout in layouts(language).items()
        for name, shape in {**layout.required, **layout.optional}.items()
    }
    generator = torch.Generator().manual_seed(0)
    unfinished = weights.with_suffix(".part")
    with unfinished.open("wb") as file, Progress() as progress:
        task = progress.add_task("writing random weights", total=sum(math.prod(shape) for shape in shapes.values()))
        header = json.dumps(_header(shapes)).encode()
        file.write(struct.pack("<Q", len(header)) + header)
        for name, shape in shapes.items():
            file.write(_draw(name, shape, generator).view(torch.uint8).numpy().data)
            progress.advance(task, math.prod(shape))
    write_run_files(directory, "random-base", {})
    unfinished.replace(weights)
    return directory


def _header(shapes: Mapping[str, Shape]) -> dict[str, object]:
    """The header of a safetensors file, whose library writes only what is in memory at once."""
    header: dict[str, object] = {}
    start = 0
    for name, shape in shapes.items():
        end = start + 2 * math.prod(shape)
        header[name] = {"dtype": "BF16", "shape": shape, "data_offsets": [start, end]}
        start = end
    return header


def _draw(name: str, shape: Shape, generator: torch.Generator) -> torch.Tensor:
    if "norm" in name or name.endswith(("gamma", ".bias")):
        return torch.full((math.prod(shape),), float(not name.endswith(".bias")), dtype=torch.bfloat16)
    scale = math.prod(shape[1:]) ** -0.5
    return torch.empty(math.prod(shape), dtype=torch.bfloat16).normal_(0, scale, generator=generator)

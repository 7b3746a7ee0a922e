"""Writes CogACT-Base at its full size with random weights as a checkpoint, for benchmarks of time and memory.

Random weights cost the same time and memory as trained ones.
"""

import json
import math
import struct
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import torch
from rich.progress import Progress

from sqap_vla_ros.core.files import whole_file
from sqap_vla_ros.policies.cogact.published import layouts, published_shapes
from sqap_vla_ros.testing.random_checkpoint import write_run_files
from sqap_vla_ros.vlm.weights import Shape


def write_full_size(directory: Path, decoder_layers: int | None = None) -> Path:
    """Write a run directory with bfloat16 weights, a tensor at a time. An existing one is kept.

    Args:
        directory: The run directory.
        decoder_layers: Decoder layers, for a shorter checkpoint of the same widths; None: as published.
    """
    weights = directory / "checkpoints" / "random-cogact-base.safetensors"
    if weights.is_file():
        return directory
    weights.parent.mkdir(parents=True, exist_ok=True)
    sizes = published_shapes()
    if decoder_layers is not None:
        sizes = sizes.model_copy(update={"language": replace(sizes.language, depth=decoder_layers)})
    shapes = {
        f"{part}.{name}": shape
        for part, layout in layouts(sizes).items()
        for name, shape in {**layout.required, **layout.optional}.items()
    }
    generator = torch.Generator().manual_seed(0)
    write_run_files(directory, "random-base", {})
    with whole_file(weights) as part, part.open("wb") as file, Progress() as progress:
        task = progress.add_task("writing random weights", total=sum(math.prod(shape) for shape in shapes.values()))
        header = json.dumps(_header(shapes)).encode()
        file.write(struct.pack("<Q", len(header)) + header)
        for name, shape in shapes.items():
            file.write(_draw(name, shape, generator).view(torch.uint8).numpy().data)
            progress.advance(task, math.prod(shape))
    return directory


def _header(shapes: Mapping[str, Shape]) -> dict[str, object]:
    """Make the header of a safetensors file, because its library writes only tensors that are all in memory."""
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

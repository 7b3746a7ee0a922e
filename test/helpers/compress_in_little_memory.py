"""Run as a script: compress a checkpoint of many layers; print the peak of its memory beyond the start, and its size.

A process of its own, because memory that was used before it would be taken again unseen.
"""

import re
import sys
from dataclasses import replace
from pathlib import Path

import torch
from compressions import compressed, named_recipe

from sqap_vla_ros.testing import networks, random_checkpoint
from sqap_vla_ros.testing.random_checkpoint import write_random_checkpoint


def memory_kib(field: str) -> int:
    """Of this process: VmRSS, or VmHWM, its peak."""
    match = re.search(rf"^{field}:\s+(\d+) kB", Path("/proc/self/status").read_text(), re.MULTILINE)
    assert match is not None
    return int(match[1])


def main(directory: Path) -> None:
    """Warm up on a tiny checkpoint, then measure."""
    torch.set_num_threads(1)
    recipe = named_recipe("w4a4", weights={"bits": 4, "rounding": "nearest", "clip_search": False})
    compressed(write_random_checkpoint(directory / "tiny", "tiny"), recipe, directory / "warm")
    shapes = networks.small_shapes((32, 2), (256, 24), (48, 2))
    shapes = shapes.model_copy(update={"language": replace(shapes.language, vocabulary=512)})
    random_checkpoint.SMALL = {"deep": shapes}
    run = write_random_checkpoint(directory / "deep", "deep")
    size = (run / "checkpoints" / "random-cogact.pt").stat().st_size
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts again from here
    before = memory_kib("VmRSS")
    compressed(run, recipe, directory / "out")
    print(1024 * (memory_kib("VmHWM") - before), size)


if __name__ == "__main__":
    main(Path(sys.argv[1]))

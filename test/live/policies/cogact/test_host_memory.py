"""Memory of a process that loads a checkpoint."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from sqap_vla_ros.vlm.language import LanguageShape, language_layout


@pytest.mark.parametrize(("dtype", "share"), [("float32", 1.0), ("bfloat16", 0.5)])
def test_host_memory_never_holds_the_weights_twice(tmp_path: Path, dtype: str, share: float) -> None:
    """Peak memory of a fresh process that loads 200 MB of weights."""
    layers = language_layout(LanguageShape(512, 16, 4, 4, 128, 1376, vocabulary=1000)).required
    weights = {name: torch.ones(shape) for name, shape in layers.items()}
    size = sum(tensor.nbytes for tensor in weights.values())
    part = tmp_path / "language.pt"
    torch.save(weights, part)
    script = f"""
import pathlib, torch
import transformers.models.llama.modeling_llama
from sqap_vla_ros.vlm.language import load_language
from sqap_vla_ros.vlm.weights import Part
def memory(field):
    status = pathlib.Path("/proc/self/status").read_text()
    return 1024 * int(status.split(field + ":")[1].split()[0])
tensors = torch.load({str(part)!r}, weights_only=True, mmap=True)
before = memory("VmRSS")
model = load_language(Part("llm_backbone", tensors, mapped=True), {{"llm_heads": 4}}, torch.{dtype})
print(memory("VmHWM") - before)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    # Half a copy is left for threads and allocators; a second one, or pages that stay mapped, would be a whole one.
    assert int(done.stdout) < (share + 0.5) * size

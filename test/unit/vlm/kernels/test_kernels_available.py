"""Who asks for the GPU's kernels where they cannot run is told why; nobody else needs Triton."""

import subprocess
import sys

import pytest
import torch
import triton

from sqap_vla_ros.vlm.kernels import TritonUnavailable, require_triton

WITHOUT_TRITON = """
import sys
sys.modules["triton"] = None
import torch
from sqap_vla_ros.vlm.lowbit.products import make_product
from sqap_vla_ros.vlm.lowbit.weight import round_to_nearest
weight = round_to_nearest(torch.eye(32), 4)
print(make_product(weight, 4, "float_sums").accumulate(torch.ones(32, 32, dtype=torch.int8)).sum().item())
make_product(weight, 4, "triton")
"""


def test_without_triton_the_cpu_multiplies_and_the_gpus_product_is_refused_in_one_line() -> None:
    result = subprocess.run([sys.executable, "-c", WITHOUT_TRITON], capture_output=True, text=True, cwd=".")
    assert result.stdout.split() == [str(7 * 32 * 32)]
    assert "TritonUnavailable: the GPU's integer kernels need the package `triton`" in result.stderr.splitlines()[-1]


def test_a_cpu_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(triton.knobs.runtime, "interpret", False)
    with pytest.raises(TritonUnavailable, match="cannot run on device `cpu`: expected a CUDA GPU"):
        require_triton(torch.device("cpu"))


def test_a_cpu_will_do_for_the_interpreter(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(triton.knobs.runtime, "interpret", True)
    require_triton(torch.device("cpu"))


def test_a_gpu_older_than_ampere_is_refused_by_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(triton.knobs.runtime, "interpret", False)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: (7, 5))
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda _: "Tesla T4")
    with pytest.raises(TritonUnavailable, match="^Tesla T4 has compute capability 7.5, .* expected 8.0 or later"):
        require_triton(torch.device("cuda"))

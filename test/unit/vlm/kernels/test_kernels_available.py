"""Who asks for the GPU's kernels where they cannot run is told why."""

import pytest
import torch
import triton

from sqap_vla_ros.vlm.kernels import TritonUnavailable, require_triton


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

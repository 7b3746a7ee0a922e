"""The command that installs torch, chosen by what pip would install."""

import json
from pathlib import Path

import pytest
from torch_build import brings_cuda, install_torch

CPU = ["torch", "sympy", "jinja2"]
CUDA = ["torch", "sympy", "jinja2", "nvidia-cublas", "cuda-bindings", "triton"]


def report(names: list[str]) -> str:
    return json.dumps({"install": [{"metadata": {"name": name, "version": "1"}} for name in names]})


class RecordedSteps:
    """A stub of Steps that records the commands and writes the report that pip would write."""

    def __init__(self, resolved: list[str]):
        self._resolved = resolved
        self.installs: list[list[str]] = []

    def run(self, command, _environment, _advice):
        words = [str(word) for word in command]
        if "--report" in words:
            Path(words[words.index("--report") + 1]).write_text(report(self._resolved))
        else:
            self.installs.append(words)
        return ""


@pytest.fixture
def constraints(tmp_path):
    path = tmp_path / "constraints.txt"
    path.write_text("torch==2.13.0\nuv==0.13.8\n")
    return path


def installs(tmp_path, constraints, resolved, variant):
    steps = RecordedSteps(resolved)
    install_torch(steps, tmp_path, constraints, variant, {})
    return steps.installs


def test_cuda_packages_are_recognised():
    assert brings_cuda(report(CUDA))
    assert not brings_cuda(report(CPU))


@pytest.mark.parametrize("variant", ["auto", "cpu"])
def test_pip_installs_torch_where_its_build_is_without_cuda(tmp_path, constraints, variant):
    (only,) = installs(tmp_path, constraints, CPU, variant)
    assert only[-1] == "torch==2.13.0"
    assert "uv" not in only


@pytest.mark.parametrize("variant", ["auto", "cpu"])
def test_pip_never_installs_torch_where_its_build_brings_cuda(tmp_path, constraints, variant):
    uv_itself, torch = installs(tmp_path, constraints, CUDA, variant)
    assert uv_itself[-1] == "uv==0.13.8"
    assert torch[2:4] == ["uv", "pip"]
    assert f"--torch-backend={variant}" in torch


def test_a_cuda_version_is_asked_for_by_name(tmp_path, constraints):
    _, torch = installs(tmp_path, constraints, CPU, "cu130")
    assert "--torch-backend=cu130" in torch
    assert torch[-1] == "torch==2.13.0"

"""Installation of the build of torch that fits the machine: CUDA packages are installed only where they are wanted."""

import json
from collections.abc import Mapping
from pathlib import Path

from steps import Steps

CUDA_PREFIXES = ("nvidia-", "cuda-", "triton")
ADVICE = "Check the network and pip's index; `make ... TORCH=cpu` forces the build without CUDA."


def pinned(constraints: Path, name: str) -> str:
    """The line `name==version` of a constraints file."""
    return next(line for line in constraints.read_text().split() if line.startswith(f"{name}=="))


def brings_cuda(report: str) -> bool:
    """Whether pip's installation report contains a package of CUDA."""
    names = (item["metadata"]["name"].lower() for item in json.loads(report)["install"])
    return any(name.startswith(CUDA_PREFIXES) for name in names)


def install_torch(steps: Steps, venv: Path, constraints: Path, variant: str, environment: Mapping[str, str]) -> None:
    """Install the pinned version of torch.

    Args:
        steps: Runs the commands.
        venv: The virtual environment.
        constraints: The file with the version.
        variant: "auto" (by the GPU driver), "cpu", or a CUDA version as PyTorch names it ("cu130").
        environment: Environment variables of the commands.
    """
    python = venv / "bin" / "python"
    torch = pinned(constraints, "torch")
    pip: list[str | Path] = [python, "-m", "pip", "install", "--quiet", "--no-compile", "--constraint", constraints]
    if variant in ("auto", "cpu"):
        report = venv / "torch.json"
        steps.run([*pip, "--dry-run", "--report", report, torch], environment, ADVICE)
        if not brings_cuda(report.read_text()):
            steps.run([*pip, torch], environment, ADVICE)
            return
    # pip takes the CUDA build from the package index even where there is no GPU; uv chooses among all builds.
    steps.run([*pip, pinned(constraints, "uv")], environment, ADVICE)
    uv: list[str | Path] = [python, "-m", "uv", "pip", "install", "--python", python, "--constraint", constraints]
    steps.run([*uv, f"--torch-backend={variant}", torch], environment, ADVICE)

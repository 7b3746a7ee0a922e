"""Does the computer have the system packages, the Python packages and the GPU that the node needs?

This module imports nothing that a missing system package could break: OpenCV and torch only where they are checked.
"""

import importlib.util
from typing import Any

from sqap_vla_ros.core.requirements import BUILD, OPENCV, RENDERING, Requirement
from sqap_vla_ros.tools.doctor.findings import Finding, Level

# Packages that everything needs; packages that only building messages or the simulated cell needs.
_NEEDED, _OPTIONAL = OPENCV, BUILD + RENDERING
_ROS = ("rclpy", "sqap_vla")
_KINEMATICS = ("pinocchio", "pink", "daqp")


def check_system_packages() -> list[Finding]:
    """Find missing packages of the operating system."""
    findings = [
        Finding(level, "system packages", f"missing: {requirement.purpose}", _install(requirement))
        for level, requirements in ((Level.PROBLEM, _NEEDED), (Level.WARNING, _OPTIONAL))
        for requirement in requirements
        if not requirement.is_met()
    ]
    return findings or [Finding(Level.OK, "system packages", "all are installed")]


def _install(requirement: Requirement) -> str:
    return f"sudo apt-get install {' '.join(requirement.packages)}"


def check_python_packages() -> list[Finding]:
    """Find missing packages of the live node, beyond the package's own dependencies."""
    findings = []
    if missing := [name for name in _ROS if importlib.util.find_spec(name) is None]:
        what = f"missing: {', '.join(missing)}; bags can be read, but the live node cannot run"
        findings.append(Finding(Level.WARNING, "ROS", what, "source ROS 2 and this package's workspace"))
    else:
        findings.append(Finding(Level.OK, "ROS", "rclpy and this package's messages are installed"))
    if missing := [name for name in _KINEMATICS if importlib.util.find_spec(name) is None]:
        what = f"missing: {', '.join(missing)}; no joint trajectories without inverse kinematics"
        findings.append(Finding(Level.WARNING, "kinematics", what, "pip install 'sqap-vla-ros[ik]'"))
    return findings


def check_gpu(wanted: str) -> Finding:
    """Check the GPU that torch finds.

    Args:
        wanted: The setting `device`: "auto", "cpu" or "cuda".
    """
    import torch

    if not torch.cuda.is_available():
        level = Level.PROBLEM if wanted == "cuda" else Level.WARNING
        level = Level.OK if wanted == "cpu" else level
        advice = (
            ""
            if wanted == "cpu"
            else "with 7 billion parameters a plan takes seconds on a CPU; a GPU needs its driver and torch for CUDA"
        )
        return Finding(level, "GPU", f"torch {torch.__version__} finds no CUDA GPU: the policy runs on the CPU", advice)
    properties: Any = torch.cuda.get_device_properties(0)
    free, total = torch.cuda.mem_get_info(0)
    what = (
        f"{properties.name}, compute capability {properties.major}.{properties.minor}, "
        f"{free / 2**30:.1f} of {total / 2**30:.1f} GiB free"
    )
    return Finding(Level.OK, "GPU", what)

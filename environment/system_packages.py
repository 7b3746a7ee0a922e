"""Checks for packages of the operating system: root installs what is missing, others get the line that does."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

from steps import SetUpError

# The Python package is not installed yet, but its list of requirements is used.
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from sqap_vla_ros.core.requirements import BUILD, OPENCV, RENDERING, VENV, Requirement  # noqa: E402

ENVIRONMENT = VENV + OPENCV
__all__ = ["BUILD", "ENVIRONMENT", "RENDERING", "Requirement", "require"]


def require(requirements: tuple[Requirement, ...]) -> None:
    """Install what is missing where that is possible.

    Raises:
        SetUpError: Something is missing; the message has the line that installs it.
    """
    missing = [requirement for requirement in requirements if not requirement.is_met()]
    if not missing:
        return
    packages = [package for requirement in missing for package in requirement.packages]
    purposes = "; ".join(requirement.purpose for requirement in missing)
    install = ["apt-get", "install", "--yes", "--no-install-recommends", *packages]
    if os.geteuid() == 0 and shutil.which("apt-get"):
        print(f"set-up: installing system packages: {' '.join(packages)} ({purposes})", flush=True)
        environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
        for command in (["apt-get", "update"], install):
            subprocess.run(command, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, check=False)
        missing = [requirement for requirement in missing if not requirement.is_met()]
        if not missing:
            return
        purposes = "; ".join(requirement.purpose for requirement in missing)
    raise SetUpError(
        f"missing for {sys.executable}: {purposes}.\n"
        f"On Debian or Ubuntu: sudo apt-get update && sudo {' '.join(install)}\n"
        "(A Python that is not the system's brings its headers and venv itself.)"
    )

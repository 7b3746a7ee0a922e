"""What the operating system must bring: looked for, named with the line that installs it, installed by root."""

import ctypes
import importlib.util
import os
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from steps import SetUpError

EGL_VENDORS = (Path("/usr/share/glvnd/egl_vendor.d"), Path("/etc/glvnd/egl_vendor.d"))


@dataclass(frozen=True)
class Requirement:
    purpose: str
    packages: tuple[str, ...]  # of Debian and Ubuntu
    is_met: Callable[[], bool]


def _loads(library: str) -> bool:
    try:
        ctypes.CDLL(library)
    except OSError:
        return False
    return True


def _has_venv() -> bool:
    return all(importlib.util.find_spec(name) for name in ("venv", "ensurepip"))


def _has_egl() -> bool:
    return _loads("libEGL.so.1") and any(any(directory.glob("*.json")) for directory in EGL_VENDORS)


BUILD = (
    Requirement("a C++ compiler", ("g++",), lambda: shutil.which(os.environ.get("CXX", "c++")) is not None),
    Requirement("make", ("make",), lambda: shutil.which("make") is not None),
    Requirement("cmake", ("cmake",), lambda: shutil.which("cmake") is not None),
    Requirement(
        "Python's headers", ("python3-dev",), lambda: Path(sysconfig.get_path("include"), "Python.h").is_file()
    ),
)
ENVIRONMENT = (
    Requirement("Python's venv module", ("python3-venv",), _has_venv),
    Requirement("libGL, for OpenCV", ("libgl1",), lambda: _loads("libGL.so.1")),
    Requirement("GLib, for OpenCV", ("libglib2.0-0",), lambda: _loads("libgthread-2.0.so.0")),
)
RENDERING = (Requirement("EGL, for the simulator", ("libegl1", "libegl-mesa0", "libgl1-mesa-dri"), _has_egl),)


def require(requirements: tuple[Requirement, ...]) -> None:
    """Installs what is missing when that is possible.

    Raises:
        SetUpError: naming what is missing and the line that installs it.
    """
    missing = [requirement for requirement in requirements if not requirement.is_met()]
    if not missing:
        return
    packages = [package for requirement in missing for package in requirement.packages]
    purposes = "; ".join(requirement.purpose for requirement in missing)
    install = ["apt-get", "install", "--yes", "--no-install-recommends", *packages]
    if os.geteuid() == 0 and shutil.which("apt-get"):
        print(f"set-up: installs from the system's packages: {' '.join(packages)} ({purposes})", flush=True)
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

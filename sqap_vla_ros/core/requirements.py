"""Packages of the operating system that this project needs: for the set-up scripts and for the doctor.

The set-up scripts run before anything is installed, so this module imports only the standard library.
"""

import ctypes
import importlib.util
import os
import shutil
import sysconfig
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

_EGL_VENDORS = (Path("/usr/share/glvnd/egl_vendor.d"), Path("/etc/glvnd/egl_vendor.d"))


@dataclass(frozen=True)
class Requirement:
    """A requirement that pip cannot install.

    Attributes:
        purpose: What is needed, and for what.
        packages: Names of the packages in Debian and Ubuntu.
        is_met: Finds out whether the requirement is met.
    """

    purpose: str
    packages: tuple[str, ...]
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
    return _loads("libEGL.so.1") and any(any(directory.glob("*.json")) for directory in _EGL_VENDORS)


BUILD = (
    Requirement("a C++ compiler", ("g++",), lambda: shutil.which(os.environ.get("CXX", "c++")) is not None),
    Requirement("make", ("make",), lambda: shutil.which("make") is not None),
    Requirement("cmake", ("cmake",), lambda: shutil.which("cmake") is not None),
    Requirement(
        "Python's headers", ("python3-dev",), lambda: Path(sysconfig.get_path("include"), "Python.h").is_file()
    ),
)
VENV = (Requirement("Python's venv module", ("python3-venv",), _has_venv),)
OPENCV = (
    Requirement("libGL, for OpenCV", ("libgl1",), lambda: _loads("libGL.so.1")),
    Requirement("GLib, for OpenCV", ("libglib2.0-0",), lambda: _loads("libgthread-2.0.so.0")),
)
RENDERING = (Requirement("EGL, for the simulator", ("libegl1", "libegl-mesa0", "libgl1-mesa-dri"), _has_egl),)

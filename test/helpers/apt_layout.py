"""A ROS as its Debian packages lay it out, made of the wheels: a prefix apart, found by variables only.

What it cannot show: the packages that wheels lack (launch, tf2_ros, ros2cli), Debian's own Python with its
dist-packages, NumPy 1.26, another Python version, a system's setuptools.
"""

import importlib.metadata
import os
import shutil
import sys
from pathlib import Path

PYTHON_DIRECTORY = f"lib/python{sys.version_info.major}.{sys.version_info.minor}/site-packages"

# What apt installs of Python beside ROS.
SYSTEM_DISTRIBUTIONS = ("catkin-pkg", "colcon-", "distlib", "docutils", "empy", "lark-parser", "ninja", "numpy")
SYSTEM_DISTRIBUTIONS += ("packaging", "pluggy", "pyparsing", "pytest", "python-dateutil", "pyyaml", "setuptools")


def _link(source: str, destination: str) -> str:
    """Hard-links a file, or copies it to another file system."""
    resolved = os.path.realpath(source)
    try:
        os.link(resolved, destination)
    except OSError:
        shutil.copy2(resolved, destination)
    return destination


def make_apt_layout(venv: Path, prefix: Path) -> dict[str, str]:
    """Lays out a ROS at `prefix` from a virtual environment with its wheels.

    Returns:
        The variables that sourcing its setup.bash would set.
    """
    for name in ("include", "share"):
        ignored = shutil.ignore_patterns("sqap_vla", "jupyter", "man")
        shutil.copytree(venv / name, prefix / name, copy_function=_link, ignore=ignored)
    shutil.copytree(
        venv / "lib", prefix / "lib", copy_function=_link, ignore=shutil.ignore_patterns("python3*", "*sqap_vla*")
    )
    site_packages = prefix / PYTHON_DIRECTORY
    site_packages.mkdir(parents=True)
    source = venv / PYTHON_DIRECTORY
    wanted = {"tf2_msgs"}
    for distribution in importlib.metadata.distributions(path=[str(source)]):
        name = distribution.metadata["Name"].lower().replace("_", "-")
        if name.startswith(("ros-", *SYSTEM_DISTRIBUTIONS)) and name != "ros-wheels-bootstrapper":
            wanted |= {path.parts[0] for path in distribution.files or () if path.parts[0] not in ("..", "__pycache__")}
    for name in sorted(wanted):
        if (source / name).is_dir():
            shutil.copytree(source / name, site_packages / name, copy_function=_link)
        elif not name.endswith(".pth"):
            _link(str(source / name), str(site_packages / name))
    return {
        "AMENT_PREFIX_PATH": str(prefix),
        "CMAKE_PREFIX_PATH": str(prefix),
        "LD_LIBRARY_PATH": os.pathsep.join([str(prefix / "lib"), *map(str, sorted(site_packages.glob("*.libs")))]),
        "PYTHONPATH": str(site_packages),
        "ROS_DISTRO": "jazzy",
        "ROS_VERSION": "2",
    }

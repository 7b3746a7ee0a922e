"""The executable with arguments of ROS that it cannot use: one sentence, exit status 1."""

import subprocess
import sys

import pytest


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--params-file", "/no/such/file.yaml"], "Error opening YAML file"),
        (["-p", "autostart:=maybe"], "Trying to set parameter 'autostart' to 'maybe'"),
    ],
)
def test_arguments_of_ros_that_cannot_be_used_end_the_executable(words: list[str], sentence: str) -> None:
    command = [sys.executable, "-m", "sqap_vla_ros.ros.main", "--ros-args", *words]
    result = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert result.returncode == 1 and "Traceback" not in result.stderr
    assert sentence in result.stderr and "/src/" not in result.stderr.splitlines()[-1]

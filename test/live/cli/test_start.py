"""What is imported before a command runs: help must come at once."""

import subprocess
import sys

from sqap_vla_ros.cli import COMMANDS

HELP = """
import contextlib, io, sys
from sqap_vla_ros.cli import main
for words in {lines}:
    sys.argv = ["sqap-vla", *words]
    with contextlib.redirect_stdout(io.StringIO()), contextlib.suppress(SystemExit):
        main()
print(*sorted({heavy} & sys.modules.keys()))
"""


def imported(lines: list[list[str]], heavy: set[str]) -> str:
    """Those of some modules that a process has after it ran some command lines."""
    code = HELP.format(lines=lines, heavy=heavy)
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip()


def test_the_list_of_commands_imports_next_to_nothing() -> None:
    assert imported([["--help"], ["--version"]], {"tyro", "rich", "numpy", "pydantic", "torch"}) == ""


def test_the_help_of_a_command_imports_neither_torch_nor_what_computes() -> None:
    lines = [[name, "--help"] for name in COMMANDS]
    assert imported(lines, {"rich", "numpy", "pydantic", "torch", "cv2", "rosbags"}) == ""

"""Reference of the command line: what every command says about itself with `--help`."""

import os
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from sqap_vla_ros.cli import COMMANDS

ROOT = Path(__file__).resolve().parents[2]
_HEAD = """# Command line

Generated from `sqap-vla COMMAND --help`. In a checkout that `make demo` has set up the command is `.venv/bin/sqap-vla`,
on a ROS workstation `.venv-workstation/bin/sqap-vla`. A mistake in the arguments, a file that is missing or that cannot
be used ends in one sentence and exit code 2.
"""


def pages() -> dict[str, str]:
    """The page of all commands."""
    overview = help_of()
    names = list(COMMANDS)
    with ThreadPoolExecutor(2) as pool:
        helps = list(pool.map(help_of, names))
    sections = [f"\n## {name}\n\n```text\n{text}\n```\n" for name, text in zip(names, helps, strict=True)]
    return {"reference/command-line.md": f"{_HEAD}\n```text\n{overview}\n```\n" + "".join(sections)}


def help_of(*command: str) -> str:
    """What `sqap-vla COMMAND --help` prints on a terminal of 80 columns."""
    environment = {**os.environ, "COLUMNS": "80", "NO_COLOR": "1", "TERM": "dumb", "PYTHONPATH": str(ROOT)}
    line = [sys.executable, "-m", "sqap_vla_ros", *command, "--help"]
    done = subprocess.run(line, capture_output=True, text=True, check=True, env=environment)
    return re.sub(r"\x1b\[[0-9;]*m", "", done.stdout).rstrip()

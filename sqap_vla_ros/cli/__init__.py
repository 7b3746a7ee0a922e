"""The command line `sqap-vla`: one dataclass per command, whose fields are its options.

What a command needs is imported when it runs: `sqap-vla --help` answers at once.
"""

import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import Any

from sqap_vla_ros import __version__


@dataclass(frozen=True)
class Command:
    """Where a command is, and the first sentence of its help.

    Attributes:
        module: Module in this package.
        name: Name of the dataclass in it, which has a method `run(console)`.
        summary: One sentence.
    """

    module: str
    name: str
    summary: str

    def load(self) -> type[Any]:
        """Import the dataclass."""
        loaded: type[Any] = getattr(import_module(f"{__name__}.{self.module}"), self.name)
        return loaded


GROUPS: Mapping[str, Mapping[str, Command]] = {
    "bags and live topics": {
        "replay": Command("bags", "Replay", "Plan on recorded bags, and report the result."),
        "compare": Command("bags", "Compare", "Judge whether one replay plans the same as another."),
        "export": Command("export", "Export", "Write recorded bags as a LeRobot data set."),
        "doctor": Command("doctor", "Doctor", "Examine a bag or live topics before the first run."),
    },
    "compression": {
        "compress": Command("compression", "Compress", "Compress a checkpoint to low-bit integers."),
        "inspect": Command("compression", "Inspect", "Show what a compressed checkpoint holds."),
        "fidelity": Command("compression", "Fidelity", "Compare compressed checkpoints with the original."),
        "random-checkpoint": Command("compression", "RandomCheckpoint", "Write a small CogACT with random weights."),
    },
    "simulation": {
        "demo": Command("simulation", "Demo", "Drive a simulated arm over ROS 2 topics."),
        "demonstrate": Command("simulation", "Demonstrate", "Record demonstrations by scripted experts."),
        "evaluate": Command("evaluation", "Evaluate", "Measure success rates in LIBERO."),
        "simpler": Command("evaluation", "Simpler", "Measure success rates in SIMPLER."),
    },
    "training": {
        "train": Command("training", "Train", "Train a small CogACT on demonstrations."),
    },
    "speed": {
        "bench": Command("benchmark", "Bench", "Time every policy on a CogACT of full size."),
    },
}
COMMANDS: Mapping[str, Command] = {name: command for group in GROUPS.values() for name, command in group.items()}


def overview() -> str:
    """The help of `sqap-vla`: every command with its summary, by group; no line is longer than 80 characters."""
    lines = [
        "usage: sqap-vla COMMAND [OPTIONS]",
        "",
        "Run, judge and compress Vision-Language-Action policies for robot arms.",
    ]
    width = max(map(len, COMMANDS))
    for title, commands in GROUPS.items():
        lines += ["", f"{title}:"]
        lines += [f"  {name:{width}}  {command.summary}" for name, command in commands.items()]
    lines += [
        "",
        "  sqap-vla COMMAND --help    what a command does, its options and an example",
        "  sqap-vla --version",
        "",
        "Exit codes: 0 done; 1 a negative verdict; 2 a mistake in the command or its",
        "input; 130 interrupted.",
    ]
    return "\n".join(lines)


def main() -> None:
    """Run the command in `sys.argv`; a user's mistake ends in one sentence and exit code 2."""
    try:
        _run_command()
    except BrokenPipeError:  # whoever reads the output, as `head` does, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or Python complains when it flushes at exit
        sys.exit(1)


def _run_command() -> None:
    first, *words = sys.argv[1:] or [""]
    if first in ("", "-h", "--help"):
        print(overview(), file=sys.stdout if first else sys.stderr, flush=True)
        sys.exit(0 if first else 2)
    if first == "--version":
        print(f"sqap-vla {__version__}", flush=True)
        sys.exit()
    if first not in COMMANDS:
        print(f"sqap-vla: there is no command {first!r}; `sqap-vla --help` lists them", file=sys.stderr)
        sys.exit(2)
    from sqap_vla_ros.cli.running import run

    run(f"sqap-vla {first}", COMMANDS[first].load(), words)

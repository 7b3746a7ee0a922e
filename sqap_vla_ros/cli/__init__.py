"""Command line `sqap-vla`."""

import sys

import tyro
from rich.console import Console

from sqap_vla_ros.cli.bags import Compare, Doctor, Replay
from sqap_vla_ros.cli.benchmark import Bench
from sqap_vla_ros.cli.compression import Compress, Fidelity, Inspect, RandomCheckpoint
from sqap_vla_ros.cli.evaluation import Evaluate, Simpler
from sqap_vla_ros.cli.training import Demonstrate, Train
from sqap_vla_ros.core.errors import is_ours


def main() -> None:
    """Run a subcommand; a user's mistake ends in one sentence and exit code 2."""
    command = tyro.extras.subcommand_cli_from_dict(
        {
            "replay": Replay,
            "compare": Compare,
            "doctor": Doctor,
            "compress": Compress,
            "inspect": Inspect,
            "fidelity": Fidelity,
            "demonstrate": Demonstrate,
            "evaluate": Evaluate,
            "simpler": Simpler,
            "train": Train,
            "bench": Bench,
            "random-checkpoint": RandomCheckpoint,
        },
        prog="sqap-vla",
        description=__doc__,
    )
    console = Console()
    try:
        command.run(console)
    except Exception as error:
        # The project's own errors are sentences for the user; anything else is a defect and keeps its traceback.
        if not is_ours(error):
            raise
        Console(stderr=True).print(f"sqap-vla: {error}", style="red", markup=False, highlight=False)
        sys.exit(2)
    except KeyboardInterrupt:
        sys.exit(130)

"""Command line `sqap-vla`."""

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import tyro
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table

from sqap_vla_ros.errors import is_ours


@dataclass(frozen=True)
class Replay:
    """Run a recorded bag through a policy, without ROS, and write what it would have done.

    Writes ticks.parquet (one row per tick: action chunk, kept tokens, ring), timings.parquet (seconds per stage) and
    summary.json.
    """

    bag: tyro.conf.Positional[Path]
    """rosbag2 directory, or a bare .mcap or .db3 file."""
    checkpoint: str = ""
    """CogACT run directory, .pt file or Hub id; empty: the robot YAML's."""
    policy: str = "sqap"
    """Name of a file in config/policies, or a path to one."""
    robot: str = "libero_panda"
    """Name of a file in config/robots, or a path to one."""
    out: Path = Path("out/replay")
    """Directory for the results."""
    instruction: str = ""
    """What to do, in plain words; empty: what the bag's instruction topic says."""
    as_recorded: bool = False
    """Plan the ticks of a live recording again and compare with the chunks that were published."""
    image_topic: str = ""
    """Camera image topic; empty: the robot YAML's, or the only one in the bag."""
    tokenizer: str = ""
    """Directory of the Llama-2 tokenizer; empty: beside the checkpoint."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where the policy runs."""
    threads: int = 0
    """Threads of the policy on a CPU; 0: all cores but one, as in the node."""

    def run(self, console: Console) -> None:
        """Replay the bag and print the summary."""
        from sqap_vla_ros.config import load_configuration
        from sqap_vla_ros.policy import load_policy
        from sqap_vla_ros.replay.bag import Bag
        from sqap_vla_ros.replay.results import ReplayResults
        from sqap_vla_ros.replay.run import replay

        overrides = {
            "checkpoint": self.checkpoint,
            "tokenizer": self.tokenizer,
            "policy": self.policy,
            "instruction": self.instruction,
            "device": self.device,
            "torch_threads": self.threads,
        }
        configuration = load_configuration(self.robot, **{name: value for name, value in overrides.items() if value})
        with Bag(self.bag) as bag:
            topics = bag.find_topics(configuration, self.image_topic)
            policy = load_policy(configuration, console.print)
            settings = {
                "bag": str(self.bag),
                "bag_seconds": bag.duration_s,
                "as_recorded": self.as_recorded,
                "policy": policy.metadata.policy_id,
                "weights": policy.metadata.weights,
                "kept_tokens": policy.metadata.kept_tokens,
                "robot": configuration.robot_name,
                "image_topic": topics.image,
            }
            with ReplayResults(self.out, settings) as results, _progress(console) as progress:
                task = progress.add_task("seconds of the bag", total=round(bag.duration_s, 1))
                damage = replay(
                    bag,
                    topics,
                    policy,
                    configuration,
                    results,
                    as_recorded=self.as_recorded,
                    on_progress=lambda at_ns: progress.update(task, completed=(at_ns - bag.start_ns) * 1e-9),
                )
            summary = results.write_summary(damage)
        _print_summary(console, summary, self.out)


@dataclass(frozen=True)
class RandomCheckpoint:
    """Write a small random CogACT in the published layout, to try everything without the 30 GB of weights.

    It plans nonsense, at the speed of a model of its size.
    """

    directory: tyro.conf.Positional[Path]
    """Run directory to make."""
    seed: int = 0
    """The same seed gives the same weights."""

    def run(self, console: Console) -> None:
        """Write the run directory."""
        from sqap_vla_ros.cogact.random_checkpoint import write_random_checkpoint

        write_random_checkpoint(self.directory, seed=self.seed)
        console.print(f"wrote {self.directory}")


def main() -> None:
    """Run a subcommand; a user's mistake ends in one sentence and exit code 2."""
    command = tyro.extras.subcommand_cli_from_dict(
        {"replay": Replay, "random-checkpoint": RandomCheckpoint}, prog="sqap-vla", description=__doc__
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


def _progress(console: Console) -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        console=console,
    )


def _print_summary(console: Console, summary: dict[str, Any], out: Path) -> None:
    table = Table(title=f"{summary['policy']} on {summary['bag']}", show_header=False)
    table.add_row("ticks planned", str(summary["ticks_planned"]))
    table.add_row("ticks with ring", str(summary["ticks_with_ring"]))
    for reason, count in summary["no_ring_reasons"].items():
        table.add_row("  without ring", f"{count}: {reason}")
    table.add_row("ticks refused", str(summary["ticks_refused"]))
    for reason, count in summary["refusals"].items():
        table.add_row("  refused", f"{count}: {reason}")
    for stage, seconds in summary["seconds"].items():
        table.add_row(stage, f"median {seconds['p50'] * 1e3:.1f} ms, p99 {seconds['p99'] * 1e3:.1f} ms")
    if recorded := summary.get("recorded"):
        table.add_row(
            "same as recorded",
            f"{recorded['identical_bit_for_bit']} of {recorded['compared']} bit for bit "
            f"({recorded['published']} were published), "
            f"largest difference {recorded['largest_difference']:.3g}",
        )
    if summary["bag_damage"]:
        table.add_row("bag damaged", summary["bag_damage"])
    table.add_row("written to", str(out))
    console.print(table)


if __name__ == "__main__":
    main()

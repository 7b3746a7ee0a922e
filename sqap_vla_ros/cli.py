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


@dataclass(frozen=True)
class Compress:
    """Compress a CogACT checkpoint to low-bit integers, without training.

    Works part by part: a checkpoint may be larger than memory, and a run that was stopped goes on when the same command
    is given again. The directory that it makes needs nothing else to run: give it as `checkpoint` to node or replay.
    """

    checkpoint: tyro.conf.Positional[str]
    """CogACT run directory, .pt file or Hub id."""
    recipe: str = "sqap-w4a4"
    """Name of a file in config/recipes, or a path to one."""
    out: Path | None = None
    """Directory to make; empty: beside the run directory, with the recipe's name appended."""
    calibration: tuple[str, ...] = ()
    """Camera frames that GPTQ, smoothing and mixed precision look at: bags, folders of images, or libero[:SUITE]."""
    frames: int = 32
    """How many frames to take from them."""
    instruction: str = ""
    """What to do in frames that come without instruction."""
    image_topic: str = ""
    """Camera image topic of bags that have several."""
    tokenizer: str = ""
    """Directory of the Llama-2 tokenizer; empty: beside the checkpoint."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where rounding computes."""

    def run(self, console: Console) -> None:
        """Compress, with progress, and print what came out."""
        from sqap_vla_ros.cogact.checkpoint import open_checkpoint
        from sqap_vla_ros.cogact.policy import choose_device
        from sqap_vla_ros.config import validate
        from sqap_vla_ros.config_files import named_file, read_yaml
        from sqap_vla_ros.quantization.calibration import read_frames
        from sqap_vla_ros.quantization.compress import Step, compress, refuse_other_use
        from sqap_vla_ros.quantization.inspect import summary_table
        from sqap_vla_ros.quantization.recipe import Recipe

        path = named_file("recipes", self.recipe)
        recipe = validate(Recipe, read_yaml(path), str(path))
        checkpoint = open_checkpoint(self.checkpoint)
        # A checkpoint from the Hub lies in a cache: what is made of it goes here instead.
        beside = checkpoint.directory if Path(self.checkpoint).exists() else Path(self.checkpoint.replace("/", "-"))
        out = self.out or Path(f"{beside}-{recipe.name}")
        refuse_other_use(out)
        device = choose_device(self.device)
        tokenizer = Path(self.tokenizer).expanduser() if self.tokenizer else None
        frames = None
        if self.calibration:
            frames = read_frames(self.calibration, self.frames, self.instruction, self.image_topic)
            for note in frames.notes:
                console.print(f"note: {note}")
        # A layer may take minutes, and the rest is estimated from all that were done.
        with _progress(console, speed_estimate_period=3600) as progress:
            task = progress.add_task("compressing", total=None)

            def show(step: Step) -> None:
                name = f"{step.name} (done before)" if step.resumed else step.name
                progress.update(task, description=name or "complete", completed=step.done, total=step.total)

            try:
                manifest = compress(
                    checkpoint,
                    recipe,
                    out,
                    frames=frames,
                    tokenizer=tokenizer,
                    device=device,
                    on_step=show,
                    on_note=progress.console.print,
                )
            except KeyboardInterrupt:
                progress.console.print(f"stopped; what is done stays in {out}, the same command goes on from there")
                raise
        console.print(summary_table(out, manifest))
        console.print(f"next: sqap-vla inspect {out}\n      sqap-vla replay BAG --checkpoint {out}")


@dataclass(frozen=True)
class Inspect:
    """Show what a compressed checkpoint holds: per layer bits, error and bytes."""

    directory: tyro.conf.Positional[Path]
    """What `sqap-vla compress` made."""
    verify: bool = False
    """Read all files and compare their hashes."""

    def run(self, console: Console) -> None:
        """Print the tables."""
        from sqap_vla_ros.quantization.inspect import layer_table, summary_table, verify
        from sqap_vla_ros.quantization.store import read_manifest

        manifest = read_manifest(self.directory)
        console.print(layer_table(manifest))
        console.print(summary_table(self.directory, manifest))
        if self.verify:
            verify(self.directory, manifest)
            console.print(f"all {len(manifest.files)} files are as they were written")


@dataclass(frozen=True)
class Fidelity:
    """Compare compressed checkpoints with the original, frame by frame with the same noise.

    Prints how far the cognition feature and the actions are from the float model's, and how many of the visual tokens
    that it looks at most they have in common with it.
    """

    checkpoint: tyro.conf.Positional[str]
    """The original: CogACT run directory, .pt file or Hub id."""
    compressed: tyro.conf.Positional[tuple[Path, ...]]
    """What `sqap-vla compress` made of it; one or several."""
    frames_from: tuple[str, ...] = ()
    """Camera frames to ask, others than those of the calibration: bags, folders of images, or libero[:SUITE]."""
    frames: int = 16
    """How many frames to take from them."""
    instruction: str = ""
    """What to do in frames that come without instruction."""
    image_topic: str = ""
    """Camera image topic of bags that have several."""
    out: Path = Path("out/fidelity")
    """Directory for fidelity.json and fidelity.png."""
    tokenizer: str = ""
    """Directory of the Llama-2 tokenizer; empty: beside the checkpoint."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where the models run."""

    def run(self, console: Console) -> None:
        """Ask all models, print and write the report."""
        from sqap_vla_ros.cogact.checkpoint import open_checkpoint
        from sqap_vla_ros.cogact.policy import choose_device
        from sqap_vla_ros.quantization.calibration import read_frames
        from sqap_vla_ros.quantization.fidelity import report
        from sqap_vla_ros.quantization.fidelity_report import fidelity_table, write_json, write_plot

        checkpoint = open_checkpoint(self.checkpoint)
        frames = read_frames(self.frames_from, self.frames, self.instruction, self.image_topic)
        for note in frames.notes:
            console.print(f"note: {note}")
        found = report(
            checkpoint,
            self.compressed,
            frames,
            tokenizer=Path(self.tokenizer).expanduser() if self.tokenizer else None,
            device=choose_device(self.device),
            on_progress=console.print,
        )
        self.out.mkdir(parents=True, exist_ok=True)
        write_json(found, self.out / "fidelity.json")
        write_plot(found, self.out / "fidelity.png")
        console.print(fidelity_table(found))
        console.print(f"written to {self.out}")


def main() -> None:
    """Run a subcommand; a user's mistake ends in one sentence and exit code 2."""
    command = tyro.extras.subcommand_cli_from_dict(
        {
            "replay": Replay,
            "compress": Compress,
            "inspect": Inspect,
            "fidelity": Fidelity,
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


def _progress(console: Console, speed_estimate_period: float = 30.0) -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        console=console,
        speed_estimate_period=speed_estimate_period,
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

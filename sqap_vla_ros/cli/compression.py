"""What is done with checkpoints: compress, inspect, fidelity, random-checkpoint."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import tyro
from rich.console import Console

from sqap_vla_ros.cli.progress import progress_bar


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
    """Camera frames that GPTQ, smoothing and mixed precision look at: bags, folders of images or demonstrations, or
    libero[:SUITE]."""
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
        from sqap_vla_ros.config.recipe import read_recipe
        from sqap_vla_ros.policies.cogact.checkpoint import open_checkpoint
        from sqap_vla_ros.policies.cogact.policy import choose_device
        from sqap_vla_ros.tools.compression.calibration import read_frames
        from sqap_vla_ros.tools.compression.compress import Step, compress, refuse_other_use
        from sqap_vla_ros.tools.compression.inspect import summary_table

        recipe = read_recipe(self.recipe)
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
        with progress_bar(console, speed_estimate_period=3600) as progress:
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
        from sqap_vla_ros.policies.cogact.store import read_manifest
        from sqap_vla_ros.tools.compression.inspect import layer_table, summary_table, verify

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
    """Camera frames to ask, others than those of the calibration: bags, folders of images or demonstrations, or
    libero[:SUITE]."""
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
        from sqap_vla_ros.policies.cogact.checkpoint import open_checkpoint
        from sqap_vla_ros.policies.cogact.policy import choose_device
        from sqap_vla_ros.tools.compression.calibration import read_frames
        from sqap_vla_ros.tools.compression.fidelity import report
        from sqap_vla_ros.tools.compression.fidelity_report import fidelity_table, write_json, write_plot

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
        from sqap_vla_ros.config.files import ConfigurationError
        from sqap_vla_ros.testing.random_checkpoint import write_random_checkpoint

        try:
            write_random_checkpoint(self.directory, seed=self.seed)
        except OSError as error:
            raise ConfigurationError(
                f"{self.directory}: {error.strerror}; give a directory that can be written"
            ) from None
        console.print(f"wrote {self.directory}")

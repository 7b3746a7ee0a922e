"""Commands on checkpoints: compress, inspect, fidelity, random-checkpoint."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import tyro

from sqap_vla_ros.cli.console import progress_bar
from sqap_vla_ros.cli.directories import result_directory, used_by_one

if TYPE_CHECKING:
    from rich.console import Console


@dataclass(frozen=True)
class Compress:
    """Compress a checkpoint to low-bit integers.

    Nothing is trained. The checkpoint is read part by part and may be larger than memory; a run that was stopped goes
    on when the same command is given again. The new directory is complete in itself: give it as `checkpoint` to node or
    replay.

    Example:
        sqap-vla compress my_run --recipe w4a4 --calibration my_bag
    """

    checkpoint: tyro.conf.Positional[str]
    """Name in config/checkpoints, run directory, .pt file or Hub id."""
    recipe: str = "w4a4"
    """Name of a file in config/recipes, or a path to one."""
    policy: str = ""
    """Name of a file in config/policies, or a path to one; it says how an OpenVLA was trained, CogACT needs none."""
    statistics_key: str = ""
    """Data set of an OpenVLA's actions, if its checkpoint has several."""
    out: Path | None = None
    """New directory; default: next to the run directory, with the recipe's name appended."""
    calibration: tuple[str, ...] = ()
    """Bags, folders of images or demonstrations, or libero[:SUITE]; GPTQ, smoothing and mixed precision use them."""
    frames: int = 32
    """Number of frames to take from them."""
    instruction: str = ""
    """The task in frames that come without an instruction."""
    image_topic: str = ""
    """Camera image topic of bags that have several."""
    tokenizer: str = ""
    """Directory of the Llama-2 tokenizer; default: next to the checkpoint."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Device that the weights are rounded on."""

    def run(self, console: "Console") -> None:
        """Compress, with progress, and print a summary."""
        from sqap_vla_ros.config.files import expand_home
        from sqap_vla_ros.config.recipe import read_recipe
        from sqap_vla_ros.tools.compression.calibration import read_frames
        from sqap_vla_ros.tools.compression.compress import compress, refuse_other_use
        from sqap_vla_ros.tools.compression.inspect import summary_table
        from sqap_vla_ros.tools.compression.run import Step
        from sqap_vla_ros.tools.compression.sources import open_source
        from sqap_vla_ros.vlm.runtime.device import choose_device

        recipe = read_recipe(self.recipe)
        checkpoint = open_source(self.checkpoint, self.policy, self.statistics_key)
        # A checkpoint from the Hub is in a cache: its compressed version is written to the working directory instead.
        source = checkpoint.directory if Path(self.checkpoint).exists() else Path(self.checkpoint.replace("/", "-"))
        out = self.out or Path(f"{source}-{recipe.name}")
        refuse_other_use(out)
        device = choose_device(self.device)
        tokenizer = expand_home(self.tokenizer) if self.tokenizer else None
        frames = None
        if self.calibration:
            frames = read_frames(self.calibration, self.frames, self.instruction, self.image_topic)
            for note in frames.notes:
                console.print(f"note: {note}")
        # A layer may take minutes; the remaining time is estimated from all that are done.
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
                words = f"stopped; what is done stays in {out}, the same command goes on from there"
                progress.console.print(words, soft_wrap=True)
                raise
        console.print(summary_table(out, manifest))
        console.print(f"next: sqap-vla inspect {out}\n      sqap-vla replay BAG --checkpoint {out}", soft_wrap=True)


@dataclass(frozen=True)
class Inspect:
    """Show what a compressed checkpoint holds.

    Prints bits, error and bytes of every layer.

    Example:
        sqap-vla inspect my_run-w4a4 --verify
    """

    directory: tyro.conf.Positional[Path]
    """Directory that `sqap-vla compress` made."""
    verify: bool = False
    """Read all files and compare their hashes."""

    def run(self, console: "Console") -> None:
        """Print the tables."""
        from sqap_vla_ros.tools.compression.inspect import layer_table, summary_table, verify
        from sqap_vla_ros.tools.compression.sources import read_any_manifest

        manifest = read_any_manifest(self.directory)
        console.print(layer_table(manifest))
        console.print(summary_table(self.directory, manifest))
        if self.verify:
            verify(self.directory, manifest)
            console.print(f"all {len(manifest.files)} files are as they were written")


@dataclass(frozen=True)
class Fidelity:
    """Compare compressed checkpoints with the original.

    All models see the same frames and the same noise. Prints the distance of the cognition feature and of the actions
    from the float model's, and the share of the most attended visual tokens that both agree on. Writes fidelity.json
    and fidelity.png.

    Example:
        sqap-vla fidelity my_run my_run-w4a4 --frames-from another_bag
    """

    checkpoint: tyro.conf.Positional[str]
    """Name in config/checkpoints, run directory, .pt file or Hub id of the original."""
    compressed: tyro.conf.Positional[tuple[Path, ...]]
    """Directories that `sqap-vla compress` made of it; one or several."""
    frames_from: tuple[str, ...] = ()
    """Bags, folders of images or demonstrations, or libero[:SUITE]; use others than for the calibration."""
    frames: int = 16
    """Number of frames to take from them."""
    instruction: str = ""
    """The task in frames that come without an instruction."""
    image_topic: str = ""
    """Camera image topic of bags that have several."""
    out: Path | None = None
    """New directory for the results; default: out/fidelity, or the first free one of out/fidelity-2, ..."""
    tokenizer: str = ""
    """Directory of the Llama-2 tokenizer; default: next to the checkpoint."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Device that the models run on."""

    def run(self, console: "Console") -> None:
        """Run all models, print and write the report."""
        from sqap_vla_ros.config.files import expand_home
        from sqap_vla_ros.policies.cogact.store import read_manifest
        from sqap_vla_ros.tools.compression.calibration import read_frames
        from sqap_vla_ros.tools.compression.fidelity import report, same_frames
        from sqap_vla_ros.tools.compression.fidelity_report import fidelity_table, write_json, write_plot
        from sqap_vla_ros.vlm.checkpoint import open_checkpoint
        from sqap_vla_ros.vlm.runtime.device import choose_device

        checkpoint = open_checkpoint(self.checkpoint)
        out = result_directory(self.out, "fidelity")
        manifests = {path: read_manifest(path) for path in self.compressed} if self.frames_from else {}  # costs no time
        frames = read_frames(self.frames_from, self.frames, self.instruction, self.image_topic)
        for note in (*frames.notes, *same_frames(frames, manifests)):
            console.print(f"note: {note}", soft_wrap=True)
        found = report(
            checkpoint,
            self.compressed,
            frames,
            tokenizer=expand_home(self.tokenizer) if self.tokenizer else None,
            device=choose_device(self.device),
            on_progress=console.print,
        )
        out.mkdir(parents=True, exist_ok=True)
        write_json(found, out / "fidelity.json")
        write_plot(found, out / "fidelity.png")
        console.print(fidelity_table(found))
        console.print(f"written to {out}", soft_wrap=True)


@dataclass(frozen=True)
class RandomCheckpoint:
    """Write a small CogACT with random weights.

    It has the published layout, so that everything can be tried without the 30 GB of published weights. It plans
    nonsense, at the speed of a model of its size.

    Example:
        sqap-vla random-checkpoint my_run
    """

    directory: tyro.conf.Positional[Path]
    """New run directory."""
    seed: int = 0
    """The same seed gives the same weights."""

    def run(self, console: "Console") -> None:
        """Write the run directory."""
        from sqap_vla_ros.testing.random_checkpoint import write_random_checkpoint

        result_directory(self.directory, "")
        with used_by_one(self.directory):
            write_random_checkpoint(self.directory, seed=self.seed)
        console.print(f"wrote {self.directory}", soft_wrap=True)

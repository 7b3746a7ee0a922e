"""Training of a small model: train."""

import os
import shlex
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import tyro

from sqap_vla_ros.cli.console import progress_bar

if TYPE_CHECKING:
    from rich.console import Console


@dataclass(frozen=True)
class Train:
    """Train a small CogACT on demonstrations.

    Runs for hours on a CPU. The run directory has the published layout and is complete after every save: give it as
    `checkpoint` to node, replay or compress while the training goes on. A training that was stopped goes on when the
    same command is given again.

    Example:
        sqap-vla train out/demonstrations --out out/my_run --samples 158000
    """

    demonstrations: tyro.conf.Positional[Path]
    """Directory that `sqap-vla demonstrate` made."""
    out: Path
    """Run directory, with the learning curve and the state to go on from."""
    size: Literal["tiny", "small", "medium"] = "small"
    """Size of the network; tiny is for trying out."""
    samples: int = 400_000
    """Camera frames to learn from in all, repetitions counted; a training that goes on may be given more."""
    batch: int = 32
    """Number of frames per step."""
    lr: float = 1e-3
    """Highest learning rate."""
    seed: int = 0
    """Seed of weights, samples and noise."""
    tasks: tuple[str, ...] = ()
    """Names of tasks, as pick_can; default: all that were demonstrated."""
    augment: bool = True
    """Shift, recolour and disturb the images; --no-augment leaves them unchanged."""
    start_from: str = ""
    """Directory of an earlier training, of the same size and tasks, with the first weights; default: random ones."""
    robot: str = "libero_panda"
    """Name of a file in config/robots, or a path to one, whose action convention is learned."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Device to train on."""
    threads: int = 0
    """Threads on a CPU; 0: all cores."""

    def run(self, console: "Console") -> None:
        """Train, with loss, speed and remaining time."""
        # Set before torch is imported: threads that spin while they wait would slow down the decoding of the images.
        os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
        import torch

        from sqap_vla_ros.config.robot import load_configuration
        from sqap_vla_ros.tools.training.dataset import read_demonstrations
        from sqap_vla_ros.tools.training.settings import TrainingError, TrainingSettings
        from sqap_vla_ros.tools.training.state import STATE
        from sqap_vla_ros.tools.training.train import Progress as Trained
        from sqap_vla_ros.tools.training.train import train
        from sqap_vla_ros.vlm.runtime.device import choose_device

        settings = TrainingSettings(
            size=self.size,
            samples=self.samples,
            batch=self.batch,
            learning_rate=self.lr,
            seed=self.seed,
            tasks=self.tasks,
            augment=self.augment,
            start_from=self.start_from,
        )
        if self.threads < 0:
            raise TrainingError(f"--threads {self.threads}: expected a number of threads, or 0 for all cores")
        device = choose_device(self.device)
        configuration = load_configuration(self.robot)
        if self.threads:
            torch.set_num_threads(self.threads)
        with progress_bar(console, speed_estimate_period=600) as progress:
            reading = progress.add_task("reading demonstrations", total=None)
            demonstrations = read_demonstrations(
                self.demonstrations,
                self.tasks,
                configuration,
                lambda done, total: progress.update(reading, completed=done, total=total),
            )
            task = progress.add_task("training", total=settings.samples)

            def show(trained: Trained) -> None:
                words = f"loss {trained.loss:.4f}"
                if trained.held_out is not None:
                    words += f", held out {trained.held_out.noise:.4f}, {trained.held_out.displacement_mm:.1f} mm"
                if speed := progress.tasks[task].speed:
                    words += f", {speed:.0f} samples/s"
                progress.update(task, description=words, completed=trained.samples, total=trained.total)

            try:
                train(
                    demonstrations,
                    self.out,
                    settings,
                    configuration,
                    device=device,
                    command=shlex.join(["sqap-vla", *sys.argv[1:]]),
                    on_progress=show,
                )
            except KeyboardInterrupt:
                words = "nothing was learned yet"
                if (self.out / STATE).is_file():
                    words = f"saved in {self.out}; the same command goes on from there"
                progress.console.print(f"stopped; {words}", soft_wrap=True)
                raise
        words = f"next: sqap-vla compress {self.out}\n      sqap-vla replay BAG --checkpoint {self.out}"
        console.print(words, soft_wrap=True)

"""From scripted experts to a small model: demonstrate, train."""

import os
import shlex
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import tyro
from rich.console import Console

from sqap_vla_ros.cli.progress import progress_bar


@dataclass(frozen=True)
class Demonstrate:
    """Record demonstrations of LIBERO tasks by scripted experts, from freshly drawn initial states.

    The experts are disturbed now and then, so that there are recoveries to learn from. Failures are dropped. A run that
    was stopped goes on when the same command is given again, and more episodes can be added later.
    """

    directory: tyro.conf.Positional[Path]
    """Where they go: one folder per task, one file per episode."""
    tasks: tuple[str, ...] = ()
    """Names of tasks, as pick_can; empty: all."""
    episodes: int = 300
    """Per task, failures included."""
    first_seed: int = 0
    """Seed of the first one."""
    policy: str = ""
    """Run directory of a trained model that drives in turns with the expert, who shows how to go on from where that
    got to; give seeds of their own. Empty: the expert is pushed now and then."""
    workers: int = 2
    """Episodes at a time."""
    ray: str = ""
    """Address of a Ray cluster whose machines see the same files ("auto": the running one); empty: this machine."""
    robot: str = "libero_panda"
    """Name of a file in config/robots, or a path to one."""

    def run(self, console: Console) -> None:
        """Record what is missing, with progress."""
        from sqap_vla_ros.bags.demonstrations import DemonstrationError
        from sqap_vla_ros.core.worker_pool import run_jobs
        from sqap_vla_ros.simulation.demonstrate import all_jobs, missing_jobs, record_job, reserve_demonstrations
        from sqap_vla_ros.simulation.tasks import chosen_tasks

        tasks = chosen_tasks(self.tasks)
        if self.episodes < 1 or self.first_seed < 0:
            raise DemonstrationError("expected at least one episode, and a first seed from 0 on")
        run = reserve_demonstrations(self.directory, self.robot, self.policy)
        every = all_jobs(self.directory, tasks, self.episodes, self.robot, self.policy, self.first_seed)
        jobs = missing_jobs(every)
        total, succeeded = len(every) - len(jobs), sum(job.path.exists() for job in every)
        with run.lock(), progress_bar(console, speed_estimate_period=600) as progress:
            task = progress.add_task("recording", total=len(every), completed=total)
            for success in run_jobs(record_job, jobs, workers=self.workers, ray_address=self.ray):
                succeeded, total = succeeded + success, total + 1
                progress.update(task, completed=total, description=f"{succeeded} of {total} succeeded")
        console.print(f"{succeeded} demonstrations in {self.directory}")


@dataclass(frozen=True)
class Train:
    """Train a small CogACT on demonstrations.

    Runs for hours on a CPU. What it makes is a run directory in the published layout, complete after every save: give
    it as `checkpoint` to node, replay or compress while the training goes on. A training that was stopped goes on when
    the same command is given again.
    """

    demonstrations: tyro.conf.Positional[Path]
    """What `sqap-vla demonstrate` recorded."""
    out: Path
    """Run directory to make, with the learning curve and the state to go on from."""
    size: Literal["tiny", "small", "medium"] = "small"
    """Of the network; tiny is for trying out."""
    samples: int = 400_000
    """Camera frames to learn from in all, repetitions counted; a training may be given more when it goes on."""
    batch: int = 32
    """Frames per step."""
    lr: float = 1e-3
    """Peak of the learning rate."""
    seed: int = 0
    """Of weights, samples and noise."""
    tasks: tuple[str, ...] = ()
    """Which tasks; empty: all that were demonstrated."""
    augment: bool = True
    """Shift, recolour and disturb the pictures."""
    start_from: str = ""
    """Directory of an earlier training, of the same size and tasks, to begin with its weights, better with a lower --lr
    than it had; empty: fresh ones."""
    robot: str = "libero_panda"
    """Name of a file in config/robots, or a path to one; its convention says what an action is."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where to train."""
    threads: int = 0
    """Threads on a CPU; 0: all cores."""

    def run(self, console: Console) -> None:
        """Train, with loss, speed and remaining time."""
        # Before torch is there: threads that wait for others must not burn the cores of what decodes the pictures.
        os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
        import torch

        from sqap_vla_ros.config.robot import load_configuration
        from sqap_vla_ros.policies.cogact.policy import choose_device
        from sqap_vla_ros.tools.training.dataset import read_demonstrations
        from sqap_vla_ros.tools.training.settings import TrainingError, TrainingSettings
        from sqap_vla_ros.tools.training.state import STATE
        from sqap_vla_ros.tools.training.train import Progress as Trained
        from sqap_vla_ros.tools.training.train import train

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
                progress.console.print(f"stopped; {words}")
                raise
        console.print(f"next: sqap-vla compress {self.out}\n      sqap-vla replay BAG --checkpoint {self.out}")

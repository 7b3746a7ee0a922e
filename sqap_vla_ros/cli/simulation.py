"""Commands on the simulated cell: demo, demonstrate."""

import signal
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import tyro

from sqap_vla_ros.cli.console import progress_bar
from sqap_vla_ros.cli.directories import result_directory, used_by_one

if TYPE_CHECKING:
    from rich.console import Console


@dataclass(frozen=True)
class Demo:
    """Drive a simulated arm over ROS 2 topics.

    The cell, a Panda on a LIBERO table, and the policy node are two processes, in a ROS domain of their own and on this
    machine only. Writes a bag, a video and the logs, and prints whether the task succeeded. The small checkpoint that
    comes with this package has W4A4 weights here; policies that need float weights, as fp16, get its float version.

    Example:
        sqap-vla demo --initial-state 3
    """

    suite: str = "libero_90"
    """LIBERO suite."""
    task: int = 0
    """Index of the task in its suite; the default is to close a drawer."""
    initial_state: int = 0
    """Index of the task's official initial state."""
    seed: int = 0
    """Seed of what the initial state leaves open: fixtures shift by millimetres."""
    seconds: float = 20.0
    """Simulated time after which the episode ends if the task is not done before [s]."""
    policy: str = "sqap"
    """Name of a file in config/policies, or a path to one."""
    checkpoint: str = ""
    """Name in config/checkpoints, run directory, .pt file or Hub id; default: the small one of this package."""
    out: Path | None = None
    """New directory for the bag, the video and the logs; default: out/demo, or the first free one of out/demo-2, ..."""
    real_time_factor: float = 1.0
    """Highest number of simulated seconds per wall second; 0: no limit."""

    def run(self, console: "Console") -> None:
        """Play one episode and print what happened."""
        from sqap_vla_ros.config.files import ConfigurationError
        from sqap_vla_ros.simulation.demo import Demo as Episode

        if missing := [name for name in ("rclpy", "sqap_vla", "mujoco", "libero") if find_spec(name) is None]:
            raise ConfigurationError(
                f"{', '.join(missing)} cannot be imported; the demo needs ROS 2 with the messages of sqap_vla, and the "
                "simulator; in a checkout, `make demo` sets everything up"
            )
        signal.signal(signal.SIGTERM, signal.default_int_handler)  # so that both processes are ended then, too
        out = result_directory(self.out, "demo")
        with used_by_one(out):
            Episode(
                suite=self.suite,
                task=self.task,
                initial_state=self.initial_state,
                seed=self.seed,
                seconds=self.seconds,
                policy=self.policy,
                checkpoint=self.checkpoint,
                out=out,
                real_time_factor=self.real_time_factor,
            ).run(console)


@dataclass(frozen=True)
class Demonstrate:
    """Record demonstrations by scripted experts.

    The experts do LIBERO tasks from freshly drawn initial states and are pushed now and then, so that the recordings
    hold recoveries. With --checkpoint, a trained model drives in turns with the expert, who shows how to go on from the
    states that the model gets to; give such a run seeds of its own. Failures are dropped. A run that was stopped goes
    on when the same command is given again, and more episodes can be added later.

    Example:
        sqap-vla demonstrate out/demonstrations --tasks pick_can --episodes 50
    """

    directory: tyro.conf.Positional[Path]
    """Directory for the recordings: one folder per task, one file per episode."""
    tasks: tuple[str, ...] = ()
    """Names of tasks, as pick_can; default: all."""
    episodes: int = 300
    """Number of episodes per task, failures included."""
    first_seed: int = 0
    """Seed of the first episode."""
    checkpoint: str = ""
    """Name in config/checkpoints, run directory, .pt file or Hub id of a model that drives, too; default: none."""
    workers: int = 2
    """Episodes at a time."""
    ray: str = ""
    """Address of a Ray cluster whose machines see the same files ("auto": the running one); default: this machine."""
    robot: str = "libero_panda"
    """Name of a file in config/robots, or a path to one."""

    def run(self, console: "Console") -> None:
        """Record what is missing, with progress."""
        from sqap_vla_ros.bags.demonstrations import DemonstrationError
        from sqap_vla_ros.core.worker_pool import run_jobs
        from sqap_vla_ros.simulation.demonstrate import all_jobs, missing_jobs, record_job, reserve_demonstrations
        from sqap_vla_ros.simulation.tasks import chosen_tasks

        tasks = chosen_tasks(self.tasks)
        if self.episodes < 1 or self.first_seed < 0:
            raise DemonstrationError("--episodes must be at least 1, and --first-seed at least 0")
        run = reserve_demonstrations(self.directory, self.robot, self.checkpoint)
        every = all_jobs(self.directory, tasks, self.episodes, self.robot, self.checkpoint, self.first_seed)
        jobs = missing_jobs(every)
        total, succeeded = len(every) - len(jobs), sum(job.path.exists() for job in every)
        with run.lock(), progress_bar(console, speed_estimate_period=600) as progress:
            task = progress.add_task("recording", total=len(every), completed=total)
            for success in run_jobs(record_job, jobs, workers=self.workers, ray_address=self.ray):
                succeeded, total = succeeded + success, total + 1
                progress.update(task, completed=total, description=f"{succeeded} of {total} succeeded")
        console.print(f"{succeeded} demonstrations in {self.directory}", soft_wrap=True)

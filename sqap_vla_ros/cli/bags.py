"""Commands on recorded bags: replay, compare."""

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import tyro

from sqap_vla_ros.cli.directories import result_directory

if TYPE_CHECKING:
    from rich.console import Console


@dataclass(frozen=True)
class Replay:
    """Plan on recorded bags, and report the result.

    Needs no ROS. Writes report.html, overlay.mp4, an annotated recording for Foxglove and RViz, ticks.parquet (one row
    per tick: action chunk, kept tokens, ring, metrics), timings.parquet (seconds per stage) and summary.json; with
    several bags, a directory with these for each. A bag that fails is reported and skipped; the exit code is then 1.

    Example:
        sqap-vla replay my_bag --robot franka --policy sqap --baseline fp16
    """

    bags: tyro.conf.Positional[tuple[Path, ...]]
    """rosbag2 directories, bare .mcap or .db3 files, or folders of them."""
    checkpoint: str = ""
    """Name in config/checkpoints, run directory, .pt file or Hub id; default: the one in the robot file."""
    policy: str = "sqap"
    """Name of a file in config/policies, or a path to one."""
    baseline: str = ""
    """A second policy, as fp16, that plans the same ticks for comparison; default: none."""
    baseline_checkpoint: str = ""
    """Checkpoint of the baseline; default: the policy's."""
    robot: str = "libero_panda"
    """Name of a file in config/robots, or a path to one."""
    out: Path | None = None
    """New directory for the results; default: out/replay, or the first free one of out/replay-2, ..."""
    instruction: str = ""
    """The task, in plain words; default: the instruction topic of the bag."""
    rate: float = 0.0
    """Highest number of ticks per second of the bag [Hz]; 0: a tick at every camera frame."""
    delay: Literal["none", "measured"] = "none"
    """measured: a plan takes as long as it takes here, and frames that arrive meanwhile are lost, as on the robot."""
    as_recorded: bool = False
    """Plan the ticks of a live recording again, and compare with the chunks that were published."""
    image_topic: str = ""
    """Camera image topic; default: the one in the robot file, or the only one in the bag."""
    camera_info_topic: str = ""
    """Topic of the camera's calibration; default: the one next to the images."""
    tf_namespace: str = ""
    """Namespace of the transforms, as /left for /left/tf; default: /tf, or the namespace of the images."""
    extrinsic: Path | None = None
    """YAML file with parent, child, xyz, and rpy or quaternion: the camera's pose, for bags without it."""
    tokenizer: str = ""
    """Directory of the Llama-2 tokenizer; default: next to the checkpoint."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Device that the policy runs on."""
    threads: int = 0
    """Threads of the policy on a CPU; 0: all cores but one, as in the node, or one where several bags run at a time."""
    workers: int = 0
    """Bags at a time; 0: one per core, or one on a GPU."""
    ray: str = ""
    """Address of a Ray cluster whose machines see the same files ("auto": the running one); default: this machine."""
    resume: bool = False
    """Keep the results that the same command has completed in --out."""

    def run(self, console: "Console") -> None:
        """Replay the bags and print the results."""
        from sqap_vla_ros.bags.observations import read_extrinsic
        from sqap_vla_ros.config.files import ConfigurationError
        from sqap_vla_ros.config.policy import read_policy
        from sqap_vla_ros.config.robot import load_configuration
        from sqap_vla_ros.config.settings import validate
        from sqap_vla_ros.tools.replay.console import default_workers, replay_many, replay_one
        from sqap_vla_ros.tools.replay.jobs import ReplayJob, find_bags, run_names

        overrides = {
            "checkpoint": self.checkpoint,
            "tokenizer": self.tokenizer,
            "policy": self.policy,
            "instruction": self.instruction,
            "device": self.device,
            "torch_threads": self.threads,
        }
        configuration = load_configuration(self.robot, **{name: value for name, value in overrides.items() if value})
        if self.baseline_checkpoint and not self.baseline:
            raise ConfigurationError("--baseline-checkpoint has no effect alone: give --baseline, as fp16, too")
        for policy in filter(None, (self.policy, self.baseline)):
            read_policy(policy)  # so that a mistake in the name costs no time
        bags = find_bags(self.bags)
        out = self._directory()
        workers = self.workers or default_workers(configuration, len(bags))
        if workers > 1 and not self.threads:
            configuration = configuration.model_copy(update={"torch_threads": 1})
        baseline = None
        if self.baseline:
            other = {"policy": self.baseline, "checkpoint": self.baseline_checkpoint or configuration.checkpoint}
            baseline = configuration.model_copy(update=other)
        settings = {
            "configuration": configuration,
            "baseline": baseline,
            "as_recorded": self.as_recorded,
            "image_topic": self.image_topic,
            "camera_info_topic": self.camera_info_topic,
            "tf_namespace": self.tf_namespace,
            "rate_hz": self.rate,
            "measured_delay": self.delay == "measured",
            "extrinsic": read_extrinsic(self.extrinsic) if self.extrinsic else None,
        }
        places = [out] if len(bags) == 1 else [out / name for name in run_names(bags)]
        jobs = [
            validate(ReplayJob, {"bag": bag, "out": place, **settings}, "sqap-vla replay")
            for bag, place in zip(bags, places, strict=True)
        ]
        if len(jobs) == 1 and not self.ray:
            replay_one(jobs[0], console, resume=self.resume)
            return
        outcomes = replay_many(jobs, console, workers=workers, ray_address=self.ray, resume=self.resume)
        if any(outcome.error for outcome in outcomes):
            sys.exit(1)

    def _directory(self) -> Path:
        if self.resume:
            return self.out or Path("out/replay")
        return result_directory(self.out, "replay", ", or keep what is complete there with --resume")


@dataclass(frozen=True)
class Compare:
    """Judge whether one replay plans the same as another.

    Both are replays of the same bags, the first one is the reference. Prints a table and one line that begins with PASS
    or FAIL. Exit code 0: B passes; 1: it does not, or lacks bags or ticks that A has.

    Example:
        sqap-vla compare out/replay out/replay-2 --max-displacement 0.005
    """

    run_a: tyro.conf.Positional[Path]
    """Directory of `sqap-vla replay`, of one bag or of several: the reference."""
    run_b: tyro.conf.Positional[Path]
    """The same bags, replayed with what is to be judged."""
    max_displacement: float | None = None
    """Limit on the distance between the two plans [m], a mean over the horizon, in 95 % of the ticks."""
    max_latency_ratio: float | None = None
    """Limit on the ratio of B's median planning time to A's."""

    def run(self, console: "Console") -> None:
        """Print the comparison and the verdict."""
        from sqap_vla_ros.tools.replay.compare import compare, comparison_table, failures, verdict

        comparison = compare(self.run_a, self.run_b)
        found = failures(comparison, self.max_displacement, self.max_latency_ratio)
        console.print(comparison_table(comparison))
        console.print(verdict(comparison, found), soft_wrap=True, markup=False, highlight=False)
        if found:
            sys.exit(1)

"""Commands on recorded bags: replay, compare."""

import shlex
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import tyro

from sqap_vla_ros.cli.console import print_line
from sqap_vla_ros.cli.directories import result_directory, robot_model_file, used_by_one, what_stays
from sqap_vla_ros.config.files import ConfigurationError
from sqap_vla_ros.core.instruction import warning_about

if TYPE_CHECKING:
    from rich.console import Console


@dataclass(frozen=True)
class Replay:
    """Plan on recorded bags, and report the result.

    Needs no ROS. Writes report.html, overlay.mp4, an annotated recording for Foxglove and RViz, ticks.parquet (one row
    per tick: action chunk, kept tokens, ring, metrics), timings.parquet (seconds per stage) and summary.json; with
    several bags, a directory with these for each. A bag that fails is reported and skipped; the exit code is then 1.

    With a baseline there is one verdict over all bags: is the policy no farther from its baseline than two plans of the
    baseline with other noise are apart? Exit code 0: PASS; 1: FAIL; 3: UNDECIDED.

    Example:
        sqap-vla replay my_bags --checkpoint X-w4a4 --baseline-checkpoint X
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
    """Checkpoint of the baseline; default: the policy's. Without --baseline, the policy on this checkpoint is it."""
    noise_floor: Literal["auto", "on", "off"] = "auto"
    """on: the baseline, or the policy without one, plans each tick once more with other noise; auto: if there is a
    baseline."""
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
    """YAML file with parent, child, xyz [m], and rpy [rad] or quaternion: the camera's pose, for bags without it."""
    urdf: Path | None = None
    """URDF of the arm: for bags with joint states and without transforms, in place of a recorded description."""
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
        print_line(console, "reading the settings and the bags")  # at once: what follows imports for seconds
        if warning := warning_about(self.instruction):
            print_line(console, f"warning: {warning}")
        from sqap_vla_ros.bags.observations import read_extrinsic
        from sqap_vla_ros.config.policy import read_policy
        from sqap_vla_ros.config.robot import load_configuration
        from sqap_vla_ros.config.settings import validate
        from sqap_vla_ros.tools.replay.console import default_workers, replay_many, replay_one
        from sqap_vla_ros.tools.replay.jobs import (
            ReplayJob,
            check_resumable,
            find_bags,
            measures_noise_floor,
            run_names,
        )

        overrides = {
            "checkpoint": self.checkpoint,
            "tokenizer": self.tokenizer,
            "policy": self.policy,
            "instruction": self.instruction,
            "command.robot_model": robot_model_file(self.urdf),
            "device": self.device,
            "torch_threads": self.threads,
        }
        configuration = load_configuration(self.robot, **{name: value for name, value in overrides.items() if value})
        policy = read_policy(self.policy)  # here, so that a mistake in the name costs no time
        reference = read_policy(self.baseline) if self.baseline else policy
        bags = find_bags(self.bags)
        out = self._directory()
        workers = self.workers or default_workers(configuration, len(bags))
        if workers > 1 and not self.threads:
            configuration = configuration.model_copy(update={"torch_threads": 1})
        baseline = None
        if self.baseline or self.baseline_checkpoint:
            other = {
                "policy": self.baseline or configuration.policy,
                "checkpoint": self.baseline_checkpoint or configuration.checkpoint,
            }
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
            "noise_floor": measures_noise_floor(self.noise_floor, reference, baseline is not None),
            "extrinsic": read_extrinsic(self.extrinsic) if self.extrinsic else None,
        }
        places = [out] if len(bags) == 1 else [out / name for name in run_names(bags)]
        jobs = [
            validate(ReplayJob, {"bag": bag, "out": place, **settings}, "sqap-vla replay")
            for bag, place in zip(bags, places, strict=True)
        ]
        if self.resume:
            check_resumable(jobs, out)
        with used_by_one(out), what_stays(console, lambda: self._what_stays(out)):
            if len(jobs) == 1 and not self.ray:
                code = replay_one(jobs[0], console, resume=self.resume)
            else:
                code = replay_many(jobs, console, workers=workers, ray_address=self.ray, resume=self.resume)
        if code:
            sys.exit(code)

    def _what_stays(self, out: Path) -> str:
        """What an end before the end leaves behind, and how to go on."""
        if not any(out.iterdir()):
            return "nothing is kept; give the same command again"
        words = [word for word in sys.argv[1:] if word != "--resume"]
        again = shlex.join(["sqap-vla", *words, *([] if self.out else ["--out", str(out)]), "--resume"])
        return f"bags that are complete stay in {out}, the rest there is incomplete; to go on: {again}"

    def _directory(self) -> Path:
        if self.resume:
            return self.out or Path("out/replay")
        return result_directory(self.out, "replay", ", or keep what is complete there with --resume")


@dataclass(frozen=True)
class Compare:
    """Judge whether one replay plans the same as another.

    Both are replays of the same bags, the first one is the reference; it measures its noise floor with --noise-floor
    on. Displacement, rotation and gripper are judged by that floor, or by a limit that is given. Prints tables and one
    line that begins with the verdict. Exit code 0: PASS; 1: FAIL, also where B lacks bags or ticks that A has; 3:
    UNDECIDED, as nothing was judged, or too few ticks to tell.

    Example:
        sqap-vla compare out/replay out/replay-2
    """

    run_a: tyro.conf.Positional[Path]
    """Directory of `sqap-vla replay`, of one bag or of several: the reference."""
    run_b: tyro.conf.Positional[Path]
    """The same bags, replayed with what is to be judged."""
    max_displacement: float | None = None
    """Limit on the distance between the two plans [m], a mean over the horizon, in 95 % of the ticks."""
    max_rotation: float | None = None
    """Limit on the angle between the two plans at the end of the horizon [rad], in 95 % of the ticks."""
    max_gripper: float | None = None
    """Limit on the share of steps in which the two plans have the gripper otherwise, from 0 to 1, on average."""
    max_latency_ratio: float | None = None
    """Limit on the ratio of B's median planning time to A's."""

    def run(self, console: "Console") -> None:
        """Print the comparison and the verdict."""
        limits = {"displacement": self.max_displacement, "rotation": self.max_rotation, "gripper": self.max_gripper}
        for name, limit in {**limits, "latency-ratio": self.max_latency_ratio}.items():
            if limit is not None and not 0 <= limit < float("inf"):
                raise ConfigurationError(f"--max-{name} {limit:g}: give a number that is zero or greater")
        from sqap_vla_ros.tools.replay.compare import compare, comparison_table, judge_comparison
        from sqap_vla_ros.tools.replay.console import print_verdict

        comparison = compare(self.run_a, self.run_b)
        console.print(comparison_table(comparison))
        verdict = judge_comparison(comparison, limits, self.max_latency_ratio)
        print_verdict(verdict, console)
        if verdict.outcome.value:
            sys.exit(verdict.outcome.value)

"""What is done with recorded bags, or with a running robot: replay, compare, doctor."""

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import tyro
from rich.console import Console

from sqap_vla_ros.cli.progress import progress_bar

if TYPE_CHECKING:
    from sqap_vla_ros.tools.doctor.findings import Finding


@dataclass(frozen=True)
class Replay:
    """Run recorded bags through a policy, without ROS, and write what it would have done.

    Writes report.html, overlay.mp4, an annotated recording for Foxglove and RViz, ticks.parquet (one row per tick:
    action chunk, kept tokens, ring, metrics), timings.parquet (seconds per stage) and summary.json; of several bags, a
    directory with these for each. A bag that fails is reported and skipped, and the exit code is then 1.
    """

    bags: tyro.conf.Positional[tuple[Path, ...]]
    """rosbag2 directories, bare .mcap or .db3 files, or folders of them."""
    checkpoint: str = ""
    """CogACT run directory, .pt file or Hub id; empty: the robot YAML's."""
    policy: str = "sqap"
    """Name of a file in config/policies, or a path to one."""
    baseline: str = ""
    """Another policy to plan the same ticks and be compared with, as fp16; empty: none."""
    baseline_checkpoint: str = ""
    """Checkpoint of the baseline; empty: the policy's."""
    robot: str = "libero_panda"
    """Name of a file in config/robots, or a path to one."""
    out: Path = Path("out/replay")
    """Directory for the results."""
    instruction: str = ""
    """What to do, in plain words; empty: what the bag's instruction topic says."""
    rate: float = 0.0
    """Most ticks per second of the bag [Hz]; 0: at every camera frame."""
    delay: Literal["none", "measured"] = "none"
    """measured: a plan takes as long as it takes here, and the frames that come meanwhile are lost, as on the robot."""
    as_recorded: bool = False
    """Plan the ticks of a live recording again and compare with the chunks that were published."""
    image_topic: str = ""
    """Camera image topic; empty: the robot YAML's, or the only one in the bag."""
    camera_info_topic: str = ""
    """Topic of the camera's calibration; empty: the one beside the images."""
    tf_namespace: str = ""
    """Where the transforms are if the bag has those of several robots, as /left for /left/tf; empty: /tf, or those
    that the images share a namespace with."""
    extrinsic: Path | None = None
    """YAML file with parent, child, xyz, and rpy or quaternion: where the camera is, for bags that do not say."""
    tokenizer: str = ""
    """Directory of the Llama-2 tokenizer; empty: beside the checkpoint."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where the policy runs."""
    threads: int = 0
    """Threads of the policy on a CPU; 0: all cores but one, as in the node; one when several bags run at a time."""
    workers: int = 0
    """Bags at a time; 0: one per core, or one on a GPU."""
    ray: str = ""
    """Address of a Ray cluster whose machines see the same files ("auto": the running one); empty: this machine."""
    resume: bool = False
    """Keep results that the same command has completed before."""

    def run(self, console: Console) -> None:
        """Replay the bags and print what came out."""
        from sqap_vla_ros.bags.observations import read_extrinsic
        from sqap_vla_ros.config.files import ConfigurationError
        from sqap_vla_ros.config.robot import load_configuration
        from sqap_vla_ros.config.settings import validate
        from sqap_vla_ros.tools.replay.jobs import ReplayJob, find_bags, run_names
        from sqap_vla_ros.tools.replay.session import default_workers, replay_many, replay_one

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
            raise ConfigurationError("--baseline-checkpoint is of no use alone: give --baseline, as fp16, too")
        bags = find_bags(self.bags)
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
        places = [self.out] if len(bags) == 1 else [self.out / name for name in run_names(bags)]
        jobs = [
            validate(ReplayJob, {"bag": bag, "out": out, **settings}, "sqap-vla replay")
            for bag, out in zip(bags, places, strict=True)
        ]
        if len(jobs) == 1 and not self.ray:
            replay_one(jobs[0], console, resume=self.resume)
            return
        outcomes = replay_many(jobs, console, workers=workers, ray_address=self.ray, resume=self.resume)
        if any(outcome.error for outcome in outcomes):
            sys.exit(1)


@dataclass(frozen=True)
class Compare:
    """Compare two replays of the same bags, and say whether B plans the same as A.

    Prints a table and one line that begins with PASS or FAIL. Exit code 0: B passes; 1: it does not, or lacks bags or
    ticks that A has.
    """

    run_a: tyro.conf.Positional[Path]
    """What `sqap-vla replay` made, of one bag or of several: the reference."""
    run_b: tyro.conf.Positional[Path]
    """The same bags, replayed with what is to be judged."""
    max_displacement: float | None = None
    """Distance between the two plans that 95 % of the ticks must stay within [m], a mean over the horizon."""
    max_latency_ratio: float | None = None
    """Largest ratio of B's median planning time to A's."""

    def run(self, console: Console) -> None:
        """Print the comparison and the verdict."""
        from sqap_vla_ros.tools.replay.compare import compare, comparison_table, failures, verdict

        comparison = compare(self.run_a, self.run_b)
        found = failures(comparison, self.max_displacement, self.max_latency_ratio)
        console.print(comparison_table(comparison))
        console.print(verdict(comparison, found), soft_wrap=True, markup=False, highlight=False)
        if found:
            sys.exit(1)


@dataclass(frozen=True)
class Doctor:
    """Say in plain words whether a set-up will work, from a recorded bag or from what comes in live.

    Looks at system packages, GPU, instruction, action convention, normalisation, images, camera_info, TF, at where the
    tool is in the image, and at what each policy takes. Writes doctor.json and tool.png, the newest image with the
    projected tool and its axes. Exit code 1: something keeps the set-up from working.
    """

    bag: tyro.conf.Positional[Path | None] = None
    """rosbag2 directory, or a bare .mcap or .db3 file."""
    live: bool = False
    """Listen to the topics of a running robot instead; commands nothing."""
    seconds: float = 5.0
    """How long to listen."""
    use_sim_time: bool = False
    """Live stamps are of a simulated clock, /clock."""
    checkpoint: str = ""
    """CogACT run directory, .pt file or Hub id; empty: the robot YAML's."""
    policies: tuple[str, ...] = ("sqap", "fp16")
    """Files of config/policies; the first is the one to run, the others are measured beside it."""
    robot: str = "libero_panda"
    """Name of a file in config/robots, or a path to one."""
    out: Path = Path("out/doctor")
    """Directory for doctor.json and tool.png."""
    instruction: str = ""
    """What to do, in plain words; empty: what the instruction topic says."""
    image_topic: str = ""
    """Camera image topic; empty: the robot YAML's, or the only one in the bag."""
    camera_info_topic: str = ""
    """Topic of the camera's calibration; empty: the one beside the images."""
    tf_namespace: str = ""
    """Where the transforms are if the bag has those of several robots, as /left for /left/tf; empty: /tf, or those
    that the images share a namespace with."""
    extrinsic: Path | None = None
    """YAML file with parent, child, xyz, and rpy or quaternion: where the camera is, for bags that do not say."""
    tokenizer: str = ""
    """Directory of the Llama-2 tokenizer; empty: beside the checkpoint."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where the policies run."""

    def run(self, console: Console) -> None:
        """Examine, print the findings, and exit with 1 when there is a problem."""
        from sqap_vla_ros.tools.doctor.findings import findings_table, has_problem, verdict
        from sqap_vla_ros.tools.doctor.machine import check_system_packages

        lacking = check_system_packages()
        # Without them, what follows could not even be imported.
        findings = lacking if has_problem(lacking) else self._examine(console)
        console.print(findings_table(f"{self.robot}, {'live' if self.live else self.bag}", findings))
        console.print(verdict(findings), style="bold", highlight=False)
        if findings is not lacking:
            console.print(f"written to {self.out}", markup=False)
        if has_problem(findings):
            sys.exit(1)

    def _examine(self, console: Console) -> "list[Finding]":
        from sqap_vla_ros.bags.observations import read_extrinsic
        from sqap_vla_ros.bags.reader import Bag
        from sqap_vla_ros.config.files import ConfigurationError
        from sqap_vla_ros.config.robot import load_configuration
        from sqap_vla_ros.tools.doctor.examine import examine, read_bag

        if self.live == (self.bag is not None):
            raise ConfigurationError("give a bag to examine, or --live to listen to a running robot")
        overrides = {
            "checkpoint": self.checkpoint,
            "tokenizer": self.tokenizer,
            "instruction": self.instruction,
            "device": self.device,
            "topics.image": self.image_topic if self.live else "",
            "topics.camera_info": self.camera_info_topic if self.live else "",
        }
        configuration = load_configuration(self.robot, **{name: value for name, value in overrides.items() if value})
        with progress_bar(console) as progress:
            if self.bag is None:
                from sqap_vla_ros.tools.doctor.live_topics import listen

                task = progress.add_task("seconds listened", total=self.seconds)
                evidence = listen(
                    configuration,
                    self.seconds,
                    self.use_sim_time,
                    lambda seconds: progress.update(task, completed=round(seconds, 1)),
                )
            else:
                with Bag(self.bag) as bag:
                    task = progress.add_task("seconds of the bag", total=round(bag.duration_s, 1))
                    start_ns = bag.start_ns
                    evidence = read_bag(
                        bag,
                        configuration,
                        self.image_topic,
                        self.camera_info_topic,
                        self.tf_namespace,
                        read_extrinsic(self.extrinsic) if self.extrinsic else None,
                        lambda at_ns: progress.update(task, completed=round((at_ns - start_ns) * 1e-9, 1)),
                    )
        with console.status("judging") as status:
            source = "live" if self.bag is None else str(self.bag)
            return examine(evidence, self.policies, self.out, source, status.update)

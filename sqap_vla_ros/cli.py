"""Command line `sqap-vla`."""

import math
import os
import shlex
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import tyro
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from sqap_vla_ros.errors import is_ours

if TYPE_CHECKING:
    from sqap_vla_ros.doctor.findings import Finding


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
        from sqap_vla_ros.config import load_configuration, validate
        from sqap_vla_ros.replay.jobs import ReplayJob, find_bags, run_names
        from sqap_vla_ros.replay.observations import read_extrinsic
        from sqap_vla_ros.replay.session import default_workers, replay_many, replay_one

        overrides = {
            "checkpoint": self.checkpoint,
            "tokenizer": self.tokenizer,
            "policy": self.policy,
            "instruction": self.instruction,
            "device": self.device,
            "torch_threads": self.threads,
        }
        configuration = load_configuration(self.robot, **{name: value for name, value in overrides.items() if value})
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
        from sqap_vla_ros.replay.compare import compare, comparison_table, failures, verdict

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
    extrinsic: Path | None = None
    """YAML file with parent, child, xyz, and rpy or quaternion: where the camera is, for bags that do not say."""
    tokenizer: str = ""
    """Directory of the Llama-2 tokenizer; empty: beside the checkpoint."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where the policies run."""

    def run(self, console: Console) -> None:
        """Examine, print the findings, and exit with 1 when there is a problem."""
        from sqap_vla_ros.doctor.findings import findings_table, has_problem, verdict
        from sqap_vla_ros.doctor.machine import check_system_packages

        lacking = check_system_packages()
        # Without them, what follows could not even be imported.
        findings = lacking if has_problem(lacking) else self._examine(console)
        console.print(findings_table("live" if self.live else str(self.bag), findings))
        console.print(verdict(findings), style="bold", highlight=False)
        if findings is not lacking:
            console.print(f"written to {self.out}", markup=False)
        if has_problem(findings):
            sys.exit(1)

    def _examine(self, console: Console) -> "list[Finding]":
        from sqap_vla_ros.config import load_configuration
        from sqap_vla_ros.config_files import ConfigurationError
        from sqap_vla_ros.doctor.examine import examine, read_bag
        from sqap_vla_ros.replay.bag import Bag
        from sqap_vla_ros.replay.observations import read_extrinsic

        if self.live == (self.bag is not None):
            raise ConfigurationError("give a bag to examine, or --live to listen to a running robot")
        overrides = {
            "checkpoint": self.checkpoint,
            "tokenizer": self.tokenizer,
            "instruction": self.instruction,
            "device": self.device,
            "topics.image": self.image_topic if self.live else "",
        }
        configuration = load_configuration(self.robot, **{name: value for name, value in overrides.items() if value})
        with _progress(console) as progress:
            if self.bag is None:
                from sqap_vla_ros.node.listening import listen

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
                        read_extrinsic(self.extrinsic) if self.extrinsic else None,
                        lambda at_ns: progress.update(task, completed=round((at_ns - start_ns) * 1e-9, 1)),
                    )
        with console.status("judging") as status:
            source = "live" if self.bag is None else str(self.bag)
            return examine(evidence, self.policies, self.out, source, status.update)


@dataclass(frozen=True)
class Bench:
    """Time CogACT at its full size (random weights) under every policy, against what the device allows.

    On a GPU each float or SQAP plan is one CUDA graph; without one the same runs with two layers of each kind. Results
    are `bench.json` and `bench.png`.
    """

    out: Path = Path("out/bench")
    """Directory for the results."""
    device: Literal["auto", "cuda", "cpu"] = "auto"
    """Where to plan; auto: on a GPU if there is one."""
    size: Literal["small", "base", "large"] = "base"
    """Of the action head: CogACT-Small, -Base or -Large."""
    repeats: int | None = None
    """Plans per policy that count; absent: 100 on a GPU, 5 on a CPU."""
    rows: tuple[str, ...] = ()
    """Only these policies, by their names in the results (sqap, fp16_graph, ...)."""
    minutes: float = math.inf
    """No policy is begun after this long; what was measured until then is written."""
    calculated: bool = False
    """Measure nothing; print the table of floors on known GPUs, calculated from their data sheets."""

    def run(self, console: Console) -> None:
        """Measure, or calculate."""
        from sqap_vla_ros.bench.deployment import deployment_table, deployments

        table = deployment_table(deployments(self.size))
        if self.calculated:
            console.print(table)
            return
        from sqap_vla_ros.bench.rows import ROWS
        from sqap_vla_ros.bench.run import Bench as Measurement
        from sqap_vla_ros.bench.run import Settings, result_table
        from sqap_vla_ros.cogact.policy import choose_device
        from sqap_vla_ros.config_files import ConfigurationError

        if unknown := [name for name in self.rows if name not in ROWS]:
            raise ConfigurationError(f"rows: {unknown[0]} is none of the policies; they are {', '.join(ROWS)}")
        device = choose_device(self.device)
        repeats = self.repeats if self.repeats is not None else 100 if device == "cuda" else 5
        if repeats < 1:
            raise ConfigurationError(f"repeats = {repeats}: expected at least 1")
        settings = Settings(device, self.size, repeats, rows=self.rows, budget_s=60 * self.minutes)
        content = Measurement(settings, self.out, lambda words: console.print(words, highlight=False)).run()
        console.print(result_table(content))
        for name, words in content["failed"].items():
            console.print(f"{name}: {words}", style="yellow", markup=False)
        console.print(table)
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
        from sqap_vla_ros.parallel import run_jobs
        from sqap_vla_ros.simulation.demonstrate import missing_jobs, record_job
        from sqap_vla_ros.simulation.tasks import chosen_tasks

        tasks = chosen_tasks(self.tasks)
        jobs = missing_jobs(self.directory, tasks, self.episodes, self.robot, self.policy, self.first_seed)
        succeeded = total = self.episodes * len(tasks) - len(jobs)
        with _progress(console, speed_estimate_period=600) as progress:
            task = progress.add_task("recording", total=self.episodes * len(tasks), completed=total)
            for success in run_jobs(record_job, jobs, workers=self.workers, ray_address=self.ray):
                succeeded, total = succeeded + success, total + 1
                progress.update(task, completed=total, description=f"{succeeded} of {total} succeeded")
        console.print(f"{succeeded} demonstrations in {self.directory}")


@dataclass(frozen=True)
class Evaluate:
    """Measure success rates in closed loop, in simulation, with the same episodes for every policy.

    Writes episodes.jsonl (one line per episode), results.json, results.md, success.png, robustness.png and videos of
    failures. A run that was stopped goes on when the same command is given again, and more episodes, tasks or policies
    can be added later.
    """

    checkpoint: tyro.conf.Positional[str]
    """CogACT run directory, .pt file or Hub id."""
    policies: tuple[str, ...] = ("fp16", "sqap@sqap-w4a4")
    """POLICY or POLICY@RECIPE, files of config/policies and config/recipes; all are compared with the first one."""
    tasks: tuple[str, ...] = ()
    """Names of tasks, as pick_can; empty: all."""
    episodes: int = 25
    """Per task, policy and disturbance. Initial states repeat after 50, then with other places of the fixtures."""
    out: Path = Path("out/evaluation")
    """Directory for results and compressed checkpoints."""
    disturbances: tuple[str, ...] = ()
    """NAME=SIZE,SIZE with camera_rotation [deg], camera_translation [m], tf_offset [m], image_noise [grey levels],
    drop_frames [share] or delay [s]; played beside the undisturbed episodes."""
    workers: int = 2
    """Episodes at a time."""
    ray: str = ""
    """Address of a Ray cluster whose machines see the same files ("auto": the running one); empty: this machine."""
    ros: bool = False
    """Over ROS topics and in real time, with cell and node as processes; slower."""
    calibration: tuple[str, ...] = ()
    """What compression looks at, as in `compress`; empty: initial states of the tasks, drawn afresh."""
    frames: int = 32
    """How many frames to take from there."""
    plan_period: float = 0.2
    """From plan to plan [s]; with --ros the node plans as often as it can."""
    videos: int = 2
    """Failures per policy that are played again and filmed."""
    robot: str = "libero_panda"
    """Name of a file in config/robots, or a path to one."""
    tokenizer: str = ""
    """Directory of the Llama-2 tokenizer; empty: beside the checkpoint."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where the policies run."""

    def run(self, console: Console) -> None:
        """Play, with progress and running success rates, and print the tables."""
        from sqap_vla_ros.evaluation.run import Evaluation, chosen_tasks
        from sqap_vla_ros.evaluation.session import run_evaluation
        from sqap_vla_ros.evaluation.variants import Variant, parse_conditions

        evaluation = Evaluation(
            checkpoint=self.checkpoint,
            out=self.out,
            tasks=chosen_tasks(self.tasks),
            variants=tuple(Variant.parse(word) for word in self.policies),
            conditions=parse_conditions(self.disturbances),
            episodes=self.episodes,
            robot=self.robot,
            calibration=self.calibration,
            calibration_frames=self.frames,
            plan_period_s=self.plan_period,
            workers=self.workers,
            ray_address=self.ray,
            over_topics=self.ros,
            tokenizer=self.tokenizer,
            device=self.device,
        )
        run_evaluation(evaluation, console, shlex.join(["sqap-vla", *sys.argv[1:]]), self.videos)


@dataclass(frozen=True)
class Simpler:
    """Measure success rates in SIMPLER, on the published tasks of the Google Robot or the WidowX.

    Needs SIMPLER and a GPU. With the published weights, once with --policy fp16 and once on the compressed checkpoint
    with --policy sqap, this is Table 1 of SQAP-VLA. A run that was stopped goes on when the same command is given
    again; policies measured in one directory share its tables.
    """

    checkpoint: tyro.conf.Positional[str]
    """CogACT run directory, .pt file, Hub id, or what `sqap-vla compress` made of one."""
    policy: str = "sqap"
    """Name of a file in config/policies, or a path to one."""
    robot: Literal["google_robot", "widowx_bridge"] = "google_robot"
    """Whose tasks."""
    tasks: tuple[str, ...] = ()
    """Columns of the table, as pick_coke_can; empty: all of the robot."""
    settings: tuple[Literal["visual_matching", "variant_aggregation"], ...] = ("visual_matching", "variant_aggregation")
    """Real backgrounds, or varied looks."""
    episodes: int = 0
    """This many of each task and setting, spread over its scenes; 0: all that were published."""
    out: Path = Path("out/simpler")
    """Directory for episodes.jsonl, results.json and results.md."""
    tokenizer: str = ""
    """Directory of the Llama-2 tokenizer; empty: beside the checkpoint."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where the policy runs."""

    def run(self, console: Console) -> None:
        """Run the episodes, with progress, and print the tables."""
        from sqap_vla_ros.cogact.simpler import SETUPS
        from sqap_vla_ros.config import Configuration, validate
        from sqap_vla_ros.policy import load_policy
        from sqap_vla_ros.simpler.episode import ROBOTS
        from sqap_vla_ros.simpler.evaluation import EPISODES_FILE, evaluate, read_results, require_simpler
        from sqap_vla_ros.simpler.policy import SimplerPolicy
        from sqap_vla_ros.simpler.published import choose
        from sqap_vla_ros.simpler.report import write_report

        episodes = choose(self.robot, self.tasks, self.settings, self.episodes)
        require_simpler()
        settings = {
            "robot_name": self.robot,
            "statistics_key": SETUPS[self.robot].statistics_key,
            "action.rate_hz": ROBOTS[self.robot].control_hz,
            "checkpoint": self.checkpoint,
            "policy": self.policy,
            "tokenizer": self.tokenizer,
            "device": self.device,
        }
        policy = load_policy(validate(Configuration, settings, "sqap-vla simpler"), console.print)
        adapter = SimplerPolicy(policy, SETUPS[self.robot])
        names = policy.metadata.policy_id, policy.metadata.weights
        done = successes = 0
        with _progress(console, speed_estimate_period=3600) as progress:
            task = progress.add_task(policy.metadata.policy, total=len(episodes))
            for result in evaluate(episodes, adapter, names, self.robot, self.out):
                done, successes = done + 1, successes + result.success
                words = f"{policy.metadata.policy}: {successes} of {done} succeeded"
                progress.update(task, description=words, completed=done)
        console.print(write_report(read_results(self.out / EPISODES_FILE), self.out), soft_wrap=True)
        console.print(f"written to {self.out}")


@dataclass(frozen=True)
class Train:
    """Train a small CogACT on demonstrations.

    Runs for hours on a CPU and minutes on a GPU. What it makes is a run directory in the published layout, complete
    after every save: give it as `checkpoint` to node, replay or compress while the training goes on. A training that
    was stopped goes on when the same command is given again.
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
    """Directory of an earlier training, of the same size and tasks, to begin with its weights; empty: fresh ones."""
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

        from sqap_vla_ros.cogact.policy import choose_device
        from sqap_vla_ros.config import load_configuration
        from sqap_vla_ros.training.dataset import read_demonstrations
        from sqap_vla_ros.training.settings import TrainingSettings
        from sqap_vla_ros.training.train import Progress as Trained
        from sqap_vla_ros.training.train import train

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
        device = choose_device(self.device)
        configuration = load_configuration(self.robot)
        if self.threads:
            torch.set_num_threads(self.threads)
        with _progress(console, speed_estimate_period=600) as progress:
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
                progress.console.print(f"stopped and saved in {self.out}; the same command goes on from there")
                raise
        console.print(f"next: sqap-vla compress {self.out}\n      sqap-vla replay BAG --checkpoint {self.out}")


def main() -> None:
    """Run a subcommand; a user's mistake ends in one sentence and exit code 2."""
    command = tyro.extras.subcommand_cli_from_dict(
        {
            "replay": Replay,
            "compare": Compare,
            "doctor": Doctor,
            "compress": Compress,
            "inspect": Inspect,
            "fidelity": Fidelity,
            "demonstrate": Demonstrate,
            "evaluate": Evaluate,
            "simpler": Simpler,
            "train": Train,
            "bench": Bench,
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


if __name__ == "__main__":
    main()

"""An evaluation from its settings to its records."""

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path

from sqap_vla_ros.config.files import ConfigurationError, expand_home, named_file
from sqap_vla_ros.config.policy import read_policy
from sqap_vla_ros.config.recipe import read_recipe
from sqap_vla_ros.config.robot import Configuration, load_configuration
from sqap_vla_ros.core.worker_pool import run_jobs
from sqap_vla_ros.simulation.tasks import TASKS, Task
from sqap_vla_ros.tools.compression.calibration import CalibrationFrames, read_frames
from sqap_vla_ros.tools.compression.companions import companion_hashes
from sqap_vla_ros.tools.compression.run import Step
from sqap_vla_ros.tools.evaluation.checkpoints import RECORDED, compressed_with, recorded_frames
from sqap_vla_ros.tools.evaluation.episodes import STATE_PERIOD_S, EpisodeJob, EpisodeResult, play
from sqap_vla_ros.tools.evaluation.records import NOT_OF_THE_LOOP, ROBOT, Identity, Records
from sqap_vla_ros.tools.evaluation.variants import UNDISTURBED, Condition, Variant
from sqap_vla_ros.vlm.checkpoint import open_checkpoint
from sqap_vla_ros.vlm.runtime.device import choose_device

_BLOCK = 25  # episodes after which the next task has its turn, so that early figures say something about all of them


@dataclass(frozen=True)
class Evaluation:
    """The settings of an evaluation.

    Attributes:
        checkpoint: CogACT run directory, .pt file or Hub id.
        out: Directory for everything that is made.
        tasks: The tasks.
        variants: The policies; the others are compared with the first.
        conditions: The disturbances; the first is none.
        episodes: Episodes per task, policy and condition.
        robot: Name of a file in config/robots, or a path to one.
        calibration: Sources of the frames that compression looks at, as for `sqap-vla compress`; empty: a few
            demonstrations of the tasks, which are recorded for it.
        calibration_frames: Number of these frames.
        plan_period_s: Time from plan to plan (s).
        workers: Episodes at a time.
        ray_address: Address of a Ray cluster, whose machines see the same files; empty: this machine.
        over_topics: Whether to play over ROS topics and in real time, with the cell and the node as processes.
        tokenizer: Directory of the Llama-2 tokenizer; empty: that of the checkpoint.
        device: Where the policies run.
    """

    checkpoint: str
    out: Path
    tasks: tuple[Task, ...]
    variants: tuple[Variant, ...]
    conditions: tuple[Condition, ...] = (UNDISTURBED,)
    episodes: int = 25
    robot: str = "libero_panda"
    calibration: tuple[str, ...] = ()
    calibration_frames: int = 32
    plan_period_s: float = 0.2
    workers: int = 2
    ray_address: str = ""
    over_topics: bool = False
    tokenizer: str = ""
    device: str = "auto"

    def __post_init__(self) -> None:
        for name, values in (("tasks", self.tasks), ("policies", self.variants)):
            if not values or len(set(values)) < len(values):
                raise ConfigurationError(f"{name}: expected at least one, and each once; got {len(values)}")
        for name in ("episodes", "workers", "calibration_frames"):
            if getattr(self, name) < 1:
                raise ConfigurationError(f"{name} = {getattr(self, name)}: expected at least 1")
        if not STATE_PERIOD_S <= self.plan_period_s < float("inf"):
            raise ConfigurationError(f"plan_period_s = {self.plan_period_s}: expected at least {STATE_PERIOD_S} s")
        if self.over_topics and len(self.conditions) > 1:
            raise ConfigurationError("disturbances are those of the loop in one process; leave out --ros or them")


@dataclass(frozen=True)
class Progress:
    """How far an evaluation has come.

    Attributes:
        done: Number of episodes, those of earlier runs included.
        total: Number of episodes in all.
        result: Result of the episode that ended last; None at the beginning.
    """

    done: int
    total: int
    result: EpisodeResult | None = None


def trained_tasks(checkpoint: str) -> tuple[str, ...]:
    """The tasks that a run directory of `sqap-vla train` was trained on; empty for any other checkpoint."""
    try:
        config = json.loads((expand_home(checkpoint) / "config.json").read_text(encoding="utf-8"))
        return tuple(name for name in config["training"]["tasks"] if name in TASKS)
    except (OSError, ValueError, KeyError, TypeError):
        return ()


@dataclass(frozen=True)
class Prepared:
    """An evaluation whose checkpoints are ready.

    Attributes:
        evaluation: The settings.
        records: The results on disk.
        jobs: All episodes, those that are done included, in the order in which they are played.
    """

    evaluation: Evaluation
    records: Records
    jobs: tuple[EpisodeJob, ...]

    def results(self) -> list[EpisodeResult]:
        """The results of the jobs that are done, in their order."""
        found = {result.key: result for result in self.records}
        return [found[job.key] for job in self.jobs if job.key in found]

    def play(
        self, on_progress: Callable[[Progress], None], episode: Callable[[EpisodeJob], EpisodeResult] | None = None
    ) -> None:
        """Play what is not done yet, and write every result as it comes.

        Args:
            on_progress: Called at the beginning and after every episode.
            episode: Plays an episode; None: the function that the settings ask for.

        Raises:
            RunDirectoryError: Another process plays into the same directory.
            ParallelError: A worker died.
            Exception: What an episode raised.
        """
        if episode is None:
            episode = play
            if self.evaluation.over_topics:
                from sqap_vla_ros.tools.evaluation.over_topics import play_over_topics

                episode = play_over_topics
        todo = [job for job in self.jobs if job.key not in self.records]
        done = len(self.jobs) - len(todo)
        on_progress(Progress(done, len(self.jobs)))
        settings = self.evaluation
        with self.records.lock():
            for result in run_jobs(episode, todo, workers=settings.workers, ray_address=settings.ray_address):
                self.records.add(result)
                done += 1
                on_progress(Progress(done, len(self.jobs), result))


def prepare(evaluation: Evaluation, *, on_step: Callable[[Step], None], on_note: Callable[[str], None]) -> Prepared:
    """Compress the checkpoints that are needed, and reserve or resume the directory.

    Args:
        evaluation: The settings.
        on_step: Called before each part of a compression.
        on_note: Called with a sentence on what else the user should know.

    Raises:
        ConfigurationError: A setting, policy file or recipe cannot be used.
        CheckpointError: The checkpoint cannot be used.
        CalibrationError, DemonstrationError: There is nothing to calibrate on.
        CompressionError: It cannot be compressed.
        RunDirectoryError: The directory holds another evaluation, or another process works in it.
    """
    source = open_checkpoint(evaluation.checkpoint)
    tokenizer = expand_home(evaluation.tokenizer) if evaluation.tokenizer else None
    path = expand_home(evaluation.checkpoint)
    # Workers may run in other directories.
    original = str(path.resolve()) if path.exists() else evaluation.checkpoint
    if source.is_compressed and any(variant.recipe for variant in evaluation.variants):
        raise ConfigurationError(f"{original}: is compressed already; give the original checkpoint, or policies alone")
    policies = {variant: read_policy(variant.policy) for variant in evaluation.variants}
    for variant, policy in policies.items():
        if variant.recipe and policy.weights == "float":
            raise ConfigurationError(
                f"{variant}: {policy.name} plays on float weights alone; name another policy, as dense"
            )

    @cache
    def frames() -> CalibrationFrames:
        if not evaluation.calibration:
            directory = evaluation.out / "calibration"
            on_note(f"recording demonstrations to calibrate on, in {directory}")
            return recorded_frames(
                evaluation.tasks, evaluation.robot, directory, evaluation.calibration_frames, evaluation.workers
            )
        found = read_frames(evaluation.calibration, evaluation.calibration_frames)
        for note in found.notes:
            on_note(note)
        return found

    configurations: dict[Variant, Configuration] = {}
    hashes: dict[Variant, str] = {}
    about: dict[str, object] = {}
    for variant, policy in policies.items():
        checkpoint = original
        hashes[variant] = source.sha256()
        if variant.recipe:
            recipe = read_recipe(variant.recipe)
            directory = compressed_with(
                recipe,
                source,
                (evaluation.out / "checkpoints" / recipe.name).resolve(),
                frames,
                sources=evaluation.calibration or RECORDED,
                count=evaluation.calibration_frames,
                tokenizer=tokenizer,
                on_step=on_step,
                on_note=on_note,
            )
            checkpoint = str(directory)
            hashes[variant] = open_checkpoint(directory).sha256()
        configurations[variant] = load_configuration(
            evaluation.robot,
            policy=str(named_file("policies", variant.policy).resolve()),
            checkpoint=checkpoint,
            tokenizer=evaluation.tokenizer,
            device=evaluation.device,
            torch_threads=1,  # episodes run side by side instead
        )
        about[str(variant)] = {"policy": policy.model_dump(mode="json"), "weights_sha256": hashes[variant]}
    tasks = {task.name: asdict(task) for task in evaluation.tasks}
    loop = _loop(evaluation, configurations[evaluation.variants[0]])
    beside = {"configuration, statistics or tokenizer of the checkpoint": companion_hashes(source, tokenizer)}
    identity = Identity(source.sha256(), {**loop, **beside}, tasks, about)
    jobs = tuple(
        EpisodeJob(task, variant, condition, number, configurations[variant], hashes[variant], evaluation.plan_period_s)
        for first in range(0, evaluation.episodes, _BLOCK)
        for task in evaluation.tasks
        for condition in evaluation.conditions
        for variant in evaluation.variants
        for number in range(first, min(first + _BLOCK, evaluation.episodes))
    )
    return Prepared(evaluation, Records(evaluation.out, identity), jobs)


def _loop(evaluation: Evaluation, configuration: Configuration) -> dict[str, object]:
    """What episodes must have in common, apart from policy and weights."""
    robot = configuration.model_dump(mode="json", exclude=NOT_OF_THE_LOOP)
    return {
        ROBOT: robot,
        "plan period": evaluation.plan_period_s,
        "way (in process, or over topics)": evaluation.over_topics,
        "device": choose_device(evaluation.device),
    }

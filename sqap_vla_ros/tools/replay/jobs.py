"""Jobs of a replay: bags in folders, the directory for the results of each, and whether they exist already."""

import json
import shutil
from collections.abc import Iterator, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from pydantic import Field, model_validator

from sqap_vla_ros.bags.lerobot import DataSetError, LeRobotDataSet, episode_path, find_episode
from sqap_vla_ros.bags.observations import Extrinsic
from sqap_vla_ros.bags.reader import BagError
from sqap_vla_ros.bags.recovery import is_storage, stem, storage_files
from sqap_vla_ros.config.files import ConfigurationError, flatten, named_file
from sqap_vla_ros.config.policy import PolicyConfig
from sqap_vla_ros.config.robot import Configuration
from sqap_vla_ros.config.settings import Group
from sqap_vla_ros.core.files import disk_problem, write_whole

JOB_FILE = "job.json"  # written last: the results in its directory are complete, and from this job
ERROR_FILE = "error.txt"
_TABLES = ("ticks.parquet", "timings.parquet", "summary.json")
_RESULTS = (
    *_TABLES,
    *(f"{name}.partial" for name in _TABLES),
    "summary.json.part",
    "report.html",
    "report.html.part",
    "overlay.mp4",
    "overlay.mp4.part",
    JOB_FILE,
    ERROR_FILE,
)
_RESULT_FOLDERS = ("annotated", "annotated.partial")


_ADVICE = "give another --out, or remove it"

FileStates = list[list[str | int]]
"""Name, bytes and time of change (ns) of each file."""
PolicyState = dict[str, Any]


class ReplayJob(Group):
    """One bag to replay, and everything that its results depend on.

    Attributes:
        bag: rosbag2 directory, or a bare storage file.
        out: Directory for the results.
        configuration: Robot, policy, checkpoint, device and threads.
        baseline: The same with the policy to compare with; None: no baseline.
        as_recorded: Whether the ticks of a live recording are planned again.
        image_topic: Image topic; empty: the configured one, or the only one.
        camera_info_topic: Topic of the calibration; empty: the one in the images' namespace.
        tf_namespace: Namespace of the transforms; empty: none, or the only one, or the images'.
        rate_hz: Largest number of ticks per second of the bag; 0: every image.
        measured_delay: Whether images are lost that arrive during a plan.
        extrinsic: Pose of the camera, if the bag does not have it.
        noise_floor: Whether the baseline, or the policy if there is none, plans each tick once more with other noise.
    """

    bag: Path
    out: Path
    configuration: Configuration
    baseline: Configuration | None = None
    as_recorded: bool = False
    image_topic: str = ""
    camera_info_topic: str = ""
    tf_namespace: str = ""
    rate_hz: float = Field(0.0, ge=0, le=1000)
    measured_delay: bool = False
    extrinsic: Extrinsic | None = None
    noise_floor: bool = False

    @model_validator(mode="after")
    def _recorded_ticks_are_given(self) -> "ReplayJob":
        if self.as_recorded and (self.rate_hz or self.measured_delay or self.extrinsic):
            raise ValueError("as recorded means the ticks and inputs of the recording: without rate, delay, extrinsic")
        return self

    @model_validator(mode="after")
    def _baseline_is_another(self) -> "ReplayJob":
        if self.baseline == self.configuration:
            raise ValueError("the baseline is the policy itself; give another policy or --baseline-checkpoint")
        return self

    @property
    def configurations(self) -> list[Configuration]:
        """Settings of the policy, and of the baseline if there is one."""
        return [self.configuration, *([self.baseline] if self.baseline else [])]

    def is_done(self) -> bool:
        """Whether the directory holds the results of this job, for the present bag, policy files and checkpoints."""
        if not all((self.out / name).exists() for name in (*_TABLES, "report.html")):
            return False
        try:
            policies = [policy_state(configuration) for configuration in self.configurations]
            mark = self._mark(file_states(self.bag), policies)
            return bool(json.loads((self.out / JOB_FILE).read_text(encoding="utf-8")) == mark)
        except (OSError, ValueError):
            return False

    def changed(self) -> list[str]:
        """Names of what differs from the job whose results are complete in the directory."""
        try:
            policies = [policy_state(configuration) for configuration in self.configurations]
            mark = json.loads(json.dumps(self._mark(file_states(self.bag), policies)))
            before = json.loads((self.out / JOB_FILE).read_text(encoding="utf-8"))
            ours, theirs = flatten(mark), flatten(before)
        except (OSError, ValueError, AttributeError):
            return [JOB_FILE]
        names = [name for name in {**ours, **theirs} if ours.get(name) != theirs.get(name)]
        return [name.removeprefix("configuration.").replace("_", " ") for name in names if name != "out"][:4]

    def finish(self, bag_files: FileStates, policies: list[PolicyState]) -> None:
        """Mark the directory as complete.

        Args:
            bag_files: Result of `file_states` before the bag was read.
            policies: Results of `policy_state` before policy and baseline were loaded.
        """
        mark = json.dumps(self._mark(bag_files, policies), indent=2)
        write_whole(self.out / JOB_FILE, f"{mark}\n".encode())

    def _mark(self, bag_files: FileStates, policies: list[PolicyState]) -> dict[str, Any]:
        return {
            "version": version("sqap_vla_ros"),
            **self.model_dump(mode="json"),
            "bag_files": bag_files,
            "policies": policies,
        }


def measures_noise_floor(choice: str, reference: PolicyConfig, has_baseline: bool) -> bool:
    """Whether a replay measures how far two plans of the reference with other noise are apart.

    Args:
        choice: "on", "off", or "auto": if there is a baseline, and it can.
        reference: The baseline, or the policy without one.
        has_baseline: Whether there is a baseline.

    Raises:
        ConfigurationError: It was asked for, of a policy that cannot plan one image twice.
    """
    remembers = reference.pruning is not None and reference.pruning.method == "vla_cache"
    if choice == "on" and remembers:
        raise ConfigurationError(
            f"--noise-floor on: {reference.name} remembers the image before, so that it cannot plan one twice; give a "
            "--baseline that does not, as fp16"
        )
    return choice == "on" or (choice == "auto" and has_baseline and not remembers)


def policy_state(configuration: Configuration) -> PolicyState:
    """Present state of a policy: the text of its file, and the files of its checkpoint and tokenizer."""
    return {
        "file": named_file("policies", configuration.policy).read_text(encoding="utf-8"),
        "checkpoint": file_states(Path(configuration.checkpoint)) if configuration.checkpoint else [],
        "tokenizer": file_states(Path(configuration.tokenizer)) if configuration.tokenizer else [],
    }


def file_states(path: Path) -> FileStates:
    """Name, size in bytes and time of change (ns) of a file, or of all files in a directory; empty if there is none.

    Of an episode of a LeRobot data set, the files that it is read from.
    """
    if (found := find_episode(path)) and found[1] is not None:
        data = LeRobotDataSet(found[0])
        return [
            state for e in data.episodes if e.index == found[1] for file in data.files(e) for state in file_states(file)
        ]
    files = [path] if path.is_file() else sorted(file for file in path.rglob("*") if file.is_file())
    # SQLite creates such a file while it reads.
    files = [file for file in files if not file.name.endswith("-shm")]
    return [[file.name, file.stat().st_size, file.stat().st_mtime_ns] for file in files]


def check_resumable(jobs: Sequence[ReplayJob], out: Path) -> None:
    """Check that what is complete in a directory is from these jobs: results of others are not replaced.

    Args:
        jobs: The bags to replay, one directly into `out`, or several into directories in it.
        out: What the user gave.

    Raises:
        ConfigurationError: There are complete results of other settings, or of a bag or checkpoint that has changed.
    """
    one = len(jobs) == 1 and jobs[0].out == out
    of_several = not one and (out / JOB_FILE).exists()
    of_one = one and not (out / JOB_FILE).exists() and any(out.glob(f"*/{JOB_FILE}"))
    if of_several or of_one:
        held = "one bag" if of_several else "several bags"
        raise ConfigurationError(f"--resume: {out} holds the results of {held}, and this is another command; {_ADVICE}")
    for job in jobs:
        if (job.out / JOB_FILE).exists() and not job.is_done() and (found := job.changed()):
            raise ConfigurationError(f"--resume: {job.out} holds results with another {', '.join(found)}; {_ADVICE}")


def make_directory(directory: Path) -> None:
    """Make a directory for results, unless it exists.

    Raises:
        ConfigurationError: It cannot be created.
    """
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        advice = disk_problem(error) or f"{directory}: {error.strerror}; give a directory that can be written"
        raise ConfigurationError(f"--out {advice}") from None


def begin_results(directory: Path) -> None:
    """Make a directory and remove the results of an earlier replay from it, so that they are not mistaken for new ones.

    Raises:
        ConfigurationError: It cannot be created.
    """
    make_directory(directory)
    if not _holds_results(directory):  # then its folders are not from a replay
        return
    for name in _RESULTS:
        (directory / name).unlink(missing_ok=True)
    for name in _RESULT_FOLDERS:
        if not (directory / name / JOB_FILE).exists():  # one of several bags may have that name
            shutil.rmtree(directory / name, ignore_errors=True)


def _holds_results(directory: Path) -> bool:
    return any((directory / name).exists() for name in _RESULTS)


def find_bags(paths: Sequence[Path]) -> list[Path]:
    """Find the bags among paths, and those in folders at any depth; results of a replay are not searched.

    A LeRobot data set counts as a folder of its episodes, each of which can be named, too.

    Raises:
        BagError: A path does not exist, or there is no bag in it.
    """
    bags: dict[Path, Path] = {}  # by resolved path: a bag that is named twice is replayed once
    if not paths:
        raise BagError("no bag given; name rosbag2 directories, .mcap or .db3 files, or folders of them")
    for path in paths:
        if not path.exists() and not find_episode(path):
            raise BagError(f"{path}: no bag there")
        found = list(_bags_in(path)) if path.is_dir() else [path]
        if not found:
            raise BagError(
                f"{path}: holds no bag; expected rosbag2 directories, or .mcap or .db3 files{_instead(path)}"
            )
        for bag in found:
            bags.setdefault(bag.resolve(), bag)
    return list(bags.values())


def _instead(folder: Path) -> str:
    """What a folder without bags holds, with what to do; empty where it is nothing known."""
    if any(folder.glob("*.mp4")):
        return "; videos hold no transforms and no calibration: give the recordings that they were made from"
    return ""


def _bags_in(folder: Path) -> Iterator[Path]:
    if find_episode(folder):
        try:
            episodes = LeRobotDataSet(folder).episodes
        except DataSetError as error:
            raise BagError(str(error)) from None
        yield from (episode_path(folder, episode.index) for episode in episodes)
        return
    files = storage_files(folder)
    # A recorder that was killed leaves no metadata.yaml, but its files are named after the directory.
    named_after_it = files and all(f"{stem(file)}_".startswith(f"{folder.resolve().name}_") for file in files)
    if named_after_it or (folder / "metadata.yaml").exists():
        yield folder
        return
    if _holds_results(folder):  # its annotated recording is not a bag to replay
        return
    for path in sorted(folder.iterdir()):
        if path.is_dir():
            yield from _bags_in(path)
        elif is_storage(path) or path.suffix == ".bag":  # of ROS 1, which is reported with what to do
            yield path


def run_names(bags: Sequence[Path]) -> list[str]:
    """Names for the results of bags: the bags' own, with as many parent folders as make all names different."""
    parts = [bag.resolve().parts[1:] for bag in bags]
    depth = 1
    while len({part[-depth:] for part in parts}) < len(parts):
        depth += 1
    return ["-".join(part[-depth:]) for part in parts]

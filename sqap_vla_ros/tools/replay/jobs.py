"""What there is to replay: bags in folders, where the results of each go, and whether they are there already."""

import json
import shutil
from collections.abc import Iterator, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from pydantic import Field, model_validator

from sqap_vla_ros.bags.observations import Extrinsic
from sqap_vla_ros.bags.reader import BagError
from sqap_vla_ros.bags.recovery import is_storage, stem, storage_files
from sqap_vla_ros.config.files import ConfigurationError, named_file
from sqap_vla_ros.config.robot import Configuration
from sqap_vla_ros.config.settings import Group
from sqap_vla_ros.core.files import write_whole

JOB_FILE = "job.json"  # written last: what is in its directory is complete, and was made by this job
ERROR_FILE = "error.txt"
_TABLES = ("ticks.parquet", "timings.parquet", "summary.json")
_RESULTS = (
    *_TABLES,
    *(f"{name}.partial" for name in _TABLES),
    "summary.json.part",
    "report.html",
    "overlay.mp4",
    "overlay.mp4.part",
    JOB_FILE,
    ERROR_FILE,
)
_RESULT_FOLDERS = ("annotated", "annotated.partial")


FileStates = list[list[str | int]]
"""Name, bytes and time of change (ns) of each file."""
PolicyState = dict[str, Any]


class ReplayJob(Group):
    """One bag to replay, with everything that its results depend on.

    Attributes:
        bag: rosbag2 directory, or a bare storage file.
        out: Directory for the results.
        configuration: Robot, policy, checkpoint, device and threads.
        baseline: The same with the policy to compare with; None: none.
        as_recorded: Plan the ticks of a live recording again.
        image_topic: Empty: the configured one, or the only one.
        camera_info_topic: Empty: the one beside the images.
        tf_namespace: Empty: none, or the only one, or the images'.
        rate_hz: Most ticks per second of the bag; 0: every image.
        measured_delay: Lose the images that come while a plan is made.
        extrinsic: Where the camera is, unless the bag says so.
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
        """Of the policy, and of the baseline if there is one."""
        return [self.configuration, *([self.baseline] if self.baseline else [])]

    def is_done(self) -> bool:
        """Whether the directory holds the results of this job: of bag, policy files and checkpoints as they are now."""
        if not all((self.out / name).exists() for name in (*_TABLES, "report.html")):
            return False
        try:
            policies = [policy_state(configuration) for configuration in self.configurations]
            mark = self._mark(file_states(self.bag), policies)
            return bool(json.loads((self.out / JOB_FILE).read_text(encoding="utf-8")) == mark)
        except (OSError, ValueError):
            return False

    def finish(self, bag_files: FileStates, policies: list[PolicyState]) -> None:
        """Mark the directory as complete.

        Args:
            bag_files: As `file_states` had them before the bag was read.
            policies: As `policy_state` had them before policy and baseline were loaded.
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


def policy_state(configuration: Configuration) -> PolicyState:
    """What a policy is made of, as it is now: its file's text, and the files of its checkpoint and tokenizer."""
    return {
        "file": named_file("policies", configuration.policy).read_text(encoding="utf-8"),
        "checkpoint": file_states(Path(configuration.checkpoint)) if configuration.checkpoint else [],
        "tokenizer": file_states(Path(configuration.tokenizer)) if configuration.tokenizer else [],
    }


def file_states(path: Path) -> FileStates:
    """Name, bytes and time of change (ns) of a file, or of all in a directory; nothing where there is none."""
    files = [path] if path.is_file() else sorted(file for file in path.rglob("*") if file.is_file())
    # SQLite makes one of these while it reads.
    files = [file for file in files if not file.name.endswith("-shm")]
    return [[file.name, file.stat().st_size, file.stat().st_mtime_ns] for file in files]


def make_directory(directory: Path) -> None:
    """Make a directory for results, unless it is there.

    Raises:
        ConfigurationError: It cannot be made.
    """
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigurationError(f"--out {directory}: {error.strerror}; give a directory that can be written") from None


def begin_results(directory: Path) -> None:
    """Make a directory, without what an earlier replay left in it, so that nothing of it is taken for this one's.

    Raises:
        ConfigurationError: It cannot be made.
    """
    make_directory(directory)
    if not _holds_results(directory):  # then its folders are somebody else's
        return
    for name in _RESULTS:
        (directory / name).unlink(missing_ok=True)
    for name in _RESULT_FOLDERS:
        if not (directory / name / JOB_FILE).exists():  # results of a bag of that name, one of several
            shutil.rmtree(directory / name, ignore_errors=True)


def _holds_results(directory: Path) -> bool:
    return any((directory / name).exists() for name in _RESULTS)


def find_bags(paths: Sequence[Path]) -> list[Path]:
    """The bags that are named, and those in folders that are no bags themselves, however deep, but no replay's results.

    Raises:
        BagError: A path does not exist, or there is no bag in it.
    """
    bags: dict[Path, Path] = {}  # by where they really are: what is named twice is one bag
    if not paths:
        raise BagError("no bag given; name rosbag2 directories, .mcap or .db3 files, or folders of them")
    for path in paths:
        if not path.exists():
            raise BagError(f"{path}: no bag there")
        found = [path] if path.is_file() else list(_bags_in(path))
        if not found:
            raise BagError(f"{path}: holds no bag; expected rosbag2 directories, or .mcap or .db3 files")
        for bag in found:
            bags.setdefault(bag.resolve(), bag)
    return list(bags.values())


def _bags_in(folder: Path) -> Iterator[Path]:
    files = storage_files(folder)
    # A recorder that was killed leaves no metadata.yaml; its files are named after the directory.
    named_after_it = files and all(f"{stem(file)}_".startswith(f"{folder.resolve().name}_") for file in files)
    if named_after_it or (folder / "metadata.yaml").exists():
        yield folder
        return
    if _holds_results(folder):  # its annotated recording is no bag that somebody recorded
        return
    for path in sorted(folder.iterdir()):
        if path.is_dir():
            yield from _bags_in(path)
        elif is_storage(path):
            yield path


def run_names(bags: Sequence[Path]) -> list[str]:
    """A name for each bag's results: the bag's own, with as many folders before it as tell them all apart."""
    parts = [bag.resolve().parts[1:] for bag in bags]
    depth = 1
    while len({part[-depth:] for part in parts}) < len(parts):
        depth += 1
    return ["-".join(part[-depth:]) for part in parts]

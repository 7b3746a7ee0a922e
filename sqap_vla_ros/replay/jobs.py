"""What there is to replay: bags in folders, where the results of each go, and whether they are there already."""

import json
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from pydantic import Field, model_validator

from sqap_vla_ros.config import Configuration, Group
from sqap_vla_ros.config_files import ConfigurationError, named_file
from sqap_vla_ros.replay.bag import BagError
from sqap_vla_ros.replay.observations import Extrinsic
from sqap_vla_ros.replay.sequential import STORAGE_SUFFIXES, storage_files

JOB_FILE = "job.json"  # written last: what is in its directory is complete, and was made by this job
ERROR_FILE = "error.txt"
_TABLES = ("ticks.parquet", "timings.parquet", "summary.json")
_RESULTS = (
    *_TABLES,
    *(f"{name}.partial" for name in _TABLES),
    "report.html",
    "overlay.mp4",
    "overlay.partial.mp4",
    JOB_FILE,
    ERROR_FILE,
)
_RESULT_FOLDERS = ("annotated", "annotated.partial")


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

    def is_done(self) -> bool:
        """Whether the directory holds the results of this job: of bag, policy files and checkpoints as they are now."""
        if not all((self.out / name).exists() for name in (*_TABLES, "report.html")):
            return False
        try:
            return bool(json.loads((self.out / JOB_FILE).read_text(encoding="utf-8")) == self._mark())
        except (OSError, ValueError):
            return False

    def finish(self) -> None:
        """Mark the directory as complete."""
        (self.out / JOB_FILE).write_text(json.dumps(self._mark(), indent=2) + "\n", encoding="utf-8")

    def _mark(self) -> dict[str, Any]:
        settings = [configuration for configuration in (self.configuration, self.baseline) if configuration]
        return {
            **self.model_dump(mode="json"),
            "bag_files": _state(self.bag),
            "policy_files": [named_file("policies", each.policy).read_text(encoding="utf-8") for each in settings],
            "checkpoint_files": [_state(Path(each.checkpoint)) if each.checkpoint else [] for each in settings],
        }


def _state(path: Path) -> list[list[str | int]]:
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
    for name in _RESULTS:
        (directory / name).unlink(missing_ok=True)
    for name in _RESULT_FOLDERS:
        if not (directory / name / JOB_FILE).exists():  # results of a bag of that name, one of several
            shutil.rmtree(directory / name, ignore_errors=True)


def find_bags(paths: Sequence[Path]) -> list[Path]:
    """The bags that are named, and those in folders that are no bags themselves, however deep.

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
    named_after_it = files and all(f"{file.stem}_".startswith(f"{folder.resolve().name}_") for file in files)
    if named_after_it or (folder / "metadata.yaml").exists():
        yield folder
        return
    for path in sorted(folder.iterdir()):
        if path.is_dir():
            yield from _bags_in(path)
        elif path.suffix in STORAGE_SUFFIXES:
            yield path


def run_names(bags: Sequence[Path]) -> list[str]:
    """A name for each bag's results: the bag's own, with as many folders before it as tell them all apart."""
    parts = [bag.resolve().parts[1:] for bag in bags]
    depth = 1
    while len({part[-depth:] for part in parts}) < len(parts):
        depth += 1
    return ["-".join(part[-depth:]) for part in parts]

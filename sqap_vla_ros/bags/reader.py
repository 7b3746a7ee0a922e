"""A recorded bag: its topics, and their messages in the order in which they were recorded.

`rosbags` reads both storages (sqlite3 and MCAP) without ROS; messages are streamed, and none is kept. A recording that
was interrupted, which `rosbags` rejects, is read by `recovery`, from front to back up to the damage.
"""

from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from textwrap import shorten
from typing import Any, Self, cast

from backports import zstd
from rosbags.highlevel import AnyReader
from rosbags.rosbag2 import Reader
from rosbags.typesys import Stores, get_typestore
from rosbags.typesys.store import Typestore

from sqap_vla_ros.bags import completeness
from sqap_vla_ros.bags.lerobot import DataSetError, find_episode
from sqap_vla_ros.bags.lerobot_episodes import EpisodeReader
from sqap_vla_ros.bags.recovery import SequentialStorage, is_closed_mcap, readable, storage_files, write_ahead_log
from sqap_vla_ros.config.files import ConfigurationError, read_yaml
from sqap_vla_ros.config.robot import Frames
from sqap_vla_ros.core.errors import in_one_line

_CONVERTERS = {
    ".bag": "a ROS 1 bag; convert it to rosbag2 first, with rosbags-convert",
    **dict.fromkeys(
        (".mp4", ".avi", ".mkv", ".mov", ".webm"),
        "a video, which holds no transforms and no calibration; give the recording that it was made from",
    ),
    **dict.fromkeys(
        (".parquet", ".hdf5", ".h5", ".tfrecord"),
        "a data set file; give the directory of a LeRobot data set, or write its episodes as rosbag2 first",
    ),
}
_ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"


class BagError(ValueError):
    """A bag that cannot be used; the message says which bag, why, and what to do."""


class BagDamage(BagError):
    """The recording ends in the middle: all messages before this error are good, and none follows."""


class Bag:
    """A recording, opened for streaming: rosbag2, or a LeRobot data set as if a robot had published it.

    Args:
        path: A rosbag2 directory, a bare `.mcap` or `.db3` file, a LeRobot data set or one of its episodes.
        frames: Frames of the robot, for data sets that do not name them.

    Attributes:
        path: The same.
        lacks: Messages that the recording lists and does not hold, as a sentence; empty if it is complete.

    Raises:
        BagError: The path does not exist, or it is no bag that can be read.
    """

    def __init__(self, path: Path, frames: Frames | None = None) -> None:
        self.path = path
        self.lacks = ""
        self._interrupted = ""  # why the recording is incomplete, even if every message of its files can be read
        self._workspace: TemporaryDirectory[str] | None = None
        self._reader: Any  # of rosbags, or what reads like it
        if find_episode(path):
            try:
                self._reader = EpisodeReader(path, frames or Frames())
            except DataSetError as error:
                raise BagError(str(error)) from None
            return
        _refuse_other_files(path)
        files = storage_files(path)
        failure = ""
        listed = Counter[str]()
        try:
            self._reader = _open([path])
            listed = completeness.listed_counts(self._reader)
            files = completeness.files_of_recording(self._reader, files)
            is_right = completeness.metadata_is_right(self._reader, files)
            is_whole = _index_can_be_used(self._reader, files)
            if not files or (is_right and is_whole):
                self._note_what_is_missing(listed, files)
                return
            self._reader.close()
        except KeyError as error:
            # A message definition that the recorder did not know, which is harmless.
            failure, is_whole = _short(error), False
        except Exception as error:  # damaged files can make the parsers raise anything
            failure, is_whole = _short(error), False
            if not _is_closed(path):
                reason = "its end is missing" if path.suffix == ".mcap" else failure
                self._interrupted = f"{path}: not a whole recording ({reason}); read as far as it goes"
        if not files:
            raise BagError(f"{path}: cannot be read as a rosbag2 recording: {failure}")
        self._workspace = TemporaryDirectory(prefix="sqap-vla-bag-")
        try:
            files = readable(files, Path(self._workspace.name))
            # Without metadata.yaml, unless an index of a file misses messages: then from front to back.
            self._reader = _open(files) if is_whole else _open(files[:1], SequentialStorage(files))
        except Exception as error:
            raise BagError(f"{path}: cannot be read as a rosbag2 recording: {failure or _short(error)}") from None
        if failure and not self._reader.connections:
            raise BagError(f"{path}: cannot be read as a rosbag2 recording: {failure}")
        self._note_what_is_missing(listed, files)

    def _note_what_is_missing(self, listed: Counter[str], files: Sequence[Path]) -> None:
        missing = completeness.lacking(listed, completeness.held_counts(self._reader)) or completeness.orphans(files)
        self.lacks = missing
        if missing and not self._interrupted:
            self._interrupted = f"{self.path}: {missing}"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._reader.close()
        if self._workspace:
            self._workspace.cleanup()

    @property
    def duration_s(self) -> float:
        """Time between the first and the last message."""
        return max(0.0, self._reader.duration * 1e-9)  # the reader's is negative if there are no messages

    @property
    def start_ns(self) -> int:
        """Recording time of the first message."""
        return self._reader.start_time

    @property
    def topic_types(self) -> dict[str, str]:
        """Message type of every topic."""
        return {connection.topic: connection.msgtype for connection in self._reader.connections}

    def count(self, topic: str) -> int:
        """Number of messages of a topic."""
        return self._reader.topics[topic].msgcount

    def messages(self, topics: Collection[str]) -> Iterator[tuple[str, int, Any]]:
        """All messages of some topics, as (topic, recording time in nanoseconds, message).

        Topics that the bag does not have are ignored. Several passes can be under way at the same time.

        Raises:
            BagDamage: The recording is damaged at the place that was reached.
        """
        connections = [connection for connection in self._reader.connections if connection.topic in topics]
        if not connections:  # rosbags would take an empty list for all topics
            return
        try:
            for connection, recorded_ns, raw in self._reader.messages(connections):
                # Only metadata.yaml says that messages were compressed one by one. No plain message begins like that:
                # its first byte is 0.
                raw = zstd.decompress(raw) if raw.startswith(_ZSTD_MAGIC) else raw
                yield connection.topic, recorded_ns, self._reader.deserialize(raw, connection.msgtype)
        except Exception as error:  # damaged bytes can make the parser raise anything
            raise BagDamage(f"{self.path}: damaged, read up to here: {_short(error)}") from None
        if self._interrupted:
            raise BagDamage(self._interrupted)


def _open(paths: Sequence[Path], storage: SequentialStorage | None = None) -> AnyReader:
    """Open a directory or storage files, or the storage that replaces the reader of the first one."""
    # Bags of older distributions carry no message definitions: those of Jazzy are used.
    reader = AnyReader(paths, default_typestore=_jazzy())
    if storage:
        cast(list[Reader], reader.readers)[0].storage = storage
    reader.open()
    return reader


@cache
def _jazzy() -> Typestore:
    return get_typestore(Stores.ROS2_JAZZY)


def _refuse_other_files(path: Path) -> None:
    """Refuse what is no recording, with what to do."""
    if not path.exists():
        raise BagError(f"{path}: no bag there")
    if path.is_file() and (advice := _CONVERTERS.get(path.suffix.lower())):
        raise BagError(f"{path}: {advice}")


def _is_closed(path: Path) -> bool:
    """Whether the recorder of a bare MCAP or a directory came to its end, and all files that it wrote are there."""
    if path.is_file():
        return path.suffix == ".mcap" and is_closed_mcap(path)
    try:
        files = read_yaml(path / "metadata.yaml")["rosbag2_bagfile_information"]["relative_file_paths"]
        return all((path / Path(file).name).exists() for file in files)
    except (ConfigurationError, KeyError, TypeError):
        return False


def _index_can_be_used(reader: AnyReader, files: Sequence[Path]) -> bool:
    """Whether the reader of rosbags misses no message, and several passes at a time do not disturb each other."""
    return completeness.index_is_whole(reader, files) and not any(write_ahead_log(file) for file in files)


def _short(error: Exception) -> str:
    """The error in at most one line: some quote the damaged bytes."""
    return shorten(in_one_line(error).replace("\0", " "), 200)

"""What a reader gives of a recording, held against what its files hold.

An index or a metadata.yaml describes a recording and can be wrong: metadata.yaml is edited by hand (to latch
/tf_static, to rename a topic), and writers of MCAP may leave out indexes. `rosbags` believes both, and gives nothing of
what they do not list. Here only counts and indexes are read, not the messages.
"""

import sqlite3
from collections import Counter
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, cast

from rosbags.highlevel import AnyReader
from rosbags.interfaces import Connection
from rosbags.rosbag2 import Reader
from rosbags.rosbag2.reader import DirectoryReader
from rosbags.rosbag2.storage_mcap import McapReader

from sqap_vla_ros.bags.recovery import has_statistics, open_sqlite, stem

_UNKNOWN_TYPE = "__schemaless__"  # what rosbags calls a type that the summary does not repeat


def listed_counts(reader: AnyReader) -> Counter[str]:
    """Number of messages of each topic as a directory's metadata.yaml lists it; empty for bare files."""
    counts = Counter[str]()
    for directory in _directories(reader):
        for connection in directory.connections:  # a topic may be listed twice
            counts[connection.topic] = max(counts[connection.topic], connection.msgcount)
    return counts


def held_counts(reader: AnyReader) -> Counter[str]:
    """Number of messages of each topic in the storage files."""
    counts = Counter[str]()
    for storage in storages(reader):
        for connection in storage.connections:
            counts[connection.topic] += connection.msgcount
    return counts


def metadata_is_right(reader: AnyReader, files: Sequence[Path]) -> bool:
    """Whether metadata.yaml, if there is one, describes the topics of the recording's files, and lists all files."""
    matches = all(
        any(_same_topic(listed, held) for listed in directory.connections)
        for directory in _directories(reader)
        for storage in directory.storages
        for held in storage.connections
    )
    lists_all = len(storages(reader)) == len(files)
    listed = Counter[str]()
    for directory in _directories(reader):
        for connection in directory.connections:
            listed[connection.topic] += connection.msgcount
    return not _directories(reader) or (matches and lists_all and +listed == +held_counts(reader))


def index_is_whole(reader: AnyReader, files: Sequence[Path]) -> bool:
    """Whether the indexes lead to every message that the files count."""
    mcap = all(_mcap_index_is_whole(storage) for storage in storages(reader) if isinstance(storage, McapReader))
    return mcap and all(_sqlite_index_is_whole(file) for file in files if file.suffix == ".db3")


def lacking(listed: Counter[str], held: Counter[str]) -> str:
    """What metadata.yaml lists and the files do not hold, as a sentence; empty if nothing is missing."""
    missing = [f"{topic} ({held[topic]} of {count})" for topic, count in sorted(listed.items()) if held[topic] < count]
    if not missing or listed.total() <= held.total():  # a topic that was renamed is under its other name
        return ""
    return (
        f"metadata.yaml lists {listed.total()} messages, the files hold {held.total()}; missing are: "
        f"{', '.join(missing)}"
    )


def orphans(files: Sequence[Path]) -> str:
    """Messages of SQLite files whose topic is not listed in them, as a sentence; empty if there are none."""
    count = sum(
        _query(file, "SELECT COUNT(*) FROM messages NOT INDEXED WHERE topic_id NOT IN (SELECT id FROM topics)")
        for file in files
        if file.suffix == ".db3"
    )
    return f"{count} messages belong to a topic that the file does not list, and are left out" if count else ""


def storages(reader: AnyReader) -> list[Any]:
    """The storage of every file."""
    files = cast(list[Reader], reader.readers)
    return [inner for file in files for inner in getattr(file.storage, "storages", [file.storage])]


def files_of_recording(reader: AnyReader, files: Sequence[Path]) -> list[Path]:
    """Those of the files in a directory that belong to the recording: listed, or numbered as the listed ones are."""
    if not _directories(reader):
        return list(files)
    listed = {stem(Path(str(storage.path))) for storage in storages(reader)}
    series = {_series(name) for name in listed} - {""}
    return [file for file in files if stem(file) in listed or _series(stem(file)) in series]


def _series(name: str) -> str:
    """The name without its number, as "bag" of "bag_3"; empty if it has none."""
    base, _, number = name.rpartition("_")
    return base if number.isdigit() else ""


def _directories(reader: AnyReader) -> list[DirectoryReader]:
    files = cast(list[Reader], reader.readers)
    return [file.storage for file in files if isinstance(file.storage, DirectoryReader)]


def _same_topic(listed: Connection, held: Connection) -> bool:
    """Whether rosbags takes both for one topic."""
    hashes = not listed.digest or not held.digest or listed.digest == held.digest
    return (listed.topic, listed.msgtype, listed.ext) == (held.topic, held.msgtype, held.ext) and hashes


def _mcap_index_is_whole(storage: McapReader) -> bool:
    if not storage.chunks or not has_statistics(Path(str(storage.path))) or storage.statistics is None:
        return False  # nothing to hold the index against
    indexed = Counter[int]()
    for chunk in storage.chunks:
        indexed.update(chunk.channel_count)
    known = {connection.id for connection in storage.connections if connection.msgtype != _UNKNOWN_TYPE}
    counted = Counter(storage.statistics.channel_message_counts)
    return +indexed == +counted and storage.statistics.message_count == counted.total() and set(+counted) <= known


def _sqlite_index_is_whole(file: Path) -> bool:
    """Whether the index on time, in whose order messages are read, has as many entries as the table."""
    return _query(file, "SELECT COUNT(*) FROM messages NOT INDEXED") == _query(file, "SELECT COUNT(*) FROM messages")


def _query(file: Path, query: str) -> int:
    try:
        with closing(open_sqlite(file)) as database:
            return int(database.execute(query).fetchone()[0])
    except sqlite3.Error:
        return 0

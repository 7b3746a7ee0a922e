"""Recovery of interrupted recordings: storage files are read from front to back, without their end or index.

A recorder that was killed leaves an MCAP without index or an SQLite file that ends in the middle, and `rosbags` rejects
both. `SequentialStorage` replaces its reader (`rosbags.rosbag2.Reader.storage`) and gives the messages in the order of
the files, until one ends in the middle or is damaged. MCAP records are read here, not by the `mcap` library, so that
the records of an uncompressed chunk that was cut are still read one by one. Each pass opens the files anew, so that
several passes can be under way.
"""

import io
import os
import shutil
import sqlite3
import struct
from collections import Counter
from collections.abc import Collection, Generator, Iterator, Sequence
from contextlib import closing, suppress
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple
from urllib.parse import quote

from backports import zstd
from lz4.frame import decompress as lz4_decompress
from rosbags.interfaces import Connection, ConnectionExtRosbag2, MessageDefinition, MessageDefinitionFormat
from rosbags.rosbag2.metadata import ReaderMetadata

_SUFFIXES = (".db3", ".mcap")
_PACKED = ".zstd"

# Records of an MCAP, by opcode; see https://mcap.dev/spec
_FOOTER, _SCHEMA, _CHANNEL, _MESSAGE, _CHUNK, _STATISTICS, _DATA_END = 0x02, 0x03, 0x04, 0x05, 0x06, 0x0B, 0x0F
_FOOTER_BYTES = 37  # with the magic at the end
_MAGIC = b"\x89MCAP0\r\n"

_DEFINITIONS = {"ros2msg": MessageDefinitionFormat.MSG, "ros2idl": MessageDefinitionFormat.IDL}


class DamagedFile(ValueError):
    """The file ends in the middle, or it is no recording; the message says where."""


class _Topic(NamedTuple):
    name: str
    kind: str
    definition: MessageDefinition


_Message = tuple[_Topic, int, bytes]
"""Topic, recording time in nanoseconds, serialised message."""


class SequentialStorage:
    """The files of one recording, one after the other.

    Args:
        files: `.mcap` or `.db3`, in the order of recording.
    """

    def __init__(self, files: Sequence[Path]) -> None:
        self.path = files[0]
        self.connections: list[Connection] = []
        self.metadata = ReaderMetadata(0, 2**63 - 1, 0, 0, None, None, None, None)
        self._files = files
        self._topics: dict[_Topic, Connection] = {}

    def open(self) -> None:
        """Collect the topics of the files up to the damage, which is reported when the messages are read."""
        counts = Counter[_Topic]()
        first_ns, last_ns = 2**63 - 1, 0
        with suppress(Exception):  # damaged bytes can make the parser raise anything
            for topic, at_ns, _ in self._scan():
                counts[topic] += 1
                first_ns, last_ns = min(first_ns, at_ns), max(last_ns, at_ns)
        cdr = ConnectionExtRosbag2("cdr", [])
        self._topics = {
            topic: Connection(number, topic.name, topic.kind, topic.definition, "", count, cdr, self)
            for number, (topic, count) in enumerate(counts.items())
        }
        self.connections = list(self._topics.values())
        if total := counts.total():
            self.metadata = self.metadata._replace(
                start_time=first_ns, end_time=last_ns + 1, duration=last_ns + 1 - first_ns, message_count=total
            )

    def close(self) -> None:
        """Forget the topics; no file is open between two passes."""
        self.connections.clear()
        self._topics.clear()

    def messages(
        self, connections: Collection[Connection], start: int | None = None, stop: int | None = None
    ) -> Generator[tuple[Connection, int, bytes], None, None]:
        """Messages as (connection, recording time in nanoseconds, serialised message), in the order of the files.

        Raises:
            DamagedFile: A file ends in the middle. Other damage can raise any error.
        """
        wanted = {connection.id for connection in connections}
        for topic, at_ns, data in self._scan():
            connection = self._topics[topic]
            if connection.id in wanted and (start is None or start <= at_ns) and (stop is None or at_ns < stop):
                yield connection, at_ns, data

    def _scan(self) -> Iterator[_Message]:
        for file in self._files:
            yield from _mcap_messages(file) if file.suffix == ".mcap" else _sqlite_messages(file)


def _mcap_messages(path: Path) -> Iterator[_Message]:
    schemas: dict[int, tuple[str, MessageDefinition]] = {}
    topics: dict[int, _Topic] = {}
    with path.open("rb") as file:
        if file.read(8) != _MAGIC:
            raise DamagedFile(f"{path.name} is no MCAP")
        for opcode, record in _records(file):
            if opcode == _MESSAGE:
                topic_id, _, at_ns, _ = struct.unpack_from("<HIQQ", record)
                yield topics[topic_id], at_ns, record[22:]
            elif opcode == _SCHEMA:
                schema_id = struct.unpack_from("<H", record)[0]
                name, encoding, text = _strings(record[2:], 3)
                known = _DEFINITIONS.get(encoding, MessageDefinitionFormat.NONE)
                schemas[schema_id] = name, MessageDefinition(known, text)
            elif opcode == _CHANNEL:
                topic_id, schema_id = struct.unpack_from("<HH", record)
                (name,) = _strings(record[4:], 1)
                topics[topic_id] = _Topic(name, *schemas[schema_id])


def _records(file: BinaryIO, end: int | None = None) -> Iterator[tuple[int, bytes]]:
    """The records of an MCAP's data section, or of an unpacked chunk that ends at `end`, as (opcode, content)."""
    while end is None or file.tell() < end:
        opcode, size = struct.unpack("<BQ", _exactly(file, 9))
        if opcode == _DATA_END:
            return
        if opcode != _CHUNK:
            yield opcode, _exactly(file, size)
            continue
        _exactly(file, 28)  # times, size and checksum of the chunk
        compression = _exactly(file, struct.unpack("<I", _exactly(file, 4))[0]).decode()
        packed_size = struct.unpack("<Q", _exactly(file, 8))[0]
        if compression:  # otherwise its records are simply the next ones, and read even where the chunk ends early
            unpack = {"zstd": zstd.decompress, "lz4": lz4_decompress}[compression]
            chunk = unpack(_exactly(file, packed_size))
            yield from _records(io.BytesIO(chunk), len(chunk))


def _exactly(file: BinaryIO, size: int) -> bytes:
    position = file.tell()
    try:
        data = file.read(size)
    except (OverflowError, MemoryError):
        data = b""
    if len(data) < size:
        raise DamagedFile(f"the file ends in the middle of a record, after {position} bytes")
    return data


def _strings(data: bytes, count: int) -> list[str]:
    """The first `count` strings; each follows its length."""
    file = io.BytesIO(data)
    return [_exactly(file, struct.unpack("<I", _exactly(file, 4))[0]).decode() for _ in range(count)]


def has_statistics(path: Path) -> bool:
    """Whether an MCAP ends with a summary that counts its messages, to hold an index against."""
    with path.open("rb") as file:
        file.seek(-_FOOTER_BYTES, os.SEEK_END)
        footer = file.read()
        (summary,) = struct.unpack_from("<Q", footer, 9)
        if footer[-8:] != _MAGIC or not summary:
            return False
        file.seek(summary)
        while (opcode := file.read(1)) and opcode[0] not in (_FOOTER, _STATISTICS):
            file.seek(struct.unpack("<Q", _exactly(file, 8))[0], os.SEEK_CUR)
        return opcode == bytes((_STATISTICS,))


def is_closed_mcap(path: Path) -> bool:
    """Whether the writer of an MCAP came to its end."""
    with path.open("rb") as file:
        return file.read(8) == _MAGIC and file.seek(-8, os.SEEK_END) >= _FOOTER_BYTES and file.read() == _MAGIC


def open_sqlite(path: Path) -> sqlite3.Connection:
    """Open a `.db3` for reading; no file is written next to it."""
    # An immutable database must not have a write-ahead log; without one, no file is written next to the bag.
    mode = "mode=ro" if write_ahead_log(path) else "immutable=1"
    return sqlite3.connect(f"file:{quote(str(path))}?{mode}", uri=True)


def _sqlite_messages(path: Path) -> Iterator[_Message]:
    with closing(open_sqlite(path)) as database:
        database.execute("PRAGMA writable_schema = ON")  # lets SQLite open a file that is too short
        definitions = _definitions(database)
        nothing = MessageDefinition(MessageDefinitionFormat.NONE, "")
        topics = {
            topic_id: _Topic(topic, kind, definitions.get(kind, nothing))
            for topic_id, topic, kind in database.execute("SELECT id, name, type FROM topics")
        }
        # Read the table alone: the index on time may lie in the part that is missing.
        for topic_id, at_ns, data in database.execute("SELECT topic_id, timestamp, data FROM messages NOT INDEXED"):
            if topic_id in topics:  # others are counted by `completeness.orphans`
                yield topics[topic_id], at_ns, data


def _definitions(database: sqlite3.Connection) -> dict[str, MessageDefinition]:
    """Message definitions by type; older recordings have none."""
    query = "SELECT topic_type, encoding, encoded_message_definition FROM message_definitions"
    try:
        rows: list[Any] = database.execute(query).fetchall()
    except sqlite3.Error:
        return {}
    # A recorder without the .msg file of a type records an unknown definition.
    unknown = MessageDefinitionFormat.NONE
    return {kind: MessageDefinition(_DEFINITIONS.get(encoding, unknown), text) for kind, encoding, text in rows}


def is_storage(path: Path) -> bool:
    """Whether a file has the name of a storage file, compressed as a whole or not."""
    return Path(path.name.removesuffix(_PACKED)).suffix in _SUFFIXES


def stem(path: Path) -> str:
    """Name of a storage file without its suffixes."""
    return Path(path.name.removesuffix(_PACKED)).stem


def storage_files(path: Path) -> list[Path]:
    """The storage files of a rosbag2 directory, in the order of recording; a bare file is returned itself.

    A file that the recorder was about to compress exists twice; the copy that is not compressed is the complete one.
    """
    if path.is_file():
        return [path]
    by_stem = {stem(file): file for file in sorted(path.iterdir(), reverse=True) if is_storage(file)}
    return [by_stem[name] for name in sorted(by_stem, key=_numbers)]


def _numbers(name: str) -> list[int]:
    return [int(word) if word.isdigit() else 0 for word in name.split("_")]


def readable(files: Sequence[Path], directory: Path) -> list[Path]:
    """The files in a form that can be read; those that need it are copied to a directory.

    A file that is compressed as a whole is unpacked, as far as that goes. An SQLite file that ends within a page is
    copied without that page, since SQLite would read its missing rest as zeros.
    """
    return [_readable(file, directory) for file in files]


def _readable(file: Path, directory: Path) -> Path:
    target = directory / file.name.removesuffix(_PACKED)
    if file.suffix == _PACKED:
        with suppress(EOFError, zstd.ZstdError), zstd.open(file) as source, target.open("wb") as sink:
            shutil.copyfileobj(source, sink)
        file = target
    if file.suffix != ".db3" or write_ahead_log(file) or not (partial := file.stat().st_size % _page_bytes(file)):
        return file
    if file != target:
        shutil.copyfile(file, target)
    os.truncate(target, target.stat().st_size - partial)
    return target


def _page_bytes(database: Path) -> int:
    """Page size in the header of an SQLite file; 1 if the header is missing."""
    with database.open("rb") as file:
        size = int.from_bytes(file.read(18)[16:], "big")
    return 65536 if size == 1 else max(size, 1)


def write_ahead_log(path: Path) -> bool:
    """Whether messages of an SQLite storage are still in its write-ahead log, since its recorder did not close it."""
    log = path.with_name(path.name + "-wal")
    return log.is_file() and log.stat().st_size > 0

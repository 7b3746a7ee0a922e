"""Storage files read from front to back, for those whose end or index is missing.

A recorder that was killed leaves an MCAP without index or an SQLite file that ends in the middle, and the readers of
`rosbags` refuse both. What is here takes the place of such a reader (`rosbags.rosbag2.Reader.storage`): it gives the
messages in the order in which they lie in the files, until one ends in the middle or is damaged. Each pass opens the
files anew, so that several can be under way.
"""

import io
import shutil
import struct
from collections import Counter
from collections.abc import Collection, Generator, Iterator, Sequence
from contextlib import closing, suppress
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple
from urllib.parse import quote

import apsw
from backports import zstd
from lz4.frame import decompress as lz4_decompress
from rosbags.interfaces import Connection, ConnectionExtRosbag2, MessageDefinition, MessageDefinitionFormat
from rosbags.rosbag2.metadata import ReaderMetadata

_SUFFIXES = (".db3", ".mcap")
_PACKED = ".zstd"

# Records of an MCAP, by opcode; see https://mcap.dev/spec
_SCHEMA, _CHANNEL, _MESSAGE, _CHUNK, _DATA_END = 0x03, 0x04, 0x05, 0x06, 0x0F
_MAGIC = b"\x89MCAP0\r\n"

_DEFINITIONS = {"ros2msg": MessageDefinitionFormat.MSG, "ros2idl": MessageDefinitionFormat.IDL}


class DamagedFile(ValueError):
    """The file ends in the middle, or what it holds is no recording; the message says where."""


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
        """Look through the files up to their damage, which reading the messages will tell."""
        counts = Counter[_Topic]()
        first_ns, last_ns = 2**63 - 1, 0
        with suppress(Exception):  # damaged bytes make the parser fail in whatever way they happen to
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
        """As (connection, recording time in nanoseconds, serialised message), in the order of the files.

        Raises:
            DamagedFile: Where a file ends in the middle; other errors where it is damaged.
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
    """The first of several strings that each follow their length."""
    file = io.BytesIO(data)
    return [_exactly(file, struct.unpack("<I", _exactly(file, 4))[0]).decode() for _ in range(count)]


def _sqlite_messages(path: Path) -> Iterator[_Message]:
    name, flags = f"file:{quote(str(path))}", apsw.SQLITE_OPEN_READONLY | apsw.SQLITE_OPEN_URI
    whole_pages = _WholePages(path)
    if write_ahead_log(path):  # which an immutable database must not have
        database = apsw.Connection(name, flags)
    else:
        database = apsw.Connection(f"{name}?immutable=1", flags, whole_pages.vfs_name)
    with closing(database):
        database.execute("PRAGMA writable_schema = ON")  # a file that is too short is opened nevertheless
        definitions = _definitions(database)
        nothing = MessageDefinition(MessageDefinitionFormat.NONE, "")
        topics = {
            topic_id: _Topic(topic, kind, definitions.get(kind, nothing))
            for topic_id, topic, kind in database.execute("SELECT id, name, type FROM topics")
        }
        # By the table alone: the index on time may lie in the part that is missing.
        for topic_id, at_ns, data in database.execute("SELECT topic_id, timestamp, data FROM messages NOT INDEXED"):
            yield topics[topic_id], at_ns, data


class _WholePages(apsw.VFS):
    """Shows SQLite a file without the page that it ends in, whose missing rest would be read as zeros."""

    def __init__(self, path: Path) -> None:
        with path.open("rb") as file:
            size = int.from_bytes(file.read(18)[16:], "big")
        self.page_bytes = 65536 if size == 1 else max(size, 1)
        self.vfs_name = f"whole pages of {path}"
        super().__init__(self.vfs_name, "")

    def xOpen(self, name: str | apsw.URIFilename | None, flags: list[int]) -> apsw.VFSFile:  # noqa: N802
        """Open a file as the system does."""
        return _FileOfWholePages("", name, flags, self.page_bytes)


class _FileOfWholePages(apsw.VFSFile):
    def __init__(self, vfs: str, name: str | apsw.URIFilename | None, flags: list[int], page_bytes: int) -> None:
        self._page_bytes = page_bytes
        super().__init__(vfs, name, flags)

    def xFileSize(self) -> int:  # noqa: N802
        size = super().xFileSize()
        return size - size % self._page_bytes


def _definitions(database: apsw.Connection) -> dict[str, MessageDefinition]:
    """Message definitions by type; older recordings have none."""
    query = "SELECT topic_type, encoding, encoded_message_definition FROM message_definitions"
    try:
        rows: list[Any] = database.execute(query).fetchall()
    except apsw.Error:
        return {}
    # A recorder without a type's .msg file says that it does not know the definition.
    unknown = MessageDefinitionFormat.NONE
    return {kind: MessageDefinition(_DEFINITIONS.get(encoding, unknown), text) for kind, encoding, text in rows}


def is_storage(path: Path) -> bool:
    """Whether a file is named as a storage file, compressed as a whole or not."""
    return Path(path.name.removesuffix(_PACKED)).suffix in _SUFFIXES


def stem(path: Path) -> str:
    """Name of a storage file without what says how it is stored."""
    return Path(path.name.removesuffix(_PACKED)).stem


def storage_files(path: Path) -> list[Path]:
    """The storage files of a rosbag2 directory, in the order of recording; a bare file is its own.

    Of a file that the recorder was about to compress there are two; the one that is not compressed is whole.
    """
    if path.is_file():
        return [path]
    by_stem = {stem(file): file for file in sorted(path.iterdir(), reverse=True) if is_storage(file)}
    return [by_stem[name] for name in sorted(by_stem, key=_numbers)]


def _numbers(name: str) -> list[int]:
    return [int(word) if word.isdigit() else 0 for word in name.split("_")]


def unpacked(files: Sequence[Path], directory: Path) -> list[Path]:
    """The same files, those that are compressed as a whole unpacked into a directory, as far as that goes."""
    return [_unpack(file, directory) if file.suffix == _PACKED else file for file in files]


def _unpack(file: Path, directory: Path) -> Path:
    target = directory / file.name.removesuffix(_PACKED)
    with suppress(EOFError, zstd.ZstdError), zstd.open(file) as source, target.open("wb") as sink:
        shutil.copyfileobj(source, sink)
    return target


def write_ahead_log(path: Path) -> bool:
    """Whether messages of an SQLite storage still lie beside it, since its recorder did not close it."""
    log = path.with_name(path.name + "-wal")
    return log.is_file() and log.stat().st_size > 0

"""MCAP files as other writers than ros2 bag leave them, record by record after https://mcap.dev/spec."""

import struct
import zlib
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

from backports import zstd
from lz4.frame import compress as lz4_compress
from synthetic_bags import STORE, Entry

MAGIC = b"\x89MCAP0\r\n"
_PACK = {"": bytes, "zstd": zstd.compress, "lz4": lz4_compress}


@dataclass(frozen=True)
class Form:
    """What a writer leaves out, and how it packs.

    Attributes:
        per_chunk: Messages of a chunk; 0: no chunks.
        compression: Of the chunks.
        unindexed: Numbers of the chunks without message index; None: all.
        unindexed_topics: Topics that no message index lists.
        unlisted: Numbers of the chunks that the summary does not list.
        statistics: Whether the summary counts the messages.
        topic_counts: Whether it counts them by topic.
        schemas: Whether the summary repeats the schemas.
        channels: Whether the summary repeats the channels.
        summary: Whether there is a summary.
        profile: Profile in the header.
        attachment: Whether an attachment lies between the chunks.
    """

    per_chunk: int = 10
    compression: str = ""
    unindexed: Collection[int] | None = ()
    unindexed_topics: Collection[str] = ()
    unlisted: Collection[int] = ()
    statistics: bool = True
    topic_counts: bool = True
    schemas: bool = True
    channels: bool = True
    summary: bool = True
    profile: str = "ros2"
    attachment: bool = False


def _text(value: str) -> bytes:
    return struct.pack("<I", len(value.encode())) + value.encode()


def _record(opcode: int, content: bytes) -> bytes:
    return struct.pack("<BQ", opcode, len(content)) + content


def write_mcap(path: Path, entries: Sequence[Entry], form: Form) -> Path:
    """Write messages in the order given, in a form."""
    kinds = list(dict.fromkeys(message.__msgtype__ for _, _, message in entries))  # type: ignore[attr-defined]
    topics = list(dict.fromkeys(topic for _, topic, _ in entries))
    kind_of = {topic: message.__msgtype__ for _, topic, message in entries}  # type: ignore[attr-defined]
    schemas = {
        kind: _record(
            3,
            struct.pack("<H", kinds.index(kind) + 1)
            + _text(kind)
            + _text("ros2msg")
            + _text(STORE.generate_msgdef(kind, ros_version=2)[0]),
        )
        for kind in kinds
    }
    channels = {
        topic: _record(
            4,
            struct.pack("<HH", topics.index(topic), kinds.index(kind_of[topic]) + 1)
            + _text(topic)
            + _text("cdr")
            + struct.pack("<I", 0),
        )
        for topic in topics
    }
    data = bytearray(MAGIC + _record(1, _text(form.profile) + _text("by hand")))
    size = form.per_chunk or len(entries)
    declared: set[str] = set()
    chunk_indexes = b""
    for number, begin in enumerate(range(0, len(entries), size)):
        records, offsets = bytearray(), dict[str, list[tuple[int, int]]]()
        for at_ns, topic, message in entries[begin : begin + size]:
            kind = kind_of[topic]
            if topic not in declared:
                declared.add(topic)
                records += schemas[kind] + channels[topic]
            offsets.setdefault(topic, []).append((at_ns, len(records)))
            content = STORE.serialize_cdr(message, kind)
            records += _record(5, struct.pack("<HIQQ", topics.index(topic), 0, at_ns, at_ns) + bytes(content))
        if not form.per_chunk:
            data += records
            continue
        times = [at_ns for at_ns, *_ in entries[begin : begin + size]]
        packed, start = _PACK[form.compression](bytes(records)), len(data)
        data += _record(
            6,
            struct.pack("<QQQI", min(times), max(times), len(records), zlib.crc32(records))
            + _text(form.compression)
            + struct.pack("<Q", len(packed))
            + packed,
        )
        end, places = len(data), b""
        for topic, entry in offsets.items():
            if form.unindexed is None or number in form.unindexed or topic in form.unindexed_topics:
                continue
            places += struct.pack("<HQ", topics.index(topic), len(data))
            index = b"".join(struct.pack("<QQ", *place) for place in entry)
            data += _record(7, struct.pack("<HI", topics.index(topic), len(index)) + index)
        if number not in form.unlisted:
            chunk_indexes += _record(
                8,
                struct.pack("<QQQQI", min(times), max(times), start, end - start, len(places))
                + places
                + struct.pack("<Q", len(data) - end)
                + _text(form.compression)
                + struct.pack("<QQ", len(packed), len(records)),
            )
    if form.attachment:
        content = struct.pack("<QQ", 1, 1) + _text("notes.txt") + _text("text/plain") + struct.pack("<Q", 2) + b"hi"
        data += _record(9, content + struct.pack("<I", zlib.crc32(content)))
    data += _record(15, struct.pack("<I", 0))
    start = len(data)
    if form.summary:
        data += b"".join(schemas.values()) if form.schemas else b""
        data += b"".join(channels.values()) if form.channels else b""
        if form.statistics:
            counts = b"".join(
                struct.pack("<HQ", topics.index(topic), sum(entry[1] == topic for entry in entries)) for topic in topics
            )
            counts = counts if form.topic_counts else b""
            times = [at_ns for at_ns, *_ in entries]
            chunks = -(-len(entries) // size) if form.per_chunk else 0
            data += _record(
                11,
                struct.pack("<QHIIIIQQ", len(entries), len(kinds), len(topics), 0, 0, chunks, min(times), max(times))
                + struct.pack("<I", len(counts))
                + counts,
            )
        data += chunk_indexes
    data += _record(2, struct.pack("<QQI", start if len(data) > start else 0, 0, 0)) + MAGIC
    path.write_bytes(data)
    return path

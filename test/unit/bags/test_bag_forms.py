"""The reader takes a recording in every form that it can have: storage, compression, version, QoS, files."""

import shutil
import sqlite3
import struct
from enum import IntEnum
from pathlib import Path
from typing import Literal

import pytest
from rosbags.interfaces import Qos, QosDurability, QosHistory, QosLiveliness, QosReliability, QosTime
from rosbags.rosbag2 import CompressionMode, StoragePlugin, Writer
from synthetic_bags import START_NS, STORE, T, camera_info, image, messages, write_bag, write_messages

from sqap_vla_ros.bags.reader import Bag, BagDamage, BagError
from sqap_vla_ros.bags.topics import find_topics
from sqap_vla_ros.config.robot import Configuration
from sqap_vla_ros.config.settings import validate

CONFIGURATION = validate(Configuration, {"frames.base": "base", "frames.tool": "tool"}, "test")
SECONDS = 0.3
ENTRIES = messages(SECONDS)
EXPECTED = [(topic, at_ns) for at_ns, topic, _ in ENTRIES]

FORMS = [
    (storage, compression, version)
    for storage in StoragePlugin
    for compression in CompressionMode
    for version in (8, 9)
    if not (storage == StoragePlugin.SQLITE3 and compression == CompressionMode.STORAGE)  # there is no such thing
]
VALUES = [value for kind in (QosHistory, QosReliability, QosDurability, QosLiveliness) for value in kind]


def read(path: Path) -> list[tuple[str, int]]:
    """Topic and time of all messages that a replay needs."""
    with Bag(path) as bag:
        return [(topic, at_ns) for topic, at_ns, _ in bag.messages(find_topics(bag, CONFIGURATION).names)]


def read_until_damage(path: Path) -> tuple[list[tuple[str, int]], str]:
    """What could be read, and what is said about the rest."""
    seen = []
    with Bag(path) as bag:
        try:
            for topic, at_ns, _ in bag.messages(find_topics(bag, CONFIGURATION).names):
                seen.append((topic, at_ns))
        except BagDamage as damage:
            return seen, str(damage)
    return seen, ""


def qos(**values: IntEnum) -> Qos:
    """Quality of service with some values of its own."""
    never = QosTime(0, 0)
    usual = Qos(
        QosHistory.KEEP_LAST,
        10,
        QosReliability.RELIABLE,
        QosDurability.VOLATILE,
        never,
        never,
        QosLiveliness.AUTOMATIC,
        never,
        False,
    )
    return usual._replace(**values)


def without_chunks(mcap: bytes) -> bytes:
    """An uncompressed MCAP as a recorder without chunks and index writes it, its records one after the other."""
    position = 8 + 9 + struct.unpack_from("<Q", mcap, 9)[0]
    records = mcap[:position]
    while mcap[position] in (6, 7):
        opcode, size = struct.unpack_from("<BQ", mcap, position)
        records += mcap[position + 9 + 40 : position + 9 + size] if opcode == 6 else b""
        position += 9 + size
    data_end = struct.pack("<BQI", 15, 4, 0)
    return records + data_end + struct.pack("<BQQQI", 2, 20, 0, 0, 0) + mcap[:8]


@pytest.mark.parametrize(("storage", "compression", "version"), FORMS)
def test_every_storage_compression_and_version_gives_the_same_messages(
    tmp_path: Path, storage: StoragePlugin, compression: CompressionMode, version: Literal[8, 9]
) -> None:
    assert read(write_messages(tmp_path / "bag", ENTRIES, storage, compression, version)) == EXPECTED


@pytest.mark.slow
@pytest.mark.parametrize("storage", StoragePlugin)
@pytest.mark.parametrize("value", VALUES, ids=lambda value: f"{type(value).__name__}.{value.name}")
def test_every_quality_of_service_is_read(tmp_path: Path, storage: StoragePlugin, value: IntEnum) -> None:
    field = type(value).__name__.removeprefix("Qos").lower()
    for version in (8, 9):
        path = write_messages(
            tmp_path / f"v{version}", ENTRIES[:10], storage, version=version, qos=[qos(**{field: value})]
        )  # type: ignore[arg-type]
        with Bag(path) as bag:
            assert bag.count("/tf") == sum(topic == "/tf" for _, topic, _ in ENTRIES[:10])


@pytest.mark.parametrize("storage", StoragePlugin)
def test_a_topic_that_several_nodes_published_is_one_topic(tmp_path: Path, storage: StoragePlugin) -> None:
    kind = "std_msgs/msg/String"
    with Writer(tmp_path / "bag", version=9, storage_plugin=storage) as writer:
        for index, reliability in enumerate((QosReliability.RELIABLE, QosReliability.BEST_EFFORT)):
            profile = [qos(reliability=reliability)]
            connection = writer.add_connection("/a/instruction", kind, typestore=STORE, offered_qos_profiles=profile)
            writer.write(connection, index, STORE.serialize_cdr(T[kind](data=str(index)), kind))
    with Bag(tmp_path / "bag") as bag:
        assert bag.topic_types == {"/a/instruction": kind} and bag.count("/a/instruction") == 2


@pytest.mark.parametrize("compression", [CompressionMode.NONE, CompressionMode.MESSAGE, CompressionMode.STORAGE])
@pytest.mark.parametrize("storage", StoragePlugin)
def test_a_storage_file_is_read_without_its_directory(
    tmp_path: Path, storage: StoragePlugin, compression: CompressionMode
) -> None:
    if storage == StoragePlugin.SQLITE3 and compression == CompressionMode.STORAGE:
        pytest.skip("there is no such thing")
    bag = write_messages(tmp_path / "bag", ENTRIES, storage, compression)
    (file,) = (file for file in bag.iterdir() if file.suffix != ".yaml")
    assert read(file) == EXPECTED


def split(tmp_path: Path, storage: StoragePlugin) -> Path:
    """A recording in several files, without metadata.yaml, as a recorder that was killed leaves it."""
    whole = tmp_path / "split"
    whole.mkdir()
    for index, begin in enumerate(range(0, len(ENTRIES), 3)):
        part = write_messages(tmp_path / f"part{index}", ENTRIES[begin : begin + 3], storage)
        (file,) = (file for file in part.iterdir() if file.suffix != ".yaml")
        file.rename(whole / f"split_{index}{file.suffix}")
    return whole


@pytest.mark.parametrize("storage", StoragePlugin)
def test_a_directory_without_metadata_is_read_and_its_lack_is_told(tmp_path: Path, storage: StoragePlugin) -> None:
    seen, damage = read_until_damage(split(tmp_path, storage))  # split_10 comes after split_9
    assert seen == EXPECTED
    assert "not a whole recording" in damage


@pytest.mark.parametrize("storage", StoragePlugin)
def test_a_last_file_that_was_only_just_begun_does_not_keep_the_others_out(
    tmp_path: Path, storage: StoragePlugin
) -> None:
    bag = split(tmp_path, storage)
    (bag / f"split_99{next(bag.iterdir()).suffix}").touch()
    seen, damage = read_until_damage(bag)
    assert seen == EXPECTED
    assert "damaged, read up to here" in damage


def test_a_file_that_the_metadata_names_but_that_is_gone_is_told(tmp_path: Path) -> None:
    bag = split(tmp_path, StoragePlugin.MCAP)
    metadata = (tmp_path / "part0" / "metadata.yaml").read_text()
    (bag / "metadata.yaml").write_text(metadata.replace("part0.mcap", "gone.mcap"))
    seen, damage = read_until_damage(bag)
    assert seen == EXPECTED
    assert "gone.mcap" in damage


def test_an_mcap_without_chunks_is_read(tmp_path: Path) -> None:
    (file,) = write_bag(tmp_path / "bag", seconds=SECONDS).glob("*.mcap")
    file.write_bytes(without_chunks(file.read_bytes()))
    assert read_until_damage(file) == (EXPECTED, "")


def test_two_passes_over_an_mcap_without_chunks_do_not_disturb_each_other(tmp_path: Path) -> None:
    (file,) = write_bag(tmp_path / "bag", seconds=SECONDS).glob("*.mcap")
    file.write_bytes(without_chunks(file.read_bytes()))
    with Bag(file) as bag:
        topics = find_topics(bag, CONFIGURATION)
        both = zip(bag.messages(topics.names), bag.messages(topics.names), strict=True)
        assert [(one[1], other[1]) for one, other in both] == [(at_ns, at_ns) for _, at_ns in EXPECTED]


def test_messages_that_only_the_write_ahead_log_has_are_read(tmp_path: Path) -> None:
    (file,) = write_bag(tmp_path / "bag", StoragePlugin.SQLITE3, seconds=SECONDS).glob("*.db3")
    recorder = sqlite3.connect(file)
    recorder.execute("PRAGMA journal_mode = WAL")
    recorder.execute("PRAGMA wal_autocheckpoint = 0")
    ((topic_id,),) = recorder.execute("SELECT id FROM topics WHERE name = '/tf'")
    ((data,),) = recorder.execute("SELECT data FROM messages WHERE topic_id = ? LIMIT 1", (topic_id,))
    recorder.execute(
        "INSERT INTO messages (topic_id, timestamp, data) VALUES (?, ?, ?)", (topic_id, START_NS * 2, data)
    )
    recorder.commit()
    for suffix in ("", "-wal"):  # as they lie there when the recorder is killed
        shutil.copy(f"{file}{suffix}", tmp_path / f"killed.db3{suffix}")
    recorder.close()
    assert read(tmp_path / "killed.db3") == [*EXPECTED, ("/tf", START_NS * 2)]


def test_a_ros_1_bag_is_refused_with_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "old.bag").write_bytes(b"#ROSBAG V2.0\n")
    with pytest.raises(BagError, match="rosbags-convert"):
        Bag(tmp_path / "old.bag")


def test_of_several_cameras_one_must_be_chosen(tmp_path: Path) -> None:
    other = [(at_ns, "/wrist/image_raw", image(at_ns)) for at_ns, topic, _ in ENTRIES if topic == "/tf"]
    wrist = (START_NS, "/wrist/camera_info", camera_info(START_NS))
    front = [(at_ns, topic.replace("/camera/color", "/front"), message) for at_ns, topic, message in ENTRIES]
    with Bag(write_messages(tmp_path / "bag", [wrist, *front, *other])) as bag:
        with pytest.raises(BagError, match="--image-topic: /front/image_raw, /wrist/image_raw"):
            find_topics(bag, CONFIGURATION)
        chosen = find_topics(bag, CONFIGURATION, "/wrist/image_raw")
        assert (chosen.image, chosen.camera_info) == ("/wrist/image_raw", "/wrist/camera_info")
        assert (
            find_topics(bag, CONFIGURATION, "/wrist/image_raw", "/front/camera_info").camera_info
            == "/front/camera_info"
        )
        with pytest.raises(BagError, match="no CameraInfo topic '/front/image_raw'; there are: /front/camera_info, "):
            find_topics(bag, CONFIGURATION, "/wrist/image_raw", "/front/image_raw")

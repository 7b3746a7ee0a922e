"""An index and a metadata.yaml are held against the files: no message vanishes without a word."""

import shutil
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from mcap_forms import Form, write_mcap
from rosbags.rosbag2 import StoragePlugin
from synthetic_bags import messages, write_messages

from sqap_vla_ros.bags.reader import Bag, BagDamage, BagError

ENTRIES = messages(0.3)
EXPECTED = [(topic, at_ns) for at_ns, topic, _ in ENTRIES]
IMAGES, STATIC = "/camera/color/image_raw", "/tf_static"
LATCHED = """- history: 1
  depth: 1
  reliability: 1
  durability: 1
  deadline: {sec: 9223372036, nsec: 854775807}
  lifespan: {sec: 9223372036, nsec: 854775807}
  liveliness: 1
  liveliness_lease_duration: {sec: 9223372036, nsec: 854775807}
  avoid_ros_namespace_conventions: false
"""


def read(path: Path) -> tuple[list[tuple[str, int]], str]:
    """Topic and time of every message, and what is said to be missing; the counts are the same as what was read."""
    seen, damage = [], ""
    with Bag(path) as bag:
        try:
            for topic, at_ns, _ in bag.messages(bag.topic_types):
                seen.append((topic, at_ns))
        except BagDamage as error:
            damage = str(error)
        for topic in bag.topic_types:
            assert bag.count(topic) == sum(name == topic for name, _ in seen)
    return seen, damage


FORMS = {
    "plain": Form(),
    "zstd": Form(compression="zstd"),
    "lz4": Form(compression="lz4"),
    "no message index": Form(unindexed=None),
    "no message index, zstd": Form(unindexed=None, compression="zstd"),
    "no message index of one chunk": Form(unindexed=(2,)),
    "no message index of the images": Form(unindexed_topics=(IMAGES,)),
    "no message index of the images, not counted": Form(unindexed_topics=(IMAGES,), statistics=False),
    "a chunk that the summary does not list": Form(unlisted=(1,)),
    "a chunk that the summary does not list, not counted": Form(unlisted=(1,), statistics=False),
    "not counted": Form(statistics=False),
    "not counted by topic": Form(topic_counts=False),
    "no repeated schemas": Form(schemas=False),
    "no repeated channels": Form(channels=False),
    "neither repeated": Form(schemas=False, channels=False),
    "no summary": Form(summary=False),
    "no chunks": Form(per_chunk=0),
    "no chunks, no summary": Form(per_chunk=0, summary=False),
    "no profile": Form(profile=""),
    "another profile, no index": Form(profile="x-lab", unindexed=None),
    "an attachment": Form(attachment=True, unindexed=None),
}


@pytest.mark.parametrize("name", FORMS)
def test_every_form_of_mcap_gives_all_messages_and_no_complaint(name: str, tmp_path: Path) -> None:
    assert read(write_mcap(tmp_path / "bag.mcap", ENTRIES, FORMS[name])) == (EXPECTED, "")


def test_a_file_that_lacks_its_index_inside_a_directory_gives_all_messages(tmp_path: Path) -> None:
    bag = write_messages(tmp_path / "bag", ENTRIES)
    write_mcap(bag / "bag.mcap", ENTRIES, FORMS["no message index"])
    assert read(bag) == (EXPECTED, "")


def test_a_cut_mcap_of_another_profile_is_still_reported_as_cut(tmp_path: Path) -> None:
    file = write_mcap(tmp_path / "bag.mcap", ENTRIES, Form(profile="", per_chunk=0))
    file.write_bytes(file.read_bytes()[:-500])
    seen, damage = read(file)
    assert seen == EXPECTED[: len(seen)] and "not a whole recording (its end is missing)" in damage


def _topics(content: dict[str, Any]) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = content["topics_with_message_count"]
    return found


def _latch(content: dict[str, Any]) -> None:
    for topic in _topics(content):
        if topic["topic_metadata"]["name"] == STATIC:
            topic["topic_metadata"]["offered_qos_profiles"] = LATCHED


def _rename(content: dict[str, Any]) -> None:
    for topic in _topics(content):
        topic["topic_metadata"]["name"] = topic["topic_metadata"]["name"].replace("/camera/", "/cam/")


def _retype(content: dict[str, Any]) -> None:
    for topic in _topics(content):
        if topic["topic_metadata"]["name"] == IMAGES:
            topic["topic_metadata"]["type"] = "sensor_msgs/msg/CompressedImage"


def _leave_out(content: dict[str, Any]) -> None:
    content["topics_with_message_count"] = [t for t in _topics(content) if t["topic_metadata"]["name"] != STATIC]


def _list_twice(content: dict[str, Any]) -> None:
    _topics(content).append(_topics(content)[0])


def _count_none(content: dict[str, Any]) -> None:
    content["message_count"] = 0
    for topic in _topics(content):
        topic["message_count"] = 0


def _other_hashes(content: dict[str, Any]) -> None:
    for topic in _topics(content):
        topic["topic_metadata"]["type_description_hash"] = "RIHS01_" + "0" * 64


def _newer_version(content: dict[str, Any]) -> None:
    content["version"] = 10


@pytest.mark.parametrize("storage", StoragePlugin)
@pytest.mark.parametrize(
    "edit", [_latch, _rename, _retype, _leave_out, _list_twice, _count_none, _other_hashes, _newer_version]
)
def test_an_edited_metadata_file_loses_no_message(
    edit: Callable[[dict[str, Any]], None], storage: StoragePlugin, tmp_path: Path
) -> None:
    bag = write_messages(tmp_path / "bag", ENTRIES, storage)
    edit_metadata(bag, edit)
    assert read(bag) == (EXPECTED, "")


def edit_metadata(bag: Path, edit: Callable[[dict[str, Any]], None]) -> None:
    """Change a recording's metadata.yaml."""
    content = yaml.safe_load((bag / "metadata.yaml").read_text())
    edit(content["rosbag2_bagfile_information"])
    (bag / "metadata.yaml").write_text(yaml.safe_dump(content))


def test_messages_that_the_metadata_lists_and_no_file_holds_are_named(tmp_path: Path) -> None:
    bag = write_messages(tmp_path / "bag", ENTRIES, StoragePlugin.SQLITE3)
    with sqlite3.connect(bag / "bag.db3") as database:
        database.execute("DELETE FROM messages WHERE topic_id = (SELECT id FROM topics WHERE name = ?)", (IMAGES,))
    database.close()
    seen, damage = read(bag)
    assert seen == [entry for entry in EXPECTED if entry[0] != IMAGES]
    assert f"missing are: {IMAGES} (0 of 3)" in damage
    with Bag(bag) as opened:
        assert opened.lacks in damage


def test_a_file_of_the_recording_that_the_metadata_does_not_list_is_read(tmp_path: Path) -> None:
    half = len(ENTRIES) // 2
    for name, part in (("bag_0", ENTRIES[:half]), ("bag_1", ENTRIES[half:])):
        write_messages(tmp_path / name, part)
    (tmp_path / "bag_1" / "bag_1.mcap").rename(tmp_path / "bag_0" / "bag_1.mcap")
    assert read(tmp_path / "bag_0") == (EXPECTED, "")


def test_a_copy_next_to_a_recording_is_not_read_twice(tmp_path: Path) -> None:
    bag = write_messages(tmp_path / "bag", ENTRIES)
    edit_metadata(bag, _latch)
    shutil.copy(bag / "bag.mcap", bag / "copy.mcap")
    assert read(bag) == (EXPECTED, "")


def test_an_index_on_time_that_lacks_messages_is_not_used(tmp_path: Path) -> None:
    (file,) = write_messages(tmp_path / "bag", ENTRIES, StoragePlugin.SQLITE3).glob("*.db3")
    with sqlite3.connect(file) as database:  # a partial index of the same name
        database.execute("DROP INDEX timestamp_idx")
        database.execute("CREATE INDEX timestamp_idx ON messages (timestamp)")
        database.execute("PRAGMA writable_schema = ON")
        root = database.execute("SELECT rootpage FROM sqlite_master WHERE name = 'timestamp_idx'").fetchone()[0]
        database.execute("CREATE TABLE empty (timestamp INTEGER)")
        database.execute("CREATE INDEX empty_idx ON empty (timestamp)")
        other = database.execute("SELECT rootpage FROM sqlite_master WHERE name = 'empty_idx'").fetchone()[0]
        assert root != other
        database.execute("UPDATE sqlite_master SET rootpage = ? WHERE name = 'timestamp_idx'", (other,))
    database.close()
    assert read(file) == (EXPECTED, "")


def test_messages_of_a_topic_that_the_file_does_not_list_are_counted(tmp_path: Path) -> None:
    (file,) = write_messages(tmp_path / "bag", ENTRIES, StoragePlugin.SQLITE3).glob("*.db3")
    with sqlite3.connect(file) as database:
        database.execute("DELETE FROM topics WHERE name = ?", (STATIC,))
    database.close()
    seen, damage = read(file)
    assert seen == [entry for entry in EXPECTED if entry[0] != STATIC]
    assert "1 messages belong to a topic that the file does not list" in damage


@pytest.mark.parametrize(
    ("name", "advice"), [("a.bag", "rosbags-convert"), ("a.mp4", "a video"), ("a.parquet", "a data set file")]
)
def test_files_of_other_kinds_are_named_with_what_to_do(name: str, advice: str, tmp_path: Path) -> None:
    (tmp_path / name).touch()
    with pytest.raises(BagError, match=advice):
        Bag(tmp_path / name)

"""Recordings as labs have them: with topics, stamps, cameras and robots that a replay has nothing to do with."""

import shutil
import sqlite3
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from rosbags.rosbag2 import CompressionMode, StoragePlugin
from stand_in_replay import at_once
from synthetic_bags import (
    START_NS,
    Entry,
    T,
    image,
    messages,
    tool_x_m,
    transforms,
    write_bag,
    write_messages,
)

from sqap_vla_ros.bags.reader import Bag, BagDamage, BagError
from sqap_vla_ros.bags.topics import configured_for, find_instruction, find_topics, first_instruction
from sqap_vla_ros.config.robot import Configuration
from sqap_vla_ros.config.settings import validate
from sqap_vla_ros.reporting.overlay import Overlay
from sqap_vla_ros.tools.replay import many
from sqap_vla_ros.tools.replay.jobs import ReplayJob, begin_results, find_bags
from sqap_vla_ros.tools.replay.many import replay_bag
from sqap_vla_ros.tools.replay.results_reader import Run
from sqap_vla_ros.tools.replay.scene import Scene

pytestmark = pytest.mark.slow

CONFIGURATION = validate(Configuration, {"frames.base": "base", "frames.tool": "tool"}, "test")
SECOND_NS = 10**9
WRIST = "/wrist/image_raw"


@pytest.fixture(autouse=True)
def _policies_that_take_no_time(monkeypatch: pytest.MonkeyPatch) -> None:
    many._policy.cache_clear()
    many._files.cache_clear()
    monkeypatch.setattr(many, "load_policy", at_once)
    # Its plots take seconds, and nothing is asked of them here.
    monkeypatch.setattr(many, "write_report", lambda out: (out / "report.html").touch())


def replayed(bag: Path, out: Path, **settings: Any) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Rows and summary of a replay."""
    job = validate(ReplayJob, {"bag": bag, "out": out, "configuration": CONFIGURATION, **settings}, "test")
    summary = replay_bag(job)
    return pq.read_table(out / "ticks.parquet").to_pylist(), summary


def read(path: Path) -> list[tuple[str, int]]:
    """Topic and time of all messages that a replay needs; damage is not expected."""
    with Bag(path) as bag:
        return [(topic, at_ns) for topic, at_ns, _ in bag.messages(find_topics(bag, CONFIGURATION).names)]


def with_truth(rows: list[dict[str, Any]]) -> int:
    return sum(row["truth_final_displacement_m"] is not None for row in rows)


def elsewhere(entry: Entry, namespace: str) -> Entry:
    at_ns, topic, message = entry
    return at_ns, f"{namespace}{topic}", message


@pytest.mark.parametrize("encoding", ["unknown", ""])
@pytest.mark.parametrize("bare", [False, True])
def test_a_topic_whose_definition_the_recorder_did_not_have_keeps_no_other_from_being_read(
    tmp_path: Path, encoding: str, bare: bool
) -> None:
    entries = messages(0.2)
    own = START_NS, "/lab/state", T["std_msgs/msg/Float64"](data=1.0)
    bag = write_messages(tmp_path / "bag", [own, *entries], StoragePlugin.SQLITE3)
    [file] = bag.glob("*.db3")
    with sqlite3.connect(file) as database:
        query = "UPDATE message_definitions SET encoding = ?, encoded_message_definition = '' WHERE topic_type = ?"
        database.execute(query, (encoding, "std_msgs/msg/Float64"))
    database.close()
    assert read(file if bare else bag) == [(topic, at_ns) for at_ns, topic, _ in entries]


def test_files_that_were_compressed_before_the_recorder_was_killed_are_read_too(tmp_path: Path) -> None:
    entries = messages(0.3)
    whole = tmp_path / "run"
    whole.mkdir()
    third = len(entries) // 3
    for index in range(3):
        part = entries[index * third : (index + 1) * third if index < 2 else None]
        compression = CompressionMode.FILE if index < 2 else CompressionMode.NONE
        written = write_messages(tmp_path / f"part{index}", part, compression=compression)
        [file] = (file for file in written.iterdir() if file.suffix != ".yaml")
        file.rename(whole / f"run_{index}{''.join(file.suffixes)}")
        shutil.rmtree(written)
    assert find_bags([tmp_path]) == [whole]
    seen = []
    with Bag(whole) as bag, pytest.raises(BagDamage, match="not a whole recording"):
        for topic, at_ns, _ in bag.messages(find_topics(bag, CONFIGURATION).names):
            seen.append((at_ns, topic))
    assert seen == [(at_ns, topic) for at_ns, topic, _ in entries]


def test_a_directory_may_be_named_as_a_ros_1_bag(tmp_path: Path) -> None:
    assert len(read(write_bag(tmp_path / "run.bag", seconds=0.2))) == len(messages(0.2))


def test_a_topic_that_nobody_published_on_is_not_the_camera(tmp_path: Path) -> None:
    entries = [(at_ns, topic.replace("/camera/color", "/front"), message) for at_ns, topic, message in messages(0.2)]
    silent = START_NS, "/camera/color/image_raw", image(START_NS)
    [file] = write_messages(tmp_path / "bag", [*entries, silent], StoragePlugin.SQLITE3).glob("*.db3")
    with sqlite3.connect(file) as database:
        number = "(SELECT id FROM topics WHERE name = '/camera/color/image_raw')"
        database.execute(f"DELETE FROM messages WHERE topic_id = {number}")
    database.close()
    with Bag(file) as bag:
        assert find_topics(bag, CONFIGURATION).image == "/front/image_raw"
        with pytest.raises(BagError, match="no message of /camera/color/image_raw"):
            find_topics(bag, CONFIGURATION, "/camera/color/image_raw")


def test_one_transform_from_the_future_costs_no_plan(tmp_path: Path) -> None:
    ahead_ns = START_NS + SECOND_NS
    glitch = ahead_ns, "/tf", transforms(ahead_ns + 100 * SECOND_NS, "base", "tool", (0.0, 0.0, 0.0))
    entries = sorted([*messages(3.0), glitch], key=lambda entry: entry[0])
    rows, summary = replayed(write_messages(tmp_path / "bag", entries), tmp_path / "out")
    assert summary["ticks_refused"] == 0 and with_truth(rows) >= 10


def test_another_cameras_calibration_and_frame_are_not_taken_for_its_own(tmp_path: Path) -> None:
    entries = messages(0.2)
    wrist = [(at_ns, WRIST, message) for at_ns, topic, message in entries if topic.endswith("image_raw")]
    configuration = validate(
        Configuration, {"frames.base": "base", "frames.tool": "tool", "frames.camera": "camera"}, "test"
    )
    with Bag(write_messages(tmp_path / "bag", [*entries, *wrist])) as bag:
        topics = find_topics(bag, configuration, WRIST)
        assert topics.camera_info == ""
        assert configured_for(configuration, topics, WRIST).frames.camera == ""
        front = find_topics(bag, configuration)
        assert front.camera_info == "/camera/color/camera_info"
        assert configured_for(configuration, front, front.image).frames.camera == "camera"
    _, summary = replayed(tmp_path / "bag", tmp_path / "out", image_topic=WRIST, configuration=configuration)
    [reason] = summary["ring_coverage"]["reasons"]
    assert "no CameraInfo" in reason


def test_publishers_of_other_frames_with_clocks_of_their_own_cost_no_truth(tmp_path: Path) -> None:
    tags = [
        (
            START_NS + step * 10**8,
            "/tf",
            transforms(START_NS + step * 10**8 - step % 2 * 3 * SECOND_NS, "map", "tag", (0.0, 0.0, 0.0)),
        )
        for step in range(30)
    ]
    entries = sorted([*messages(3.0), *tags], key=lambda entry: entry[0])
    rows, _ = replayed(write_messages(tmp_path / "bag", entries), tmp_path / "out")
    plain, _ = replayed(write_bag(tmp_path / "plain", seconds=3.0), tmp_path / "out2")
    assert with_truth(rows) == with_truth(plain) > 10


def test_gripper_commands_without_stamps_are_found_in_a_recording_on_another_clock(tmp_path: Path) -> None:
    command = CONFIGURATION.command
    point = T["trajectory_msgs/msg/JointTrajectoryPoint"](
        positions=np.array([command.gripper_open]),
        velocities=np.zeros(0),
        accelerations=np.zeros(0),
        effort=np.zeros(0),
        time_from_start=T["builtin_interfaces/msg/Duration"](sec=0, nanosec=0),
    )
    header = T["std_msgs/msg/Header"](stamp=T["builtin_interfaces/msg/Time"](sec=0, nanosec=0), frame_id="")
    opened = T["trajectory_msgs/msg/JointTrajectory"](
        header=header, joint_names=[command.gripper_joint], points=[point]
    )
    told = (START_NS + 10**8, CONFIGURATION.topics.gripper_command, opened)
    entries = [(at_ns + 1000 * SECOND_NS, topic, message) for at_ns, topic, message in [*messages(3.0), told]]
    rows, _ = replayed(write_messages(tmp_path / "bag", sorted(entries, key=lambda entry: entry[0])), tmp_path / "out")
    assert sum(row["truth_gripper_agreement"] is not None for row in rows) > 10


def test_of_two_robots_instructions_the_images_own_is_read(tmp_path: Path) -> None:
    entries = messages(0.3)
    both = [elsewhere(entry, namespace) for entry in entries for namespace in ("/left", "/right")]
    with Bag(write_messages(tmp_path / "bag", both)) as bag:
        for side in ("left", "right"):
            found = find_topics(bag, CONFIGURATION, f"/{side}/camera/color/image_raw")
            assert found.instruction == f"/{side}/sqap_vla/instruction"
            assert set(found.transforms) == {f"/{side}/tf", f"/{side}/tf_static"}


def test_of_two_robots_transforms_the_images_own_are_read(tmp_path: Path) -> None:
    entries = messages(0.3)
    still = [
        (at_ns, f"/b{topic}", transforms(at_ns, "base", "tool", (9.0, 9.0, 9.0)))
        for at_ns, topic, _ in entries
        if topic == "/tf"
    ]
    both = sorted([*(elsewhere(entry, "/a") for entry in entries), *still], key=lambda entry: entry[0])
    bag = write_messages(tmp_path / "bag", both)
    rows, _ = replayed(bag, tmp_path / "out", image_topic="/a/camera/color/image_raw")
    for row in rows:
        assert np.reshape(row["T_base_tool"], (4, 4))[0, 3] == pytest.approx(tool_x_m(row["stamp_ns"]), abs=1e-9)
    with Bag(bag) as opened:
        assert find_topics(opened, CONFIGURATION, tf_namespace="b").transforms == ("/b/tf",)
        with pytest.raises(BagError, match="no transforms in namespace '/c': /a, /b"):
            find_topics(opened, CONFIGURATION, tf_namespace="/c")
    elsewhere_images = [(at_ns, topic.replace("/a/camera", "/camera"), message) for at_ns, topic, message in both]
    with (
        Bag(write_messages(tmp_path / "other", elsewhere_images)) as opened,
        pytest.raises(BagError, match="--tf-namespace: /a, /b"),
    ):
        find_topics(opened, CONFIGURATION)


def test_of_several_instruction_topics_the_nodes_counts_and_else_none(tmp_path: Path) -> None:
    text = T["std_msgs/msg/String"](data="wipe the table")
    others = [(START_NS, f"/{name}/instruction", text) for name in ("a", "b")]
    with Bag(write_messages(tmp_path / "bag", [*others, *messages(0.1)])) as bag:
        assert find_instruction(bag) == "/sqap_vla/instruction"
    with Bag(write_messages(tmp_path / "two", [*others, *messages(0.1, instruction="")])) as bag:
        assert find_instruction(bag) == ""
        with pytest.raises(BagError, match="--instruction"):
            first_instruction(bag)


def test_a_bag_that_grows_while_it_is_read_is_not_marked_as_what_it_became(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bag = write_bag(tmp_path / "bag", seconds=0.2)
    job = validate(ReplayJob, {"bag": bag, "out": tmp_path / "out", "configuration": CONFIGURATION}, "test")
    written = many.write_overlay

    def grow(*arguments: Any, **named: Any) -> Path | None:
        (bag / "bag_1.mcap").write_bytes(b"more")
        return written(*arguments, **named)

    monkeypatch.setattr(many, "write_overlay", grow)
    replay_bag(job)
    assert not job.is_done()


def test_results_are_no_bags_and_a_users_folder_is_not_removed(tmp_path: Path) -> None:
    bag = write_bag(tmp_path / "bag", seconds=0.2)
    replayed(bag, tmp_path / "out" / "bag")
    assert (tmp_path / "out" / "bag" / "annotated").is_dir()
    assert find_bags([tmp_path]) == [bag]
    mine = tmp_path / "mine" / "annotated"
    mine.mkdir(parents=True)
    (mine / "notes.txt").write_text("of three weeks")
    begin_results(mine.parent)
    assert (mine / "notes.txt").exists()


def test_paths_are_not_drawn_with_a_calibration_of_another_size() -> None:
    path, grid = np.zeros((3, 2)), np.ones((2, 2), np.uint8)
    overlay = Overlay(grid, None, path, path, path)
    picture = np.zeros((120, 160, 3), np.uint8)
    for size, drawn in (((160, 120), True), ((640, 480), False), (None, False)):
        scene = Scene(0, 0, None, None, None, False, overlay, size)
        assert (scene.overlay_on(picture).path_px is not None) == drawn
        assert scene.overlay_on(picture).reasons is grid


def test_time_begins_with_the_first_plan_whatever_the_stamp_of_a_refused_image(tmp_path: Path) -> None:
    entries = messages(0.5)
    unstamped = [(START_NS, "/camera/color/image_raw", image(0)), *entries]
    rows, summary = replayed(write_messages(tmp_path / "bag", unstamped), tmp_path / "out")
    assert rows[0]["refused"] and summary["ticks_refused"] == 1
    assert Run(tmp_path / "out").begin_ns == rows[1]["stamp_ns"]


def test_one_reason_is_one_reason_whatever_its_numbers(tmp_path: Path) -> None:
    entries: list[Entry] = []
    for at_ns, topic, message in messages(2.0):
        if topic == "/tf_static":
            message = transforms(at_ns, "base", "camera", (0.0, 0.0, 3.0))  # behind which the tool is
        if topic == "/tf":
            away = 5.0 * np.sin(at_ns * 1e-9)
            message = transforms(at_ns, "base", "tool", (away, -away * 3, away * 0.1))
        entries.append((at_ns, topic, message))
    _, summary = replayed(write_messages(tmp_path / "bag", entries), tmp_path / "out")
    [reason] = summary["ring_coverage"]["reasons"]
    assert reason.startswith("the tool is behind the camera")

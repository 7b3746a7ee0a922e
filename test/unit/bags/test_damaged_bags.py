"""Damage of every kind: nobody sees a traceback, and nothing partial pretends to be whole."""

import copy
import json
import struct
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from replays import CONFIGURATION, Rows, replayed
from rosbags.interfaces import Connection
from rosbags.rosbag2 import StoragePlugin, Writer
from synthetic_bags import HEIGHT, STORE, WIDTH, Entry, T, messages, write_messages

from sqap_vla_ros import cli
from sqap_vla_ros.bags.observations import observations
from sqap_vla_ros.bags.reader import Bag, BagDamage, BagError
from sqap_vla_ros.bags.topics import find_topics
from sqap_vla_ros.core.observation import Observation
from sqap_vla_ros.testing.stub_policies import SleepingPolicy
from sqap_vla_ros.tools.replay import many

pytestmark = pytest.mark.slow

CUT_BYTES = 4096


def jpeg(message: Any) -> Any:
    """The image as a JPEG of noise, some kB: small, and no two parts alike."""
    pixels = np.random.default_rng(message.header.stamp.nanosec).integers(
        0, 255, (HEIGHT // 4, WIDTH // 4, 3), np.uint8
    )
    data = cv2.imencode(".jpg", cv2.resize(pixels, (WIDTH, HEIGHT)))[1]
    return T["sensor_msgs/msg/CompressedImage"](header=message.header, format="jpeg", data=data)


def small_messages(seconds: float) -> list[Entry]:
    """A recording with compressed images."""
    return [
        (at_ns, topic, jpeg(message) if topic.endswith("image_raw") else message)
        for at_ns, topic, message in messages(seconds)
    ]


@cache
def small_files() -> dict[str, bytes]:
    """A small recording in both storages, by suffix."""
    files = {}
    with TemporaryDirectory() as folder:
        for storage in StoragePlugin:
            bag = write_messages(Path(folder) / storage.name, small_messages(1.0), storage)
            (file,) = (file for file in bag.iterdir() if file.suffix != ".yaml")
            files[file.suffix] = file.read_bytes()
    return files


def rows_and_damage(path: Path, out: Path) -> tuple[Rows, str]:
    """Rows of a replay, and what it says about damage.

    Raises:
        BagError: The bag is refused as a whole.
    """
    rows, summary = replayed(path, out)
    return rows, summary["bag_damage"]


def observed(path: Path) -> tuple[dict[int, float], str]:
    """Stamp to projected tool of what can be planned on, and what is said about damage."""
    seen: dict[int, float] = {}
    with Bag(path) as bag:
        topics = find_topics(bag, CONFIGURATION)
        try:
            for outcome in observations(bag, topics, CONFIGURATION, on_progress=lambda at_ns: None):
                if isinstance(outcome, Observation) and outcome.tool_px is not None:
                    seen[outcome.stamp_ns] = outcome.tool_px[0]
        except BagDamage as damage:
            return seen, str(damage)
    return seen, ""


@pytest.mark.parametrize("suffix", [".mcap", ".db3"])
def test_a_file_that_is_cut_anywhere_gives_what_came_before_and_says_so(tmp_path: Path, suffix: str) -> None:
    whole, path = small_files()[suffix], tmp_path / f"cut{suffix}"
    path.write_bytes(whole)
    expected, damage = observed(path)
    assert (len(expected), damage) == (10, "")
    counts = []
    for size in range(0, len(whole), CUT_BYTES):
        path.write_bytes(whole[:size])
        try:
            seen, damage = observed(path)
        except BagError as error:
            assert str(path) in str(error)
            continue
        assert str(path) in damage, size
        assert seen == dict(list(expected.items())[: len(seen)]), size
        counts.append(len(seen))
    assert counts == sorted(counts)
    assert 0 < counts[len(counts) // 2] < 10


@pytest.mark.parametrize("suffix", [".mcap", ".db3"])
@pytest.mark.parametrize("part", [0.0, 0.3, 0.8, 0.99])
def test_a_user_is_told_about_a_cut_file_in_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], suffix: str, part: float
) -> None:
    whole, path = small_files()[suffix], tmp_path / f"cut{suffix}"
    path.write_bytes(whole[: round(part * len(whole))])
    robot = tmp_path / "robot.yaml"
    robot.write_text("/**:\n  ros__parameters:\n    robot_name: synthetic\n    frames: {base: base, tool: tool}\n")
    monkeypatch.setattr(many, "_policy", lambda configuration, on_note: SleepingPolicy(0))
    monkeypatch.setattr(many, "write_report", lambda out: (out / "report.html").touch())
    monkeypatch.setattr(
        "sys.argv", ["sqap-vla", "replay", str(path), "--robot", str(robot), "--out", str(tmp_path / "out")]
    )
    try:
        cli.main()
        assert "cut" in json.loads((tmp_path / "out" / "summary.json").read_text())["bag_damage"]
    except SystemExit as end:
        assert end.code == 2
        assert not list(tmp_path.glob("out/*"))
    assert "Traceback" not in "".join(capsys.readouterr())


@settings(max_examples=10)
@given(suffix=st.sampled_from([".mcap", ".db3"]), data=st.data())
def test_a_file_with_changed_bytes_is_read_or_refused(suffix: str, data: st.DataObject) -> None:
    content = bytearray(small_files()[suffix])
    for _ in range(data.draw(st.integers(1, 8))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    with TemporaryDirectory() as folder:
        path = Path(folder) / f"changed{suffix}"
        path.write_bytes(content)
        try:
            with Bag(path) as bag:
                for _ in bag.messages(find_topics(bag, CONFIGURATION).names):
                    pass
        except BagError as error:
            assert len(str(error)) < 1000


def leaves(message: Any) -> Iterator[tuple[Any, str]]:
    """Owner and name of every value in a message that holds no others."""
    for name in message.__dataclass_fields__:
        value = getattr(message, name)
        if name == "__msgtype__":
            continue
        if hasattr(value, "__dataclass_fields__"):
            yield from leaves(value)
        elif isinstance(value, list) and value:
            for inner in value:
                yield from leaves(inner)
        else:
            yield message, name


def another(value: Any) -> st.SearchStrategy[Any]:
    """Values of the same type, the odd ones first."""
    if isinstance(value, bool):
        return st.booleans()
    if isinstance(value, int):
        return st.sampled_from([0, 1, 2, 7, 255, 65535, 2**31 - 1, 2**32 - 1, -1, -(2**31)])
    if isinstance(value, float):
        return st.floats() | st.sampled_from([0.0, np.nan, np.inf, 1e308, 1e-308])
    if isinstance(value, str):
        return st.text(max_size=20) | st.sampled_from(["", "base", "tool", "camera", "/", "rgb8", "png", "32FC1"])
    if value.dtype == np.uint8:
        return st.binary(max_size=64).map(lambda data: np.frombuffer(data, np.uint8))
    return st.lists(st.floats(), min_size=len(value), max_size=len(value)).map(np.array)


def write_raw(path: Path, entries: list[tuple[int, str, str, bytes]]) -> Path:
    """Write (time, topic, type, serialised message)."""
    with Writer(path, version=9, storage_plugin=StoragePlugin.MCAP) as writer:
        connections: dict[str, Connection] = {}
        for at_ns, topic, kind, raw in entries:
            if topic not in connections:
                connections[topic] = writer.add_connection(topic, kind, typestore=STORE)
            writer.write(connections[topic], at_ns, raw)
    return path


def check_replay(entries: list[tuple[int, str, str, bytes]]) -> None:
    """A replay of it ends in rows that are whole, or in one sentence."""
    with TemporaryDirectory() as folder:
        try:
            rows, _ = rows_and_damage(write_raw(Path(folder) / "bag", entries), Path(folder) / "out")
        except BagError:
            return
        for row in rows:
            assert row["refused"] or np.isfinite(row["T_base_tool"]).all()
            assert row["refused"] or row["tool_u_px"] is not None or row["no_ring_reason"]


def serialised(entry: Entry) -> tuple[int, str, str, bytes]:
    """An entry with its type and its message as bytes."""
    at_ns, topic, message = entry
    kind = message.__msgtype__  # type: ignore[attr-defined]
    return at_ns, topic, kind, bytes(STORE.serialize_cdr(message, kind))


@pytest.fixture(scope="module", params=[small_messages, messages], ids=["jpeg", "raw"])
def entries(request: pytest.FixtureRequest) -> list[Entry]:
    """A short recording, with compressed or with raw images."""
    recording: Callable[[float], list[Entry]] = request.param
    return recording(0.3)


@settings(max_examples=10)
@given(data=st.data())
def test_messages_with_any_content_are_used_or_refused(entries: list[Entry], data: st.DataObject) -> None:
    changed = list(entries)
    topic = data.draw(st.sampled_from(sorted({topic for _, topic, _ in entries})))
    places = [index for index, entry in enumerate(entries) if entry[1] == topic]
    for index in data.draw(st.lists(st.sampled_from(places), min_size=1, max_size=4, unique=True)):
        at_ns, _, message = entries[index]
        message = copy.deepcopy(message)
        owner, name = data.draw(st.sampled_from(list(leaves(message))))
        object.__setattr__(owner, name, data.draw(another(getattr(owner, name))))
        changed[index] = at_ns, topic, message
    try:
        raw = [serialised(entry) for entry in changed]
    except (struct.error, OverflowError):  # no such message can be recorded
        assume(False)
    check_replay(raw)


@settings(max_examples=10)
@given(data=st.data())
def test_messages_of_any_bytes_are_used_or_end_the_replay_in_words(entries: list[Entry], data: st.DataObject) -> None:
    raw = [serialised(entry) for entry in entries]
    index = data.draw(st.integers(0, len(raw) - 1))
    at_ns, topic, kind, content = raw[index]
    begin = data.draw(st.integers(0, min(len(content), 200)))
    end = data.draw(st.integers(begin, min(len(content), begin + 40)))
    raw[index] = at_ns, topic, kind, content[:begin] + data.draw(st.binary(max_size=40)) + content[end:]
    check_replay(raw)


@settings(max_examples=10)
@given(data=st.data())
def test_messages_that_are_lost_doubled_or_late_are_used_or_refused(entries: list[Entry], data: st.DataObject) -> None:
    chosen = data.draw(st.lists(st.sampled_from(range(len(entries))), max_size=2 * len(entries)))
    delays_ns = data.draw(st.lists(st.integers(-(10**9), 10**9), min_size=len(chosen), max_size=len(chosen)))
    late = [
        (entries[index][0] + delay_ns, *entries[index][1:]) for index, delay_ns in zip(chosen, delays_ns, strict=True)
    ]
    assume(late)
    check_replay([serialised(entry) for entry in sorted(late, key=lambda entry: entry[0])])

"""Replaying bags: every tick once, the right inputs, the same bits again."""

import json
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from replays import CONFIGURATION, replayed
from rosbags.rosbag2 import StoragePlugin
from synthetic_bags import CAMERA_DISTANCE_M, FOCAL_PX, HEIGHT, START_NS, WIDTH, tool_x_m, write_bag

from sqap_vla_ros import cli
from sqap_vla_ros.bags.observations import observations
from sqap_vla_ros.bags.reader import Bag, BagError
from sqap_vla_ros.bags.topics import find_topics
from sqap_vla_ros.core.observation import Observation
from sqap_vla_ros.testing.random_checkpoint import write_random_checkpoint
from sqap_vla_ros.tools.replay.results import ReplayResults


@pytest.mark.parametrize("storage", [StoragePlugin.MCAP, StoragePlugin.SQLITE3], ids=["mcap", "sqlite3"])
def test_every_image_of_a_bag_is_one_tick(tmp_path: Path, storage: StoragePlugin) -> None:
    rows, _ = replayed(write_bag(tmp_path / "bag", storage), tmp_path / "out")
    assert len(rows) == 10 and all(row["refused"] == "" for row in rows)
    assert [row["stamp_ns"] for row in rows] == [START_NS + (5 + 10 * k) * 10**7 - 3_000_000 for k in range(10)]


@pytest.mark.parametrize("suffix", [".mcap", ".db3"])
def test_a_bare_storage_file_is_a_bag_too(tmp_path: Path, suffix: str) -> None:
    storage = StoragePlugin.MCAP if suffix == ".mcap" else StoragePlugin.SQLITE3
    (file,) = write_bag(tmp_path / "bag", storage).glob(f"*{suffix}")
    assert len(replayed(file, tmp_path / "out")[0]) == 10


def test_the_tool_is_projected_at_the_images_own_stamp(tmp_path: Path) -> None:
    for row in replayed(write_bag(tmp_path / "bag"), tmp_path / "out")[0]:
        stamp_ns = row["stamp_ns"]
        assert isinstance(stamp_ns, int)
        expected_u = WIDTH / 2 + FOCAL_PX * tool_x_m(stamp_ns) / CAMERA_DISTANCE_M
        assert row["tool_u_px"] == pytest.approx(expected_u, abs=1e-6)
        assert row["tool_v_px"] == pytest.approx(HEIGHT / 2)


def test_images_that_cannot_be_used_are_rows_with_their_reason(tmp_path: Path) -> None:
    rows, _ = replayed(write_bag(tmp_path / "bag", image_encoding="32FC1"), tmp_path / "out")
    assert len(rows) == 10 and all("32FC1" in str(row["refused"]) for row in rows)


def test_the_instruction_comes_from_the_bag(tmp_path: Path) -> None:
    with Bag(write_bag(tmp_path / "bag")) as bag:
        topics = find_topics(bag, CONFIGURATION)
        first = next(iter(observations(bag, topics, CONFIGURATION, on_progress=lambda at_ns: None)))
    assert isinstance(first, Observation) and first.instruction == "pick up the can"


def test_two_replays_give_the_same_file(tmp_path: Path) -> None:
    bag = write_bag(tmp_path / "bag")
    replayed(bag, tmp_path / "a")
    replayed(bag, tmp_path / "b")
    assert (tmp_path / "a/ticks.parquet").read_bytes() == (tmp_path / "b/ticks.parquet").read_bytes()


def test_a_replay_that_breaks_off_leaves_nothing_that_looks_complete(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError), ReplayResults(tmp_path / "out", {}) as results:
        results.add_rejection(1, "a reason")
        raise RuntimeError
    assert [file.name for file in sorted((tmp_path / "out").iterdir())] == [
        "ticks.parquet.partial",
        "timings.parquet.partial",
    ]


def test_a_bag_without_images_is_refused(tmp_path: Path) -> None:
    bag = write_bag(tmp_path / "bag", seconds=0.0)
    with Bag(bag) as opened, pytest.raises(BagError, match="holds no camera images"):
        find_topics(opened, CONFIGURATION)


def test_a_topic_that_is_not_in_the_bag_is_answered_with_those_that_are(tmp_path: Path) -> None:
    with Bag(write_bag(tmp_path / "bag")) as bag, pytest.raises(BagError, match="/camera/color/image_raw"):
        find_topics(bag, CONFIGURATION, image="/other")


@pytest.mark.parametrize("content", [b"", b"not a bag at all"], ids=["empty", "text"])
def test_a_file_that_is_no_bag_is_refused_in_one_sentence(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "x.mcap"
    path.write_bytes(content)
    with pytest.raises(BagError, match="cannot be read"):
        Bag(path)


def run_cli(arguments: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.argv", ["sqap-vla", *arguments])
    cli.main()


def robot_file(tmp_path: Path) -> str:
    path = tmp_path / "robot.yaml"
    path.write_text("/**:\n  ros__parameters:\n    robot_name: synthetic\n    frames: {base: base, tool: tool}\n")
    return str(path)


@pytest.mark.parametrize(("policy", "kept"), [("sqap", 154), ("fp16", 256)])
def test_the_command_line_replays_with_either_policy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, policy: str, kept: int
) -> None:
    write_random_checkpoint(tmp_path / "run", size="tiny")
    bag = write_bag(tmp_path / "bag", seconds=0.5)
    out = tmp_path / "out"
    arguments = [str(bag), "--checkpoint", str(tmp_path / "run"), "--robot", robot_file(tmp_path)]
    run_cli(["replay", *arguments, "--policy", policy, "--out", str(out)], monkeypatch)
    rows = pq.read_table(out / "ticks.parquet").to_pylist()
    assert [len(row["kept_tokens"]) for row in rows] == [kept] * 5
    assert np.isfinite([row["actions"] for row in rows]).all()
    summary = json.loads((out / "summary.json").read_text())
    assert summary["ticks_planned"] == 5 and summary["weights"] == "float"
    assert summary["seconds"]["policy"]["language"]["p50"] > 0


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["replay", "/nowhere/bag"], "no bag there"),
        (["replay", "BAG"], "checkpoint is empty"),
        (["replay", "BAG", "--robot", "r2d2"], "there are: "),
        (["replay", "BAG", "--as-recorded", "--checkpoint", "RUN"], "no ActionChunk and TokenMask"),
        (["replay", "SILENT", "--checkpoint", "RUN"], "give one with --instruction"),
    ],
    ids=["no bag", "no checkpoint", "no such robot", "not a live recording", "no instruction"],
)
def test_a_users_mistake_is_one_sentence_and_exit_code_2(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    words: str,
) -> None:
    places = {
        "BAG": str(write_bag(tmp_path / "bag")),
        "SILENT": str(write_bag(tmp_path / "silent", instruction="")),
        "RUN": str(write_random_checkpoint(tmp_path / "run", "tiny")),
    }
    with pytest.raises(SystemExit) as caught:
        run_cli([places.get(word, word) for word in arguments] + ["--out", str(tmp_path / "out")], monkeypatch)
    assert caught.value.code == 2
    error = " ".join(capsys.readouterr().err.split())
    assert words in error and "Traceback" not in error

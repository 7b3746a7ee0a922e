"""How a replay ends that could not do what it was asked to: what is said, what stays, and the exit code."""

import errno
import json
import signal
from pathlib import Path

import pytest
from many_replays import ROBOT, run_cli
from rosbags.rosbag2 import StoragePlugin
from synthetic_bags import messages, write_bag, write_messages

from sqap_vla_ros.cli.directories import used_by_one
from sqap_vla_ros.testing.stub_policies import SleepingPolicy
from sqap_vla_ros.tools.replay import many


@pytest.fixture
def robot(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A robot file; the policy takes no time."""
    monkeypatch.setenv("COLUMNS", "400")
    monkeypatch.setattr(many, "load_policy", lambda configuration, on_note: SleepingPolicy(0))
    monkeypatch.setattr(many, "run_jobs", lambda function, jobs, **_: map(function, jobs))
    many._policy.cache_clear()
    many._files.cache_clear()
    (tmp_path / "robot.yaml").write_text(ROBOT)
    return tmp_path / "robot.yaml"


def without_tf(path: Path) -> Path:
    return write_messages(path, [entry for entry in messages(0.3) if entry[1] != "/tf"])


def test_a_replay_that_planned_nothing_says_why_and_fails(
    tmp_path: Path, robot: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    bag = without_tf(tmp_path / "bag")
    assert run_cli([bag, "--robot", robot, "--out", tmp_path / "out"], monkeypatch) == 1
    said = " ".join(capsys.readouterr().out.split())
    assert f"{bag}: nothing was planned: all 3 ticks were rejected (3 times: " in said
    assert f"see `sqap-vla doctor {bag}`" in said
    assert run_cli([bag, "--robot", robot, "--out", tmp_path / "out", "--resume"], monkeypatch) == 1


def test_in_a_folder_the_bag_without_a_plan_is_named_with_its_reason_in_table_and_report(
    tmp_path: Path, robot: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write_bag(tmp_path / "bags" / "good", seconds=0.3)
    without_tf(tmp_path / "bags" / "no_tf")
    (tmp_path / "bags" / "old.bag").write_bytes(b"#ROSBAG V2.0\n")
    options = ["--robot", robot, "--out", tmp_path / "out", "--workers", 1]
    assert run_cli([tmp_path / "bags", *options], monkeypatch) == 1
    said = " ".join(capsys.readouterr().out.split())
    assert "no_tf: nothing was planned: all 3 ticks were rejected" in said and "3 rejected: " in said
    assert "old.bag: a ROS 1 bag; convert it" in said
    report = (tmp_path / "out" / "report.html").read_text()
    assert "3 rejected: " in report and "a ROS 1 bag" in report


def test_a_bag_that_lacks_what_it_lists_fails_after_what_it_holds_was_replayed(
    tmp_path: Path, robot: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    bag = write_bag(tmp_path / "bag", StoragePlugin.MCAP, seconds=0.5)
    write_bag(tmp_path / "short", StoragePlugin.MCAP, seconds=0.3)
    (tmp_path / "short" / "short.mcap").replace(bag / "bag.mcap")
    assert run_cli([bag, "--robot", robot, "--out", tmp_path / "out"], monkeypatch) == 1
    assert "/camera/color/image_raw (3 of 5)" in capsys.readouterr().out
    assert json.loads((tmp_path / "out" / "summary.json").read_text())["ticks_planned"] == 3


def test_a_bag_without_an_instruction_is_refused_before_the_policy_is_loaded(
    tmp_path: Path, robot: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(many, "load_policy", lambda *_: pytest.fail("the policy was loaded"))
    bag = write_bag(tmp_path / "bag", instruction="")
    assert run_cli([bag, "--robot", robot, "--out", tmp_path / "out"], monkeypatch) == 2
    assert "give one with --instruction" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_of_several_cameras_the_table_names_the_one_that_was_read(
    tmp_path: Path, robot: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    entries = messages(0.3)
    entries += [
        (at_ns, "/wrist/image_raw", image) for at_ns, topic, image in entries if topic == "/camera/color/image_raw"
    ]
    bag = write_messages(tmp_path / "bag", sorted(entries, key=lambda entry: entry[0]))
    options = ["--robot", robot, "--out", tmp_path / "out", "--image-topic", "/camera/color/image_raw"]
    assert run_cli([bag, *options], monkeypatch) == 0
    assert "/camera/color/image_raw (there are also /wrist/image_raw; --image-topic" in capsys.readouterr().out


def full(*_: object, **__: object) -> None:
    raise OSError(errno.ENOSPC, "No space left on device", "overlay.mp4")


def test_a_disk_without_room_for_the_video_keeps_the_rest_and_says_how_to_go_on(
    tmp_path: Path, robot: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(many, "write_overlay", full)
    bag, out = write_bag(tmp_path / "bag", seconds=0.3), tmp_path / "out"
    assert run_cli([bag, "--robot", robot, "--out", out], monkeypatch) == 2
    error = capsys.readouterr().err
    assert "no space is left on the disk" in error and f"stay in {out}" in error and "--resume" in error
    assert (out / "report.html").exists() and not (out / "job.json").exists()


def test_a_disk_that_has_room_for_the_video_or_the_report_keeps_the_report(
    tmp_path: Path, robot: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written = many.write_report

    def write_unless_there_is_a_video(out: Path) -> None:
        if (out / "overlay.mp4").exists():
            full()
        written(out)

    monkeypatch.setattr(many, "write_report", write_unless_there_is_a_video)
    bag, out = write_bag(tmp_path / "bag", seconds=0.3), tmp_path / "out"
    assert run_cli([bag, "--robot", robot, "--out", out], monkeypatch) == 2
    assert (out / "report.html").exists() and not (out / "overlay.mp4").exists()


def test_a_disk_that_is_full_ends_the_replay_of_a_folder(
    tmp_path: Path, robot: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(many, "write_annotated", full)
    paths = [write_bag(tmp_path / name, seconds=0.2) for name in "ab"]
    assert run_cli([*paths, "--robot", robot, "--out", tmp_path / "out", "--workers", 1], monkeypatch) == 2
    assert "no space is left on the disk" in capsys.readouterr().err
    assert not (tmp_path / "out" / "b").exists()


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_replay_that_is_stopped_says_what_stays_and_how_to_go_on(
    number: signal.Signals,
    code: int,
    tmp_path: Path,
    robot: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def stop(*_: object, **__: object) -> None:
        signal.raise_signal(number)

    bag, out = write_bag(tmp_path / "bag", seconds=0.3), tmp_path / "out"
    command = [bag, "--robot", robot, "--out", out]
    with monkeypatch.context() as patched:
        patched.setattr(many, "write_annotated", stop)
        assert run_cli(command, monkeypatch) == code
    said = capsys.readouterr().out
    assert f"stopped; bags that are complete stay in {out}" in said and said.rstrip().endswith("--resume")
    assert run_cli([*command, "--resume"], monkeypatch) == 0
    assert (out / "job.json").exists()


def test_the_second_of_two_replays_at_once_is_told_of_the_first(
    tmp_path: Path, robot: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    bag, out = write_bag(tmp_path / "bag", seconds=0.2), tmp_path / "out"
    with used_by_one(out):
        assert run_cli([bag, "--robot", robot, "--out", out], monkeypatch) == 2
        assert f"{out}: another process works in this directory; wait" in capsys.readouterr().err
    assert not out.exists()  # as nothing was written into it
    assert run_cli([bag, "--robot", robot, "--out", out], monkeypatch) == 0

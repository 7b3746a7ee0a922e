"""Many bags: found, the bad ones skipped, the done ones kept."""

import json
from pathlib import Path
from typing import Any

import pytest
from arm_bags import SETTINGS, arm_bag
from inline_jobs import run_inline
from many_replays import CONFIGURATION, ROBOT, job_of, run_cli
from rosbags.rosbag2 import StoragePlugin
from stand_in_replay import at_once
from synthetic_bags import write_bag

from sqap_vla_ros.bags.reader import BagError
from sqap_vla_ros.config.files import ConfigurationError
from sqap_vla_ros.config.robot import Configuration
from sqap_vla_ros.config.settings import validate
from sqap_vla_ros.tools.replay import many
from sqap_vla_ros.tools.replay.jobs import ReplayJob, find_bags, run_names
from sqap_vla_ros.tools.replay.many import replay_bag, replay_bags
from sqap_vla_ros.tools.replay.results_reader import find_runs


@pytest.fixture(autouse=True)
def _policies_that_take_no_time(monkeypatch: pytest.MonkeyPatch) -> None:
    many._policy.cache_clear()
    many._files.cache_clear()
    monkeypatch.setattr(many, "load_policy", at_once)
    monkeypatch.setattr(many, "run_jobs", run_inline)
    # Plots and films take seconds, and nothing is asked of them here.
    monkeypatch.setattr(many, "write_overlay", lambda *_, **__: None)
    monkeypatch.setattr(many, "write_report", lambda out: (out / "report.html").touch())


@pytest.fixture
def robot(tmp_path: Path) -> Path:
    path = tmp_path / "robot.yaml"
    path.write_text(ROBOT)
    return path


def test_bags_are_found_however_deep_they_lie(tmp_path: Path) -> None:
    bags = [write_bag(tmp_path / name, seconds=0.1) for name in ("b/first", "a/deep/second")]
    (bare,) = write_bag(tmp_path / "third", StoragePlugin.SQLITE3, seconds=0.1).glob("*.db3")
    (tmp_path / "loose").mkdir()
    bare.rename(tmp_path / "loose" / "recording.db3")
    (tmp_path / "third" / "metadata.yaml").unlink()
    (tmp_path / "third").rmdir()
    (tmp_path / "notes.txt").write_text("nothing")
    assert find_bags([tmp_path]) == [bags[1], bags[0], tmp_path / "loose" / "recording.db3"]


def test_a_directory_that_a_killed_recorder_left_is_one_bag(tmp_path: Path) -> None:
    bag = write_bag(tmp_path / "rosbag2_2026", seconds=0.1)
    (bag / "rosbag2_2026.mcap").rename(bag / "rosbag2_2026_0.mcap")
    (bag / "metadata.yaml").unlink()
    assert find_bags([tmp_path]) == [bag]


def test_a_bag_that_is_named_twice_is_replayed_once(tmp_path: Path) -> None:
    bag = write_bag(tmp_path / "bag", seconds=0.1)
    assert find_bags([bag, tmp_path, tmp_path / "bag" / ".." / "bag"]) == [bag]


@pytest.mark.parametrize(
    ("name", "words"), [("nowhere", "no bag there"), ("empty", "holds no bag"), ("", "no bag given")]
)
def test_nothing_to_replay_is_refused(tmp_path: Path, name: str, words: str) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(BagError, match=words):
        find_bags([tmp_path / name] if name else [])


def test_results_are_named_after_the_bags_with_as_many_folders_as_tell_them_apart() -> None:
    assert run_names([Path("/data/a"), Path("/data/b")]) == ["a", "b"]
    assert run_names([Path("/data/a/bag"), Path("/data/b/bag"), Path("/data/c")]) == ["a-bag", "b-bag", "data-c"]


def test_a_replay_marks_its_results_as_complete_when_it_has_written_everything(tmp_path: Path) -> None:
    job = job_of(write_bag(tmp_path / "bag", seconds=0.2), tmp_path / "out")
    assert not job.is_done()
    replay_bag(job)
    assert job.is_done()
    assert not list(job.out.glob("*.partial"))


@pytest.mark.parametrize(
    "settings", [{"rate_hz": 5.0}, {"measured_delay": True}, {"image_topic": "/camera/color/image_raw"}]
)
def test_results_of_other_settings_are_not_taken_for_these(tmp_path: Path, settings: dict[str, Any]) -> None:
    bag = write_bag(tmp_path / "bag", seconds=0.2)
    replay_bag(job_of(bag, tmp_path / "out"))
    assert not job_of(bag, tmp_path / "out", **settings).is_done()


def test_results_of_a_bag_that_has_grown_are_not_taken_for_it(tmp_path: Path) -> None:
    job = job_of(write_bag(tmp_path / "bag", seconds=0.2), tmp_path / "out")
    replay_bag(job)
    (job.bag / "bag_1.mcap").write_bytes(b"more")
    assert not job.is_done()


def test_results_of_a_policy_file_or_checkpoint_that_was_changed_are_not_taken_for_these(tmp_path: Path) -> None:
    policy, checkpoint = tmp_path / "mine.yaml", tmp_path / "run"
    policy.write_text("name: mine")
    checkpoint.mkdir()
    (checkpoint / "weights.pt").write_bytes(b"first")
    configuration = CONFIGURATION.model_copy(update={"policy": str(policy), "checkpoint": str(checkpoint)})
    bag = write_bag(tmp_path / "bag", seconds=0.2)
    job = validate(ReplayJob, {"bag": bag, "out": tmp_path / "out", "configuration": configuration}, "test")
    replay_bag(job)
    assert job.is_done()
    (checkpoint / "weights.pt").write_bytes(b"trained further")
    assert not job.is_done()
    replay_bag(job)
    policy.write_text("name: mine\npruning: {method: none}")
    assert not job.is_done()


def test_an_instruction_that_is_not_english_is_warned_of(
    tmp_path: Path, robot: Path, capsys: Any, monkeypatch: Any
) -> None:
    bag = write_bag(tmp_path / "bag", seconds=0.2)
    options = ["--robot", robot, "--out", tmp_path / "out", "--instruction", "把抽屉关上"]
    assert run_cli([bag, *options], monkeypatch) == 0
    assert "trained on English" in " ".join(capsys.readouterr().out.split())
    [note] = json.loads((tmp_path / "out/summary.json").read_text())["notes"]
    assert "把抽屉关上" in note


def test_results_of_which_a_file_was_removed_are_not_complete(tmp_path: Path) -> None:
    job = job_of(write_bag(tmp_path / "bag", seconds=0.2), tmp_path / "out")
    replay_bag(job)
    (job.out / "summary.json").unlink()
    assert not job.is_done()


def test_a_policy_is_not_its_own_baseline(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="the baseline is the policy itself"):
        job_of(tmp_path / "bag", tmp_path / "out", baseline=CONFIGURATION)


def test_a_replay_that_fails_leaves_nothing_of_an_earlier_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    job = job_of(write_bag(tmp_path / "bag", seconds=0.2), tmp_path / "out")
    replay_bag(job)

    def fail(*_: object, **__: object) -> str:
        raise RuntimeError("out of luck")

    monkeypatch.setattr(many, "replay", fail)
    with pytest.raises(RuntimeError):
        replay_bag(job)
    assert {path.suffix for path in job.out.iterdir()} == {".partial"}


def test_what_is_done_is_kept_and_what_is_not_is_replayed(tmp_path: Path) -> None:
    jobs = [job_of(write_bag(tmp_path / name, seconds=0.2), tmp_path / "out" / name) for name in ("a", "b")]
    replay_bag(jobs[0])
    before = (jobs[0].out / "summary.json").stat().st_mtime_ns
    outcomes = list(replay_bags(jobs, workers=1, ray_address="", resume=True))
    assert [outcome.job.out.name for outcome in outcomes] == ["a", "b"]
    assert (jobs[0].out / "summary.json").stat().st_mtime_ns == before
    assert all(job.is_done() for job in jobs)


def test_recorded_ticks_go_with_no_other_choice_of_frames(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="as recorded means"):
        job_of(tmp_path / "bag", tmp_path / "out", as_recorded=True, rate_hz=5.0)


def test_results_of_one_bag_are_not_replaced_by_those_of_many_nor_the_other_way_round(
    tmp_path: Path, robot: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    bags = [write_bag(tmp_path / "bags" / name, seconds=0.2) for name in ("a", "annotated")]
    options = ["--robot", robot, "--workers", 1, "--out"]
    assert run_cli([bags[0], *options, tmp_path / "one"], monkeypatch) == 0
    assert run_cli([tmp_path / "bags", *options, tmp_path / "one"], monkeypatch) == 2
    assert run_cli([tmp_path / "bags", *options, tmp_path / "one", "--resume"], monkeypatch) == 2
    assert "holds the results of one bag" in " ".join(capsys.readouterr().err.split())
    assert [run.name for run in find_runs(tmp_path / "one")] == ["a"]

    assert run_cli([tmp_path / "bags", *options, tmp_path / "two"], monkeypatch) == 0
    assert run_cli([bags[1], *options, tmp_path / "two", "--resume"], monkeypatch) == 2
    assert "holds the results of several bags" in " ".join(capsys.readouterr().err.split())
    assert [run.name for run in find_runs(tmp_path / "two")] == ["a", "annotated"]


@pytest.mark.parametrize("folder", [False, True], ids=["one bag", "several"])
@pytest.mark.parametrize(
    ("changed", "words"), [(["--rate", 5], "rate hz"), (["--instruction", "close the drawer"], "instruction")]
)
def test_resuming_with_other_settings_is_refused_and_nothing_is_lost(
    tmp_path: Path,
    robot: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    folder: bool,
    changed: list[object],
    words: str,
) -> None:
    for name in ("a", "b"):
        write_bag(tmp_path / "bags" / name, seconds=0.2)
    command = [tmp_path / "bags" if folder else tmp_path / "bags/a", "--robot", robot, "--out", tmp_path / "out"]
    command += ["--workers", 1]
    assert run_cli(command, monkeypatch) == 0
    before = {path: path.read_bytes() for path in (tmp_path / "out").rglob("*.*") if path.is_file()}
    assert run_cli([*command, "--resume", *changed], monkeypatch) == 2
    said = " ".join(capsys.readouterr().err.split())
    assert f"results with another {words}" in said and "another --out" in said
    assert before == {path: path.read_bytes() for path in (tmp_path / "out").rglob("*.*") if path.is_file()}
    assert run_cli([*command, "--resume"], monkeypatch) == 0


def test_progress_in_a_pipe_is_a_line_now_and_then_from_the_beginning_on(
    tmp_path: Path, robot: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    bag = write_bag(tmp_path / "bag", seconds=0.5)
    assert run_cli([bag, "--robot", robot, "--out", tmp_path / "out"], monkeypatch) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "reading the settings and the bags" and "━" not in "".join(lines).partition("┌")[0]
    assert [line for line in lines if line.startswith("replaying: ")] == ["replaying: 0.0 of 0.5 s of the bag"]


def test_brackets_in_a_path_are_no_markup(
    tmp_path: Path, robot: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "300")
    folder = tmp_path / "runs[" / "old]"
    bags = [write_bag(folder / name, seconds=0.2) for name in ("a", "b[red]")]
    assert run_cli([bags[1], "--robot", robot, "--out", tmp_path / "one"], monkeypatch) == 0
    assert str(bags[1]) in capsys.readouterr().out
    assert run_cli([folder, "--robot", robot, "--out", tmp_path / "[/many]", "--workers", 1], monkeypatch) == 0
    said = capsys.readouterr().out
    assert "b[red]" in said and "[/many]" in said


def test_an_extrinsic_a_rate_and_a_delay_reach_the_replay(
    tmp_path: Path, robot: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "camera.yaml").write_text("{parent: base, child: lens, xyz: [0, 0, 1], rpy: [0, 0, 0]}")
    bag = write_bag(tmp_path / "bag")
    options = ["--extrinsic", tmp_path / "camera.yaml", "--rate", 5, "--delay", "measured", "--robot", robot]
    assert run_cli([bag, "--out", tmp_path / "out", *options], monkeypatch) == 0
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert (summary["rate_hz"], summary["measured_delay"], summary["extrinsic"]["child"]) == (5.0, True, "lens")
    assert summary["ticks_planned"] == 5


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--rate", "-1"], "rate_hz = -1"),
        (["--extrinsic", "missing.yaml"], "missing.yaml: no such file"),
        (["--camera-info-topic", "/other"], "no CameraInfo topic '/other'"),
    ],
)
def test_a_users_mistake_is_one_sentence(
    tmp_path: Path,
    robot: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    options: list[str],
    words: str,
) -> None:
    bag = write_bag(tmp_path / "bag", seconds=0.2)
    assert run_cli([bag, "--robot", robot, "--out", tmp_path / "out", *options], monkeypatch) == 2
    assert words in " ".join(capsys.readouterr().err.split())
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("bags", [1, 2])
def test_results_that_cannot_be_written_are_one_sentence(
    tmp_path: Path, robot: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], bags: int
) -> None:
    (tmp_path / "out").write_text("a file")
    paths = [write_bag(tmp_path / f"bag{number}", seconds=0.2) for number in range(bags)]
    assert run_cli([*paths, "--robot", robot, "--out", tmp_path / "out", "--workers", 1], monkeypatch) == 2
    assert "give a directory that can be written" in " ".join(capsys.readouterr().err.split())


def test_how_poses_are_computed_is_in_the_summary(tmp_path: Path) -> None:
    configuration = validate(Configuration, {**SETTINGS, "checkpoint": "any"}, "test")
    job = ReplayJob(bag=arm_bag(tmp_path / "bag"), out=tmp_path / "out", configuration=configuration)
    summary = replay_bag(job)
    [note] = summary["notes"]
    assert "poses by forward kinematics" in note and summary["ticks_planned"] == 10
    assert json.loads((tmp_path / "out/summary.json").read_text())["notes"] == [note]

"""Many bags side by side, in worker processes and on a cluster."""

import json
import os
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from many_replays import ROBOT, broken_bag, job_of, run_cli
from paths import HELPERS, ROOT
from stand_in_replay import at_once, try_at_once
from synthetic_bags import write_bag

from sqap_vla_ros.core.worker_pool import ParallelError
from sqap_vla_ros.tools.replay import many
from sqap_vla_ros.tools.replay.many import replay_bag, replay_bags


@pytest.fixture(autouse=True)
def _policies_that_take_no_time(monkeypatch: pytest.MonkeyPatch) -> None:
    many._policy.cache_clear()
    many._files.cache_clear()
    monkeypatch.setattr(many, "load_policy", at_once)
    monkeypatch.setattr(many, "try_replay_bag", try_at_once)  # what goes to worker processes


@pytest.fixture
def robot(tmp_path: Path) -> Path:
    path = tmp_path / "robot.yaml"
    path.write_text(ROBOT)
    return path


def test_a_bag_that_fails_is_skipped_and_leaves_its_traceback_in_a_file(tmp_path: Path) -> None:
    good = job_of(write_bag(tmp_path / "good", seconds=0.2), tmp_path / "out" / "good")
    bad = job_of(broken_bag(tmp_path / "bad.mcap"), tmp_path / "out" / "bad")
    outcomes = {outcome.job: outcome for outcome in replay_bags([bad, good], workers=2, ray_address="", resume=False)}
    assert outcomes[good].summary is not None and outcomes[good].summary["ticks_planned"] == 2
    assert "cannot be read as a rosbag2 recording" in outcomes[bad].error
    assert [path.name for path in bad.out.iterdir()] == ["error.txt"]


def test_worker_processes_and_this_one_write_the_same_ticks(tmp_path: Path) -> None:
    bag = write_bag(tmp_path / "bag", seconds=0.3)
    here, there = job_of(bag, tmp_path / "here"), job_of(bag, tmp_path / "there")
    replay_bag(here)
    assert [outcome.error for outcome in replay_bags([there], workers=1, ray_address="", resume=False)] == [""]
    assert (here.out / "ticks.parquet").read_bytes() == (there.out / "ticks.parquet").read_bytes()


def test_the_command_replays_a_folder_reports_what_failed_and_goes_on_from_there(
    tmp_path: Path, robot: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "300")
    for name in ("a", "b"):
        write_bag(tmp_path / "bags" / name, seconds=0.2)
    broken = broken_bag(tmp_path / "bags" / "c.mcap")
    command = [tmp_path / "bags", "--robot", robot, "--out", tmp_path / "out", "--workers", 2, "--resume"]
    assert run_cli(command, monkeypatch) == 1
    said = "".join(capsys.readouterr())
    assert f"skipped: {broken}: cannot be read" in said and "Traceback" not in said
    overview = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert set(overview["bags"]) == {"a", "b"} and set(overview["failed"]) == {"c.mcap"}

    made = {name: (tmp_path / "out" / name / "summary.json").stat().st_mtime_ns for name in ("a", "b")}
    broken.unlink()
    assert run_cli(command, monkeypatch) == 0
    assert made == {name: (tmp_path / "out" / name / "summary.json").stat().st_mtime_ns for name in ("a", "b")}


def test_without_workers_nothing_is_done(tmp_path: Path) -> None:
    job = job_of(tmp_path / "bag", tmp_path / "out")
    with pytest.raises(ParallelError, match="-1 workers"):
        list(replay_bags([job], workers=-1, ray_address="", resume=False))


def test_a_cluster_that_is_not_there_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def nobody_answers(**_: object) -> None:
        raise ConnectionError("could not find any running Ray instance")

    ray = SimpleNamespace(is_initialized=lambda: False, init=nobody_answers)
    monkeypatch.setitem(sys.modules, "ray", ray)
    with pytest.raises(ParallelError, match="no Ray cluster at 'auto'"):
        list(replay_bags([job_of(tmp_path / "bag", tmp_path / "out")], workers=1, ray_address="auto", resume=False))


def test_bags_are_replayed_on_a_ray_cluster(tmp_path: Path) -> None:
    ray = pytest.importorskip("ray", reason="the optional extra [ray] is not installed")
    here = os.pathsep.join([str(HELPERS), str(ROOT)])
    ray.init(num_cpus=1, include_dashboard=False, runtime_env={"env_vars": {"PYTHONPATH": here}})
    try:
        job = job_of(write_bag(tmp_path / "bag", seconds=0.2), tmp_path / "out")
        (outcome,) = replay_bags([job], workers=1, ray_address="auto", resume=False)
        assert outcome.error == "" and job.is_done()
    finally:
        ray.shutdown()

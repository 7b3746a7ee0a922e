"""One command over a folder of bags gives one verdict."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from inline_jobs import run_inline
from many_replays import ROBOT, run_cli
from synthetic_bags import write_bag

from sqap_vla_ros.config.robot import Configuration
from sqap_vla_ros.core.action_chunk import ActionChunk, CommittedActions
from sqap_vla_ros.core.observation import Observation
from sqap_vla_ros.testing.stub_policies import SleepingPolicy
from sqap_vla_ros.tools.replay import many

BAGS = ("a", "b", "c", "d", "e")
REFERENCE = "original"


class CheckpointPolicy(SleepingPolicy):
    """Plans by its noise, plus an offset that the name of its checkpoint gives in metres per step."""

    def __init__(self, checkpoint: str) -> None:
        super().__init__(0)
        self.offset_m = 0.0 if checkpoint == REFERENCE else float(checkpoint)
        self.metadata = replace(self.metadata, checkpoint=checkpoint, weights="float")

    def plan(self, observation: Observation, committed: CommittedActions | None = None) -> ActionChunk:
        """Plan the steps."""
        chunk = super().plan(observation, committed)
        noise = np.random.Generator(np.random.Philox(key=observation.stamp_ns)).normal(0, 1e-3, (16, 3))
        chunk.actions[:, :3] = noise + (self.offset_m, 0.0, 0.0)
        return chunk


@pytest.fixture
def command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., int]:
    """Runs `sqap-vla replay` on five bags; returns the exit code."""

    def load(configuration: Configuration, on_note: Callable[[str], None]) -> CheckpointPolicy:
        return CheckpointPolicy(configuration.checkpoint)

    many._policy.cache_clear()
    many._files.cache_clear()
    monkeypatch.setattr(many, "load_policy", load)
    monkeypatch.setattr(many, "run_jobs", run_inline)
    monkeypatch.setattr(many, "write_overlay", lambda *_, **__: None)
    monkeypatch.setattr(many, "write_report", lambda out: (out / "report.html").touch())
    robot = tmp_path / "robot.yaml"
    robot.write_text(ROBOT)
    for name in BAGS:
        write_bag(tmp_path / "bags" / name, seconds=0.3)
    return lambda *options: run_cli(
        [tmp_path / "bags", "--robot", robot, "--out", tmp_path / "out", "--workers", 1, *options], monkeypatch
    )


@pytest.mark.parametrize(("offset", "code", "word"), [("1e-5", 0, "PASS"), ("0.01", 1, "FAIL")])
def test_a_checkpoint_is_judged_by_the_noise_of_its_baseline_in_one_line(
    tmp_path: Path,
    command: Callable[..., int],
    capsys: pytest.CaptureFixture[str],
    offset: str,
    code: int,
    word: str,
) -> None:
    assert command("--checkpoint", offset, "--baseline-checkpoint", REFERENCE) == code
    said = capsys.readouterr().out.splitlines()[-1]
    assert said.startswith(f"{word}: displacement ") and "15 ticks of 5 bags" in said
    written = json.loads((tmp_path / "out/summary.json").read_text())["verdict"]
    assert (written["outcome"], written["sentence"]) == (word, said)
    floor = written["quantities"]["displacement"]["noise_floor"]
    # Mean distance of two random walks in space, of 1 to 16 steps.
    assert floor == pytest.approx(1e-3 * np.sqrt(2 * 8 / np.pi * np.arange(1, 17)).mean(), rel=0.4)


def test_a_bag_that_fails_makes_the_verdict_fail(
    tmp_path: Path, command: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "bags/broken.mcap").write_bytes(b"not a bag at all")
    assert command("--checkpoint", "1e-5", "--baseline-checkpoint", REFERENCE) == 1
    assert capsys.readouterr().out.splitlines()[-1].startswith("FAIL: bags failed: broken.mcap")


def test_without_its_noise_floor_a_baseline_gives_no_verdict(
    command: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    assert command("--checkpoint", "0.01", "--baseline-checkpoint", REFERENCE, "--noise-floor", "off") == 0
    assert not any(word in capsys.readouterr().out for word in ("PASS", "FAIL", "UNDECIDED"))


def test_a_baseline_that_remembers_the_image_before_cannot_be_asked_for_its_noise(
    command: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    options = ("--checkpoint", "0.01", "--baseline", "vla_cache", "--noise-floor", "on")
    assert command(*options) == 2
    assert "remembers the image before" in capsys.readouterr().err

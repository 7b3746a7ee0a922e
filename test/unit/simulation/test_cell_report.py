"""Figures of an episode in the cell."""

import json
from pathlib import Path

import pytest

from sqap_vla_ros.simulation.cell_report import EpisodeLog

MS = 10**6


def test_latency_runs_from_the_image_to_the_trajectory_that_was_sent_before_its_chunk() -> None:
    log = EpisodeLog()
    log.images.extend([(1, 100 * MS), (2, 150 * MS)])
    log.trajectories.extend([(129 * MS, 130 * MS), (219 * MS, 220 * MS)])
    log.chunks.extend([(131 * MS, 1), (221 * MS, 2)])
    assert log.latencies_s() == pytest.approx([0.030, 0.070])


def test_the_order_of_arrival_does_not_matter() -> None:
    log = EpisodeLog()
    log.images.extend([(1, 100 * MS), (2, 150 * MS)])
    log.chunks.extend([(221 * MS, 2), (131 * MS, 1)])
    log.trajectories.extend([(219 * MS, 220 * MS), (129 * MS, 130 * MS)])
    assert log.latencies_s() == pytest.approx([0.030, 0.070])


def test_a_chunk_whose_command_was_refused_has_no_latency() -> None:
    log = EpisodeLog()
    log.images.extend([(1, 100 * MS), (2, 150 * MS)])
    log.trajectories.append((219 * MS, 220 * MS))
    log.chunks.extend([(131 * MS, 1), (221 * MS, 2)])
    assert log.latencies_s() == pytest.approx([0.070])


def test_the_rate_of_commands_counts_from_the_first_to_the_last() -> None:
    log = EpisodeLog()
    for index in range(11):
        log.trajectories.append((index * 100 * MS, index * 100 * MS))
        log.command_times_s.append(5 + index * 0.05)
    report = log.report("a task", success=False, simulated_s=30.0, wall_s=40.0)
    assert report.commands_per_simulated_s == pytest.approx(20.0)
    assert report.commands_per_wall_s == pytest.approx(10.0)


def test_an_episode_without_commands_has_no_latency_and_no_rate() -> None:
    report = EpisodeLog().report("a task", success=False, simulated_s=1.0, wall_s=1.0)
    assert report.latency_median_ms is None
    assert report.commands_per_simulated_s == 0.0


def test_a_report_is_written_whole(tmp_path: Path) -> None:
    EpisodeLog().report("a task", success=True, simulated_s=1.0, wall_s=2.0).write(tmp_path / "report.json")
    content = json.loads((tmp_path / "report.json").read_text())
    assert (content["task"], content["success"], content["wall_s"]) == ("a task", True, 2.0)
    assert [file.name for file in tmp_path.iterdir()] == ["report.json"]

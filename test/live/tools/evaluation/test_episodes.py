"""Episodes in the simulator: what is measured, and that they can be repeated and filmed."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import av
import pytest
from rich.console import Console

from sqap_vla_ros.config.files import ConfigurationError
from sqap_vla_ros.simulation.closed_loop import Disturbance
from sqap_vla_ros.simulation.loaded_scene import close_scenes
from sqap_vla_ros.tools.evaluation.episodes import EpisodeResult, episode_settings, play
from sqap_vla_ros.tools.evaluation.run import Evaluation, prepare
from sqap_vla_ros.tools.evaluation.session import run_evaluation
from sqap_vla_ros.tools.evaluation.variants import Condition
from sqap_vla_ros.tools.evaluation.videos import failures_to_film, film


@pytest.fixture(scope="module")
def played(evaluation: Evaluation) -> Iterator[Evaluation]:
    """Two episodes of each policy, played in a worker and reported."""
    evaluation = replace(evaluation, episodes=2)
    run_evaluation(evaluation, Console(quiet=True), "sqap-vla evaluate")
    yield evaluation
    close_scenes()


@pytest.fixture(scope="module")
def results(played: Evaluation) -> list[EpisodeResult]:
    return prepare(played, on_step=lambda step: None, on_note=lambda note: None).results()


def test_every_policy_plays_every_episode(results: list[EpisodeResult]) -> None:
    assert len(results) == 4 and {result.seconds for result in results} == {1.0}
    assert all(result.plans == 5 and result.planning_p50_s > 0 for result in results)


def test_a_result_names_the_weights_that_ran(results: list[EpisodeResult]) -> None:
    ids = [result.policy_id.partition("@") for result in results]
    assert [name for name, _, _ in ids] == ["fp16", "fp16", "sqap", "sqap"]
    assert ids[0][2] == ids[1][2] != ids[2][2]


def test_an_arm_that_wanders_has_a_path_and_jerk(results: list[EpisodeResult]) -> None:
    assert all(0.001 < result.path_m < 0.5 and result.jerk_rad_s3 > 0 for result in results)


def test_a_report_with_plot_is_written(played: Evaluation) -> None:
    assert "| fp16 | 0 |" in (played.out / "results.md").read_text()
    assert (played.out / "success.png").stat().st_size > 1000


def test_a_filmed_episode_repeats_itself_from_its_first_to_its_last_image(
    played: Evaluation, results: list[EpisodeResult], tmp_path: Path
) -> None:
    made = film(prepare(played, on_step=lambda step: None, on_note=lambda note: None).jobs[0])
    assert replace(made.result, planning_p50_s=0.0) == replace(results[0], planning_p50_s=0.0)
    assert made.name == "fp16-pick_can-000-failure.mp4"
    (tmp_path / made.name).write_bytes(made.mp4)
    with av.open(str(tmp_path / made.name)) as container:
        assert sum(1 for _ in container.decode(video=0)) == 20


def test_weights_that_change_while_they_are_evaluated_are_noticed(played: Evaluation) -> None:
    job = prepare(played, on_step=lambda step: None, on_note=lambda note: None).jobs[0]
    with pytest.raises(ConfigurationError, match="changed since the evaluation began"):
        play(replace(job, weights_sha256="0" * 64))


@pytest.mark.parametrize(
    ("condition", "disturbance", "delay_s"),
    [
        (Condition(), Disturbance(), 0.0),
        (Condition("tf_offset", 0.02), Disturbance(tf_offset_m=0.02), 0.0),
        (Condition("camera_rotation", 2.0), Disturbance(camera_rotation_deg=2.0), 0.0),
        (Condition("camera_translation", 0.01), Disturbance(camera_translation_m=0.01), 0.0),
        (Condition("image_noise", 10.0), Disturbance(image_noise=10.0), 0.0),
        (Condition("drop_frames", 0.3), Disturbance(drop_frames=0.3), 0.0),
        (Condition("delay", 0.3), Disturbance(), 0.3),
    ],
)
def test_each_disturbance_reaches_the_loop(
    played: Evaluation, condition: Condition, disturbance: Disturbance, delay_s: float
) -> None:
    job = prepare(played, on_step=lambda step: None, on_note=lambda note: None).jobs[0]
    settings = episode_settings(replace(job, condition=condition))
    assert (settings.disturbance, settings.delay_s, settings.limit_s) == (disturbance, delay_s, 1.0)


def test_each_task_has_a_failure_filmed_before_one_has_two(played: Evaluation, results: list[EpisodeResult]) -> None:
    jobs = prepare(played, on_step=lambda step: None, on_note=lambda note: None).jobs[:2]
    drawer = [replace(job, task=replace(job.task, name="open_drawer")) for job in jobs]
    failures = [*results[:2], *(replace(result, task="open_drawer") for result in results[:2])]
    chosen = failures_to_film([*jobs, *drawer], failures, 3)
    assert [(job.task.name, job.number) for job in chosen] == [("pick_can", 0), ("open_drawer", 0), ("pick_can", 1)]

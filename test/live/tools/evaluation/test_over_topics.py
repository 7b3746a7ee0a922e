"""An episode over ROS topics."""

from dataclasses import replace
from pathlib import Path

from sqap_vla_ros.tools.evaluation.over_topics import play_over_topics
from sqap_vla_ros.tools.evaluation.run import Evaluation, prepare
from sqap_vla_ros.tools.evaluation.variants import Variant


def test_an_episode_over_topics_gives_the_same_figures_as_one_in_process(
    evaluation: Evaluation, tmp_path: Path
) -> None:
    settings = replace(evaluation, variants=(Variant("fp16"),), over_topics=True, out=tmp_path / "out")
    job = prepare(settings, on_step=lambda step: None, on_note=lambda note: None).jobs[0]
    result = play_over_topics(job)
    assert result.key == job.key and result.policy_id == f"fp16@{job.weights_sha256[:12]}"
    assert 1.0 <= result.seconds < 1.1 and result.plans > 3 and result.planning_p50_s > 0
    assert 0.001 < result.path_m < 0.5 and result.jerk_rad_s3 > 0

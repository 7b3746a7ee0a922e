"""Cached episode results, and those of the repository in particular."""

import json
import shutil
from pathlib import Path

import pytest

from sqap_vla_ros.config.files import config_directory
from sqap_vla_ros.config.policy import PolicyConfig, read_policy
from sqap_vla_ros.config.robot import Configuration
from sqap_vla_ros.core.run_directory import Record, RunDirectoryError, difference
from sqap_vla_ros.simulation.tasks import chosen_tasks
from sqap_vla_ros.tools.evaluation.cached_episodes import FILES, cached_episodes
from sqap_vla_ros.tools.evaluation.episodes import EpisodeResult
from sqap_vla_ros.tools.evaluation.records import NOT_OF_THE_LOOP, ROBOT, with_new_settings
from sqap_vla_ros.tools.evaluation.run import Evaluation, prepare, trained_tasks
from sqap_vla_ros.tools.evaluation.variants import Variant

STORED = Path(__file__).parents[4] / "benchmarks" / "results" / "episodes"


def test_an_evaluation_begins_with_cached_episodes(tmp_path: Path) -> None:
    cache, out = tmp_path / "cache", tmp_path / "out"
    with pytest.raises(KeyboardInterrupt), cached_episodes(cache, out):
        out.mkdir()
        for name in FILES:
            (out / name).write_text("first")
        raise KeyboardInterrupt
    elsewhere = tmp_path / "elsewhere"
    with cached_episodes(cache, elsewhere):
        assert all((elsewhere / name).read_text() == "first" for name in FILES)
        (elsewhere / "episodes.jsonl").write_text("second")
    with cached_episodes(cache, out):  # has episodes of its own
        assert (out / "episodes.jsonl").read_text() == "first"
    hint = f"other weights; to begin anew, remove {out} and {cache}"
    with pytest.raises(RunDirectoryError, match=hint), cached_episodes(cache, out):
        raise RunDirectoryError("other weights")


@pytest.mark.parametrize("name", ["closed_loop", "planted_outliers"])
def test_the_episodes_of_the_repository_are_read(name: str) -> None:
    lines = (STORED / name / "episodes.jsonl").read_text().splitlines()
    results = Record(STORED / name / "episodes.jsonl").read(lambda entry: EpisodeResult(**entry))
    assert len({result.key for result in results}) == len(lines) > 100
    policies = json.loads((STORED / name / "evaluation.json").read_text())["policies"]
    assert {result.variant for result in results} <= set(policies)


def test_an_evaluation_with_present_settings_resumes_from_the_episodes_of_the_repository(tmp_path: Path) -> None:
    policies = json.loads((STORED / "closed_loop" / "evaluation.json").read_text())["policies"]
    on_float_weights = tuple(Variant(name) for name in policies if "@" not in name)
    shutil.copytree(STORED / "closed_loop", tmp_path / "out")
    checkpoint = str(config_directory() / "checkpoints" / "libero_small")
    evaluation = Evaluation(
        checkpoint=checkpoint,
        out=tmp_path / "out",
        tasks=chosen_tasks(trained_tasks(checkpoint)),
        variants=on_float_weights,
        device="cpu",
    )
    prepared = prepare(evaluation, on_step=lambda step: None, on_note=lambda note: None)
    assert len(prepared.results()) == len(prepared.jobs) == 125 * len(on_float_weights) > 0


def test_the_policy_files_are_those_of_the_repository_s_episodes() -> None:
    stored = with_new_settings(json.loads((STORED / "closed_loop" / "evaluation.json").read_text()))
    for name, about in stored["policies"].items():
        assert read_policy(Variant.parse(name).policy).model_dump(mode="json") == about["policy"]


def test_a_setting_that_came_later_counts_at_its_default_and_another_value_does_not() -> None:
    now = {
        "loop": {ROBOT: Configuration().model_dump(mode="json", exclude=NOT_OF_THE_LOOP)},
        "policies": {"fp16": {"policy": PolicyConfig(name="unnamed").model_dump(mode="json")}},
    }
    before = json.loads(json.dumps(now))
    del before["loop"][ROBOT]["topics"]["cameras"], before["policies"]["fp16"]["policy"]["pruning"]
    assert difference(before, now) and not difference(with_new_settings(before), now)
    now["loop"][ROBOT]["topics"]["cameras"]["names"] = ["agentview"]
    assert "agentview" in difference(with_new_settings(before), now)

"""An evaluation from settings to records: which episodes are played, and what happens when it is run again."""

import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from stub_jobs import outcome_of

from sqap_vla_ros.config.files import ConfigurationError
from sqap_vla_ros.core.run_directory import RunDirectoryError
from sqap_vla_ros.simulation.tasks import chosen_tasks
from sqap_vla_ros.testing.random_checkpoint import write_random_checkpoint
from sqap_vla_ros.tools.evaluation.run import Evaluation, Prepared, Progress, prepare
from sqap_vla_ros.tools.evaluation.variants import Variant, parse_conditions


def prepared(evaluation: Evaluation) -> Prepared:
    """Without telling anybody."""
    return prepare(evaluation, on_step=lambda step: None, on_note=lambda note: None)


@pytest.fixture
def float_only(evaluation: Evaluation, tmp_path: Path) -> Evaluation:
    """Nothing to compress, in a directory of its own."""
    return replace(evaluation, variants=(Variant("fp16"), Variant("sqap")), out=tmp_path / "out")


def test_episodes_are_the_same_for_every_policy(float_only: Evaluation) -> None:
    jobs = prepared(replace(float_only, conditions=parse_conditions(["delay=0.1"]))).jobs
    starts = {
        (policy, condition): [
            (job.initial_state, job.scene_seed)
            for job in jobs
            if (str(job.variant), str(job.condition)) == (policy, condition)
        ]
        for policy in ("fp16", "sqap")
        for condition in ("", "delay=0.1")
    }
    assert len(set(map(tuple, starts.values()))) == 1 and len(starts["fp16", ""]) == 4


def test_the_fixtures_of_each_episode_stand_elsewhere(float_only: Evaluation) -> None:
    jobs = [job for job in prepared(replace(float_only, episodes=100)).jobs if job.variant == Variant("fp16")]
    starts = {(job.initial_state, job.scene_seed) for job in jobs}
    assert len({state for state, _ in starts}) == 50 and {seed for _, seed in starts} == set(range(1000, 1100))


def test_tasks_take_turns_so_that_early_figures_are_of_all(float_only: Evaluation) -> None:
    jobs = prepared(replace(float_only, tasks=chosen_tasks(["pick_can", "move_near"]), episodes=50)).jobs
    names = [job.task.name for job in jobs]
    assert [names.index("move_near"), names.count("move_near")] == [50, 100]
    assert names[100] == "pick_can"


def test_an_evaluation_goes_on_where_it_was(float_only: Evaluation) -> None:
    first = prepared(replace(float_only, episodes=2))
    first.play(lambda progress: None, outcome_of)
    told: list[Progress] = []
    again = prepared(float_only)
    again.play(told.append, outcome_of)
    assert [progress.done for progress in told] == [4, 5, 6, 7, 8]
    assert [(result.variant, result.episode) for result in again.results()] == [
        (policy, episode) for policy in ("fp16", "sqap") for episode in range(4)
    ]


def test_an_episode_whose_line_was_cut_off_is_played_again(float_only: Evaluation) -> None:
    prepared(float_only).play(lambda progress: None, outcome_of)
    lines = float_only.out / "episodes.jsonl"
    lines.write_text(lines.read_text()[:-20])
    again = prepared(float_only)
    assert len(again.results()) == 7
    again.play(lambda progress: None, outcome_of)
    assert len(prepared(float_only).results()) == 8


def test_a_line_that_is_no_episode_is_named(float_only: Evaluation) -> None:
    prepared(float_only)
    (float_only.out / "episodes.jsonl").write_text('{"task": "pick_can"}\n')
    with pytest.raises(RunDirectoryError, match=r"episodes.jsonl, line 1: not an entry"):
        prepared(float_only)


def test_another_checkpoint_in_the_same_directory_is_refused(float_only: Evaluation, tmp_path: Path) -> None:
    prepared(float_only)
    other = write_random_checkpoint(tmp_path / "other", "tiny", seed=1)
    with pytest.raises(RunDirectoryError, match=r"another checkpoint_sha256 "):
        prepared(replace(float_only, checkpoint=str(other)))


@pytest.mark.parametrize("name", ["dataset_statistics.json", "config.json", "tokenizer.json"])
def test_a_checkpoint_with_another_file_beside_its_weights_is_refused(
    float_only: Evaluation, tmp_path: Path, name: str
) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(float_only.checkpoint, copy)
    evaluation = replace(float_only, checkpoint=str(copy))
    prepared(evaluation)
    (copy / name).write_text((copy / name).read_text() + "\n")
    with pytest.raises(RunDirectoryError, match="another loop: configuration, statistics or tokenizer"):
        prepared(evaluation)


def test_episodes_that_do_not_say_of_what_are_refused(float_only: Evaluation) -> None:
    prepared(float_only).play(lambda progress: None, outcome_of)
    (float_only.out / "evaluation.json").unlink()
    with pytest.raises(RunDirectoryError, match="evaluation.json, .* is missing"):
        prepared(float_only)


def test_a_directory_that_is_a_file_is_refused(float_only: Evaluation, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(RunDirectoryError, match="cannot be used"):
        prepared(replace(float_only, out=tmp_path / "file"))


def test_another_plan_period_in_the_same_directory_is_refused(float_only: Evaluation) -> None:
    prepared(float_only)
    with pytest.raises(RunDirectoryError, match="another loop: plan period"):
        prepared(replace(float_only, plan_period_s=0.4))


def test_a_policy_file_that_was_changed_is_refused(float_only: Evaluation, tmp_path: Path) -> None:
    mine = tmp_path / "mine.yaml"
    mine.write_text("name: mine\ndiffusion: {steps: 10}\n")
    with_mine = replace(float_only, variants=(Variant(str(mine)),))
    prepared(with_mine)
    mine.write_text("name: mine\ndiffusion: {steps: 5}\n")
    with pytest.raises(RunDirectoryError, match="another policies: .*mine.yaml"):
        prepared(with_mine)


def test_other_policies_join_those_of_a_directory(float_only: Evaluation) -> None:
    prepared(float_only).play(lambda progress: None, outcome_of)
    joined = prepared(replace(float_only, variants=(Variant("fp16"), Variant("random"))))
    assert len(joined.results()) == 4
    assert len(prepared(float_only).results()) == 8


def test_a_compressed_checkpoint_is_made_once(evaluation: Evaluation) -> None:
    jobs = prepared(evaluation).jobs
    made = evaluation.out / "checkpoints" / "nearest" / "compressed.json"
    before = made.stat().st_mtime_ns
    assert jobs[-1].configuration.checkpoint == str(made.parent.resolve())
    assert prepared(evaluation).jobs == jobs and made.stat().st_mtime_ns == before


def test_a_compressed_checkpoint_of_another_recipe_is_not_used(evaluation: Evaluation, tmp_path: Path) -> None:
    prepared(evaluation)
    other = tmp_path / "nearest.yaml"
    other.write_text("name: nearest\nweights: {bits: 4, rounding: nearest}\nactivations: {bits: 8}\n")
    with pytest.raises(RunDirectoryError, match="was made with another recipe of that name"):
        prepared(replace(evaluation, variants=(Variant("sqap", str(other)),)))


@pytest.mark.parametrize("change", [{"calibration": ("elsewhere",)}, {"calibration": ()}, {"calibration_frames": 1}])
def test_a_compressed_checkpoint_of_another_calibration_is_not_used(evaluation: Evaluation, change: dict) -> None:
    prepared(evaluation)
    with pytest.raises(RunDirectoryError, match="was calibrated on 2 frames"):
        prepared(replace(evaluation, **change))


def test_float_weights_alone_are_said_before_anything_is_compressed(evaluation: Evaluation, tmp_path: Path) -> None:
    variant = replace(evaluation.variants[-1], policy="fp16")
    with pytest.raises(ConfigurationError, match="plays on float weights alone"):
        prepared(replace(evaluation, variants=(variant,), out=tmp_path / "out"))
    assert not (tmp_path / "out").exists()


def test_a_compressed_checkpoint_is_not_compressed_again(evaluation: Evaluation, tmp_path: Path) -> None:
    compressed = prepared(evaluation).jobs[-1].configuration.checkpoint
    with pytest.raises(ConfigurationError, match="is compressed already; give the original checkpoint"):
        prepared(replace(evaluation, checkpoint=compressed, out=tmp_path / "out"))


@pytest.mark.parametrize(
    "change",
    [
        {"episodes": 0},
        {"workers": 0},
        {"calibration_frames": 0},
        {"plan_period_s": 0.0},
        {"variants": ()},
        {"variants": (Variant("sqap"),) * 2},
    ],
)
def test_settings_that_cannot_be_are_refused_by_name(evaluation: Evaluation, change: dict) -> None:
    name = "policies" if "variants" in change else next(iter(change))
    with pytest.raises(ConfigurationError, match=f"{name}.*expected at least"):
        replace(evaluation, **change)


def test_disturbances_are_not_for_topics(evaluation: Evaluation) -> None:
    with pytest.raises(ConfigurationError, match="leave out --ros or them"):
        replace(evaluation, over_topics=True, conditions=parse_conditions(["delay=0.1"]))


def test_an_unknown_task_is_refused_with_those_there_are() -> None:
    with pytest.raises(ConfigurationError, match="'pick_a_can'; there are: pick_can"):
        chosen_tasks(["pick_a_can"])

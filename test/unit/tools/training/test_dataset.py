"""Demonstrations as samples."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from synthetic_demonstrations import STEPS, synthetic_demonstration, write_demonstrations

from sqap_vla_ros.bags.demonstrations import DemonstrationError
from sqap_vla_ros.config.robot import Configuration
from sqap_vla_ros.perception.conventions import integrate
from sqap_vla_ros.tools.training.augmentation import augment
from sqap_vla_ros.tools.training.batches import Text, make_batch, prefetched
from sqap_vla_ros.tools.training.dataset import (
    DemonstrationSet,
    Episode,
    Samples,
    action_statistics,
    decode,
    read_demonstrations,
)
from sqap_vla_ros.tools.training.settings import TrainingError, TrainingSettings
from sqap_vla_ros.vlm.statistics import GRIPPER, ActionStatistics, denormalise, normalise

# Nothing is clipped.
WIDE = ActionStatistics("libero", np.full(7, -0.5), np.full(7, 0.5), np.arange(7) != GRIPPER)


def frames_of_one_episode(demonstrations: DemonstrationSet) -> Samples:
    return Samples(demonstrations.training[:1], WIDE, relative_gripper=False)


def seeds(episodes: Sequence[Episode]) -> set[int]:
    return {episode.demonstration.seed for episode in episodes}


def test_one_of_few_demonstrations_of_each_task_is_held_out(demonstrations: DemonstrationSet) -> None:
    assert [episode.demonstration.task for episode in demonstrations.held_out] == ["reach", "touch"]
    assert len(demonstrations.training) == 4


def test_what_is_held_out_stays_so_when_demonstrations_are_added(tmp_path: Path, configuration: Configuration) -> None:
    before = read_demonstrations(write_demonstrations(tmp_path / "few", ("reach",), 40), (), configuration)
    after = read_demonstrations(write_demonstrations(tmp_path / "many", ("reach",), 80), (), configuration)
    assert 1 <= len(before.held_out) < len(after.held_out) < 10
    assert seeds(before.held_out) < seeds(after.held_out)
    assert not seeds(after.held_out) & seeds(after.training)


def test_actions_lead_through_the_poses_that_were_reached(
    demonstrations: DemonstrationSet, configuration: Configuration
) -> None:
    first = frames_of_one_episode(demonstrations).spread(100)[0]
    actions = denormalise(first.actions, WIDE)
    poses = integrate(actions, first.T_base_tool, configuration.action, configuration.frames)
    reached = demonstrations.training[0].demonstration.T_base_tool[1:17]
    np.testing.assert_allclose(poses, reached, atol=1e-5)


def test_the_gripper_of_an_action_is_that_of_the_state_it_leads_to(demonstrations: DemonstrationSet) -> None:
    first = frames_of_one_episode(demonstrations).spread(100)[0]
    np.testing.assert_array_equal(first.actions[:, GRIPPER], demonstrations.training[0].demonstration.gripper[1:17])


def test_actions_from_the_first_disturbance_on_are_not_imitated(demonstrations: DemonstrationSet) -> None:
    first, second, *_ = frames_of_one_episode(demonstrations).spread(100)
    assert first.valid.sum() == 10
    assert second.valid.sum() == 6
    assert not first.valid[10:].any()


def test_beyond_the_end_nothing_moves_and_the_gripper_stays(demonstrations: DemonstrationSet) -> None:
    last = frames_of_one_episode(demonstrations).spread(100)[-1]
    assert last.valid.all()
    np.testing.assert_allclose(denormalise(last.actions, WIDE)[4:, :6], 0, atol=1e-7)
    assert (last.actions[:, GRIPPER] == 0).all()


def test_frames_from_a_disturbance_until_the_arm_has_turned_are_no_samples(
    tmp_path: Path, configuration: Configuration
) -> None:
    for seed in range(2):
        demonstration = synthetic_demonstration("reach", seed)
        intended = demonstration.intended.copy()
        intended[8] = False
        replace(demonstration, intended=intended).write(tmp_path / "reach" / f"{seed:06d}.safetensors")
    episode = read_demonstrations(tmp_path, (), configuration).training[0]
    assert episode.demonstration.frame_steps[episode.usable].tolist() == [0, 4, 20]
    assert episode.demonstration.frame_steps[-1] == STEPS


def test_statistics_cover_98_of_100_actions_that_are_imitated(demonstrations: DemonstrationSet) -> None:
    statistics = action_statistics(demonstrations.training)
    actions = np.concatenate([e.actions[e.imitated] for e in demonstrations.training])
    inside = (actions[:, 0] >= statistics.q01[0]) & (actions[:, 0] <= statistics.q99[0])
    assert inside.mean() >= 0.98
    assert statistics.mask.tolist() == [True] * 6 + [False]


def test_jitter_where_nothing_moves_is_not_stretched_to_full_scale(demonstrations: DemonstrationSet) -> None:
    statistics = action_statistics(demonstrations.training)
    assert (statistics.q99 - statistics.q01)[2:6] == pytest.approx(0.004)
    np.testing.assert_allclose(normalise(np.full(7, 1e-4), statistics)[2:6], 0.05, atol=1e-4)


@given(st.lists(st.floats(-0.5, 0.5), min_size=7, max_size=7))
def test_normalising_is_undone_by_denormalising(action: list[float]) -> None:
    normalised = normalise(np.array(action), WIDE)
    np.testing.assert_allclose(denormalise(normalised, WIDE), action, atol=1e-7)


def test_tasks_are_drawn_evenly_however_many_frames_they_have(
    demonstration_folder: Path, configuration: Configuration, tmp_path: Path
) -> None:
    write_demonstrations(tmp_path, ("reach",), 2)
    write_demonstrations(tmp_path, ("touch",), 12)
    samples = Samples(read_demonstrations(tmp_path, (), configuration).training, WIDE, relative_gripper=False)
    rng = np.random.default_rng(0)
    tasks = [samples.draw(rng, augmented=False).task for _ in range(300)]
    assert np.mean(tasks) == pytest.approx(0.5, abs=0.1)


def test_a_batch_is_that_of_its_number_whoever_made_it(demonstrations: DemonstrationSet, text: Text) -> None:
    settings = TrainingSettings(size="tiny", batch=2, draws=2)
    samples = Samples(demonstrations.training, WIDE, relative_gripper=False)
    batches = prefetched(samples, text, settings, first_step=3, workers=2)
    made = [next(batches) for _ in range(3)]
    batches.close()
    for number, (batch, draws) in enumerate(made, start=3):
        again, draws_again = make_batch(samples, text, settings, number)
        assert batch.images.equal(again.images)
        assert batch.actions.equal(again.actions)
        assert draws.values.equal(draws_again.values)
    assert not made[0][0].images.equal(made[1][0].images)


def test_an_augmented_picture_shows_its_points_where_they_are_said_to_be() -> None:
    for seed in range(30):
        image = np.zeros((224, 224, 3), dtype=np.uint8)
        image[99:102, 149:152] = 255
        changed, points = augment(image, np.array([[150, 100]], dtype=np.float32), np.random.default_rng(seed))
        rows, columns = np.nonzero(changed.sum(2) > 0.8 * changed.sum(2).max())
        np.testing.assert_allclose((columns.mean(), rows.mean()), points[0], atol=0.6)


def test_a_shift_is_at_most_four_pixels() -> None:
    image = np.zeros((32, 32, 3), dtype=np.uint8)
    shifts = [augment(image, np.zeros((1, 2), np.float32), np.random.default_rng(seed))[1] for seed in range(200)]
    assert np.abs(shifts).max() == 4


def test_grey_stays_grey_when_recoloured_and_blurred() -> None:
    for seed in range(50):
        changed, _ = augment(
            np.full((8, 8, 3), 120, np.uint8), np.zeros((1, 2), np.float32), np.random.default_rng(seed)
        )
        middle = np.median(changed.astype(int), axis=(0, 1))
        assert np.ptp(middle) <= 4


def test_colours_come_out_as_red_green_blue(demonstrations: DemonstrationSet) -> None:
    demonstration = demonstrations.training[0].demonstration
    u, v = demonstration.points_px[0, 0].astype(int)
    red, green, blue = decode(demonstration.images[0])[v, u].astype(int)
    assert red > 200 and green < 100 and blue < 100


def test_the_hash_is_of_the_files_that_were_read(demonstration_folder: Path, configuration: Configuration) -> None:
    both, again, one = (
        read_demonstrations(demonstration_folder, tasks, configuration).sha256 for tasks in ((), (), ("reach",))
    )
    assert both == again
    assert both != one


def test_demonstrations_at_another_rate_are_refused(tmp_path: Path, configuration: Configuration) -> None:
    for seed in range(2):
        slow = replace(synthetic_demonstration("reach", seed), rate_hz=5.0)
        slow.write(tmp_path / "reach" / f"{seed:06d}.safetensors")
    with pytest.raises(TrainingError, match=r"recorded at 5.0 Hz, the robot's actions are at 20.0 Hz"):
        read_demonstrations(tmp_path, (), configuration)


def test_a_task_without_demonstrations_is_refused(demonstration_folder: Path, configuration: Configuration) -> None:
    with pytest.raises(TrainingError, match="no demonstrations of 'fly'; there are reach, touch"):
        read_demonstrations(demonstration_folder, ("fly",), configuration)


def test_a_single_demonstration_cannot_be_both_learned_and_held_out(
    tmp_path: Path, configuration: Configuration
) -> None:
    write_demonstrations(tmp_path, ("reach",), 1)
    with pytest.raises(TrainingError, match="expected at least two"):
        read_demonstrations(tmp_path, (), configuration)


def test_a_frame_that_is_no_picture_is_refused() -> None:
    with pytest.raises(DemonstrationError, match="not a JPEG"):
        decode(b"nothing")

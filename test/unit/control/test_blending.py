"""Overlapping chunks as one path: by time."""

import numpy as np
import pytest

from sqap_vla_ros.config.robot import ActionConvention, Frames
from sqap_vla_ros.control.blending import ENSEMBLE_ALPHA, TimedPoses, average, continuation, ensemble
from sqap_vla_ros.core.action_chunk import ActionChunk
from sqap_vla_ros.core.token_selection import keep_all
from sqap_vla_ros.perception.conventions import integrate
from sqap_vla_ros.perception.transforms import rotation_from_rpy, rotation_from_vector, transform_from
from sqap_vla_ros.policies.cogact.ensemble import AdaptiveEnsemble

MS = 10**6
START_NS = 1_700_000_000 * 10**9
STEP_S, STEP_NS = 0.2, 200 * MS


def chunk(actions: np.ndarray, stamp_ns: int = START_NS, T: np.ndarray | None = None) -> ActionChunk:
    return ActionChunk(stamp_ns, actions, STEP_S, np.eye(4) if T is None else T, "pick", 0, keep_all())


def random_actions(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(16, 7)) * 0.02


def line(speed_m_s: tuple[float, float, float], yaw_rad_s: float = 0.0, start_ns: int = START_NS) -> TimedPoses:
    times_s = STEP_S * np.arange(17)
    poses = [transform_from(np.array(speed_m_s) * t, rotation_from_rpy((0, 0, yaw_rad_s * t))) for t in times_s]
    return TimedPoses(start_ns + STEP_NS * np.arange(17), np.array(poses))


def test_a_path_is_interpolated_between_its_poses_and_stands_still_beyond() -> None:
    path = line((0.1, 0, 0), yaw_rad_s=0.5)
    poses = path.at(np.array([START_NS - MS, START_NS + 300 * MS, START_NS + 10**11]))
    np.testing.assert_allclose(poses[:, 0, 3], (0, 0.03, 0.32), atol=1e-9)
    np.testing.assert_allclose(poses[1, :3, :3], rotation_from_rpy((0, 0, 0.15)), atol=1e-9)


def test_the_ensemble_is_the_published_one_where_each_step_has_a_chunk() -> None:
    chunks = [chunk(random_actions(seed), START_NS + seed * STEP_NS) for seed in range(5)]
    published = AdaptiveEnsemble(5, ENSEMBLE_ALPHA)
    for k in range(5):
        expected = published.mix(chunks[k].actions)
        np.testing.assert_allclose(ensemble(chunks[: k + 1])[0], expected, atol=1e-12)


def test_chunks_that_are_several_steps_apart_are_mixed_by_time() -> None:
    same = random_actions(0)
    old, new = chunk(same), chunk(same[3:], START_NS + 3 * STEP_NS)
    np.testing.assert_allclose(ensemble([old, new]), same[3:], atol=1e-12)


def test_where_only_the_newest_chunk_reaches_the_ensemble_is_that_chunk() -> None:
    old, new = chunk(random_actions(0)), chunk(random_actions(1), START_NS + 10 * STEP_NS)
    np.testing.assert_allclose(ensemble([old, new])[6:], new.actions[6:], atol=1e-15)


def test_one_path_alone_is_its_average() -> None:
    np.testing.assert_allclose(average([line((0.1, 0, 0), 0.3)]), line((0.1, 0, 0), 0.3).poses, atol=1e-12)


def test_paths_that_agree_average_to_themselves() -> None:
    whole = line((0.1, 0.05, 0), 0.3)
    later = TimedPoses(whole.due_ns[3:], whole.poses[3:])
    np.testing.assert_allclose(average([whole, later]), later.poses, atol=1e-9)


def test_a_path_counts_by_how_much_of_it_is_still_to_come() -> None:
    old, new = line((0, 0, 0), start_ns=START_NS - 8 * STEP_NS), line((0, 0, 0))
    new.poses[:] = transform_from((0.3, 0, 0), rotation_from_vector((0.18, 0, 0.24)))
    mixed = average([old, new])
    # At first half of the old path is left and all of the new one; two thirds of the way is gone.
    np.testing.assert_allclose(mixed[0], transform_from((0.2, 0, 0), rotation_from_vector((0.12, 0, 0.16))), atol=1e-9)
    np.testing.assert_allclose(mixed[8:], new.poses[8:], atol=1e-9)


def test_no_path_leaves_the_average_with_a_step() -> None:
    times_ns = START_NS + MS * np.arange(1000)
    still = np.tile(np.eye(4), (1000, 1, 1))
    aside = still.copy()
    aside[:, 0, 3] = 0.1
    mixed = average([TimedPoses(times_ns - 500 * MS, still), TimedPoses(times_ns, aside)])
    assert np.abs(np.diff(mixed[:, 0, 3])).max() < 0.1 / 300


CONVENTIONS = [
    ActionConvention(rotation=rotation, frame=frame)
    for rotation in ("axis_angle", "fixed_axis", "euler_difference")
    for frame in ("base", "tool")
]
FRAMES = Frames(tool_policy_xyz=(0.1, 0, 0.02), tool_policy_rpy=(0.2, -0.4, 0.1))


@pytest.mark.parametrize("convention", CONVENTIONS, ids=lambda c: f"{c.rotation}-{c.frame}")
def test_an_observation_on_the_path_goes_on_along_it(convention: ActionConvention) -> None:
    running = chunk(random_actions(3))
    path = integrate(running.actions, running.T_base_tool, convention, FRAMES)
    going_on = continuation(running, START_NS + 3 * STEP_NS, path[2], 0.3, convention, FRAMES)
    assert going_on is not None and going_on.steps == 2
    np.testing.assert_allclose(going_on.actions, running.actions[3:], atol=1e-8)


@pytest.mark.parametrize("convention", CONVENTIONS, ids=lambda c: f"{c.rotation}-{c.frame}")
def test_an_observation_beside_the_path_comes_back_to_it_with_the_first_action(convention: ActionConvention) -> None:
    running = chunk(random_actions(4))
    beside = transform_from((0.01, -0.02, 0.005), rotation_from_rpy((0.02, 0.01, -0.03)))
    stamp_ns = START_NS + 3 * STEP_NS + 90 * MS
    going_on = continuation(running, stamp_ns, beside, 0.1, convention, FRAMES)
    assert going_on is not None and len(going_on.actions) == 12
    there = integrate(going_on.actions, beside, convention, FRAMES)
    path = integrate(running.actions, running.T_base_tool, convention, FRAMES)
    due_ns = START_NS + STEP_NS * np.arange(1, 17)
    np.testing.assert_allclose(there, TimedPoses(due_ns, path).at(stamp_ns + STEP_NS * np.arange(1, 13)), atol=1e-8)


def test_deltas_on_the_previous_target_are_kept_whatever_is_measured() -> None:
    convention = ActionConvention(anchor="previous_target")
    running, elsewhere = chunk(random_actions(5)), transform_from((0.5, 0, 0), np.eye(3))
    going_on = continuation(running, START_NS + 2 * STEP_NS, elsewhere, 0.1, convention, Frames())
    assert going_on is not None
    np.testing.assert_allclose(going_on.actions, running.actions[2:], atol=1e-8)


@pytest.mark.parametrize(("late_ms", "first"), [(0, 2), (1, 3), (199, 3)])
def test_the_gripper_value_is_that_of_the_pose_under_way(late_ms: int, first: int) -> None:
    actions = np.zeros((16, 7))
    actions[:, 6] = np.arange(16)
    stamp_ns = START_NS + 2 * STEP_NS + late_ms * MS
    going_on = continuation(chunk(actions), stamp_ns, np.eye(4), 0.1, ActionConvention(), Frames())
    assert going_on is not None and going_on.actions[0, 6] == first


@pytest.mark.parametrize(("delay_s", "steps"), [(0.01, 1), (0.2, 1), (0.21, 2), (100.0, 14)])
def test_as_many_steps_are_committed_as_the_delay_covers(delay_s: float, steps: int) -> None:
    running = chunk(np.zeros((16, 7)))
    going_on = continuation(running, START_NS + 2 * STEP_NS, np.eye(4), delay_s, ActionConvention(), Frames())
    assert going_on is not None and going_on.steps == steps


def test_nothing_is_committed_by_a_chunk_that_has_ended() -> None:
    running = chunk(np.zeros((16, 7)))
    assert continuation(running, START_NS + 16 * STEP_NS, np.eye(4), 0.1, ActionConvention(), Frames()) is None

"""Measures between motions: what they must be for identical, moved and known ones."""

from collections.abc import Callable
from dataclasses import astuple, replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from sqap_vla_ros.config.robot import ActionConvention, Robot
from sqap_vla_ros.core.action_chunk import ActionChunk
from sqap_vla_ros.core.token_selection import Reason, keep_all, selection_of
from sqap_vla_ros.core.types import Array
from sqap_vla_ros.perception.transforms import rotation_from_vector, transform_from
from sqap_vla_ros.tools.replay.metrics import (
    Motion,
    difference,
    gripper_states,
    kept_overlap,
    overlap_m,
    planned_jerk,
    planned_motion,
)

HORIZON = 8
STEP_S = 0.1
START_NS = 1_700_000_000_000_000_000
COORDINATES = st.floats(-1, 1, allow_subnormal=False)


def motion(path: Callable[[Array], Array], at_ns: int = START_NS) -> Motion:
    """An unrotated tool that is at path(seconds (N,)) -> metres (N, 3) relative to START_NS."""
    seconds: Array = (at_ns - START_NS) * 1e-9 + STEP_S * np.arange(HORIZON + 1, dtype=np.float64)
    poses = np.stack([transform_from(point, np.eye(3)) for point in path(seconds)])
    return Motion(at_ns, STEP_S, poses[0], poses[1:], np.ones(HORIZON))


def line(velocity_m_s: tuple[float, float, float]) -> Callable[[Array], Array]:
    """A path at constant velocity."""
    return lambda seconds: np.outer(seconds, velocity_m_s)


@st.composite
def transforms(draw: st.DrawFn) -> Array:
    """A rigid transform within a metre and one radian per axis."""
    numbers = draw(arrays(np.float64, 6, elements=COORDINATES))
    return transform_from(numbers[:3], rotation_from_vector(numbers[3:]))


@st.composite
def motions(draw: st.DrawFn) -> Motion:
    """A motion from the origin to anywhere, the gripper open or closed."""
    poses = np.stack([draw(transforms()) for _ in range(HORIZON)])
    gripper = draw(arrays(np.float64, HORIZON, elements=st.sampled_from([0.0, 1.0])))
    return Motion(START_NS, STEP_S, np.eye(4), poses, gripper)


@given(motions())
def test_a_motion_is_no_way_from_itself(plan: Motion) -> None:
    same = difference(plan, plan)
    assert (same.mean_displacement_m, same.final_displacement_m, same.gripper_agreement) == (0, 0, 1)
    assert same.rotation_rad == pytest.approx(0, abs=1e-7)
    assert same.direction_cosine is None or same.direction_cosine == pytest.approx(1)


@given(motions(), motions())
def test_the_difference_is_the_same_seen_from_either_motion(a: Motion, b: Motion) -> None:
    assert astuple(difference(a, b)) == pytest.approx(astuple(difference(b, a)), abs=1e-9)


@given(motions(), motions(), transforms())
def test_the_difference_does_not_depend_on_where_the_base_is(a: Motion, b: Motion, T: Array) -> None:
    moved = [replace(plan, T_base_tool=T @ plan.T_base_tool, poses=T @ plan.poses) for plan in (a, b)]
    here, there = astuple(difference(a, b)), astuple(difference(*moved))
    # A net motion of about the least that has a direction may fall on either side of it.
    assert here == pytest.approx(there, abs=1e-6) or None in (here[3], there[3])


@given(motions(), transforms())
def test_jerk_does_not_depend_on_where_the_base_is(plan: Motion, T: Array) -> None:
    moved = replace(plan, T_base_tool=T @ plan.T_base_tool, poses=T @ plan.poses)
    assert planned_jerk(moved) == pytest.approx(planned_jerk(plan), rel=1e-6, abs=1e-6)


@given(arrays(np.float64, 3, elements=COORDINATES))
def test_a_motion_beside_another_is_as_far_away_at_every_step(offset_m: Array) -> None:
    plan = motion(line((0.2, 0.0, 0.0)))
    beside = replace(plan, poses=transform_from(offset_m, np.eye(3)) @ plan.poses)
    apart = difference(plan, beside)
    assert apart.mean_displacement_m == pytest.approx(np.linalg.norm(offset_m))
    assert apart.final_displacement_m == pytest.approx(np.linalg.norm(offset_m))


@given(arrays(np.float64, 3, elements=COORDINATES))
def test_the_rotation_error_is_the_angle_between_the_last_poses(vector: Array) -> None:
    plan = motion(line((0.2, 0.0, 0.0)))
    turned = replace(plan, poses=plan.poses @ transform_from((0, 0, 0), rotation_from_vector(vector)))
    assert difference(plan, turned).rotation_rad == pytest.approx(np.linalg.norm(vector), abs=1e-7)


@pytest.mark.parametrize(
    ("velocity_m_s", "cosine"),
    [((0.5, 0.0, 0.0), 1.0), ((0.0, 0.1, 0.0), 0.0), ((-0.1, 0.0, 0.0), -1.0), ((0.0, 0.0, 0.0), None)],
    ids=["along", "across", "against", "standing still"],
)
def test_the_direction_is_that_of_the_net_motion(
    velocity_m_s: tuple[float, float, float], cosine: float | None
) -> None:
    truth = motion(line((0.2, 0.0, 0.0)))
    assert difference(motion(line(velocity_m_s)), truth).direction_cosine == pytest.approx(cosine)


def test_truth_that_ends_early_has_a_mean_of_what_is_known_and_no_final_error() -> None:
    truth = motion(line((0.2, 0.0, 0.0)))
    truth.poses[3:] = np.nan
    plan = replace(truth, poses=motion(line((0.3, 0.0, 0.0))).poses)
    apart = difference(plan, truth)
    assert apart.mean_displacement_m == pytest.approx(0.1 * STEP_S * (1 + 2 + 3) / 3)
    assert (apart.final_displacement_m, apart.rotation_rad, apart.direction_cosine) == (None, None, None)


def test_nothing_is_said_about_truth_that_is_not_known_at_all() -> None:
    plan = motion(line((0.2, 0.0, 0.0)))
    truth = replace(plan, poses=np.full_like(plan.poses, np.nan))
    assert astuple(difference(plan, truth)) == (None,) * 5


def test_the_grippers_agree_in_a_share_of_the_steps_that_both_know() -> None:
    plan = motion(line((0.2, 0.0, 0.0)))
    truth = replace(plan, gripper=np.array([1, 1, 1, 0, np.nan, np.nan, np.nan, np.nan]))
    assert difference(plan, truth).gripper_agreement == 0.75


@pytest.mark.parametrize(
    ("convention", "values", "states"),
    [
        ({}, [0.5, 0.9, 0.5, 0.1, 0.5], [np.nan, 1, 1, 0, 0]),
        ({"gripper_open": 0}, [0.5, 0.9, 0.5, 0.1, 0.5], [np.nan, 0, 0, 1, 1]),
        ({"gripper_relative": True}, [0.0, 1.0, 0.0, -1.0, 0.0], [np.nan, 1, 1, 0, 0]),
    ],
    ids=["1 is open", "0 is open", "changes"],
)
def test_a_gripper_keeps_its_state_until_it_is_told_another(
    convention: dict[str, object], values: list[float], states: list[float]
) -> None:
    found = gripper_states(np.array(values), ActionConvention.model_validate(convention))
    np.testing.assert_array_equal(found, states)


def test_a_path_of_the_third_degree_has_its_known_jerk() -> None:
    plan = motion(lambda seconds: np.outer(seconds**3 + seconds**2 - seconds, (0.0, 0.5, 0.0)))
    assert planned_jerk(plan) == pytest.approx(0.5 * 6)


@given(st.integers(0, 100 * (HORIZON - 1)))
def test_a_plan_that_goes_on_as_planned_before_overlaps_without_distance(later_ms: int) -> None:
    path = line((0.2, -0.1, 0.3))
    assert overlap_m(motion(path), motion(path, START_NS + later_ms * 10**6)) == pytest.approx(0, abs=1e-9)


def test_the_overlap_is_the_mean_distance_where_both_plan() -> None:
    later = motion(line((0.2, 0.0, 0.0)), START_NS + 3 * 10**8)
    beside = replace(later, poses=transform_from((0, 0, 0.02), np.eye(3)) @ later.poses)
    beside.poses[HORIZON - 3 :, :3, 3] += 1.0  # after the end of the plan before
    assert overlap_m(motion(line((0.2, 0.0, 0.0))), beside) == pytest.approx(0.02)


def test_plans_that_share_no_time_do_not_overlap() -> None:
    assert overlap_m(motion(line((0.2, 0.0, 0.0))), motion(line((0.2, 0.0, 0.0)), START_NS + 10**9)) is None


def test_the_kept_tokens_in_common_are_a_share_of_the_baselines() -> None:
    kept = selection_of({Reason.ATTENTION: np.arange(10)})
    other = selection_of({Reason.ATTENTION: np.arange(5, 25)})
    assert (kept_overlap(kept, other), kept_overlap(other, kept)) == (0.25, 0.5)
    assert kept_overlap(kept, keep_all()) == 10 / 256


def test_a_chunk_is_integrated_from_the_measured_pose() -> None:
    actions = np.zeros((HORIZON, 7))
    actions[:, 0], actions[:, 6] = 0.01, 1.0
    T_base_tool = transform_from((0.5, 0.0, 0.3), rotation_from_vector((0, 0, 1.0)))
    chunk = ActionChunk(START_NS, actions, STEP_S, T_base_tool, "", 0, keep_all())
    planned = planned_motion(chunk, Robot())
    np.testing.assert_allclose(planned.path_m[:, 0], 0.5 + 0.01 * np.arange(1, HORIZON + 1))
    assert (planned.gripper == 1).all() and planned.stamp_ns == START_NS

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sqap_vla_ros.config.robot import ActionConvention, Frames
from sqap_vla_ros.perception.conventions import integrate, label
from sqap_vla_ros.perception.transforms import inverse, rotation_from_rpy, rotation_from_vector, transform_from

CONVENTIONS = [
    ActionConvention(rotation=rotation, frame=frame, increment=increment, anchor=anchor)
    for rotation, frame, increment, anchor in itertools.product(
        ("euler_difference", "fixed_axis", "axis_angle"),
        ("base", "tool"),
        ("achieved", "commanded"),
        ("measured", "previous_target"),
    )
    if (increment, anchor) != ("commanded", "measured")  # refused: it would overshoot
]
FRAMES = Frames(tool_policy_xyz=(0.1, -0.02, 0.05), tool_policy_rpy=(0.3, -1.5, 2.0))


def angles(largest: float) -> st.SearchStrategy[float]:
    return st.floats(-largest, largest)


# Roll and pitch stay clear of the singularity of roll-pitch-yaw angles, of states as well as of changes.
STATES = st.lists(st.tuples(*[st.floats(-1, 1)] * 3, angles(0.7), angles(0.7), angles(np.pi)), min_size=2, max_size=17)


@pytest.mark.parametrize("convention", CONVENTIONS, ids=lambda c: f"{c.rotation}-{c.frame}-{c.increment}-{c.anchor}")
@settings(max_examples=15, deadline=None)
@given(states=STATES)
def test_labelled_paths_integrate_to_themselves(convention: ActionConvention, states: list[tuple[float, ...]]) -> None:
    T_tool_policy = transform_from(FRAMES.tool_policy_xyz, rotation_from_rpy(FRAMES.tool_policy_rpy))
    poses = np.array(
        [transform_from(state[:3], rotation_from_rpy(state[3:])) @ inverse(T_tool_policy) for state in states]
    )
    actions = label(poses, np.zeros(len(poses)), convention, FRAMES)
    np.testing.assert_allclose(integrate(actions, poses[0], convention, FRAMES), poses[1:], atol=1e-6)


def one_step(action: list[float], R: np.ndarray, **convention: str) -> np.ndarray:
    T = transform_from((0.5, 0, 0.2), R)
    return integrate(np.array([[*action, 0.0]]), T, ActionConvention(**convention), Frames())[0]


QUARTER = rotation_from_rpy((0, 0, np.pi / 2))


def test_base_translations_move_along_base_axes() -> None:
    T = one_step([0.1, 0, 0, 0, 0, 0], QUARTER, frame="base")
    np.testing.assert_allclose(T[:3, 3], (0.6, 0, 0.2), atol=1e-12)


def test_tool_translations_move_along_tool_axes() -> None:
    T = one_step([0.1, 0, 0, 0, 0, 0], QUARTER, frame="tool")
    np.testing.assert_allclose(T[:3, 3], (0.5, 0.1, 0.2), atol=1e-12)


@pytest.mark.parametrize("rotation", ["axis_angle", "fixed_axis"])
def test_base_rotations_turn_about_base_axes_through_the_tool(rotation: str) -> None:
    T = one_step([0, 0, 0, 0.2, 0, 0], QUARTER, frame="base", rotation=rotation)
    np.testing.assert_allclose(T, transform_from((0.5, 0, 0.2), rotation_from_rpy((0.2, 0, 0)) @ QUARTER), atol=1e-12)


@pytest.mark.parametrize("rotation", ["axis_angle", "fixed_axis"])
def test_tool_rotations_turn_about_tool_axes(rotation: str) -> None:
    T = one_step([0, 0, 0, 0.2, 0, 0], QUARTER, frame="tool", rotation=rotation)
    np.testing.assert_allclose(T[:3, :3], QUARTER @ rotation_from_rpy((0.2, 0, 0)), atol=1e-12)


def test_rotation_vectors_and_fixed_axis_turns_differ_for_large_angles() -> None:
    delta = np.array([0.4, 0.5, 0.6])
    vector = one_step([0, 0, 0, *delta], np.eye(3), rotation="axis_angle")
    turns = one_step([0, 0, 0, *delta], np.eye(3), rotation="fixed_axis")
    np.testing.assert_allclose(vector[:3, :3], rotation_from_vector(delta), atol=1e-12)
    assert np.abs(vector - turns).max() > 0.05


def test_euler_differences_add_to_the_angles() -> None:
    T = one_step([0, 0, 0, 0.1, -0.2, 0.3], rotation_from_rpy((0.5, 0.6, 0.7)), rotation="euler_difference")
    np.testing.assert_allclose(T[:3, :3], rotation_from_rpy((0.6, 0.4, 1.0)), atol=1e-12)


def test_euler_differences_wrap_at_half_a_turn() -> None:
    poses = np.array([transform_from((0, 0, 0), rotation_from_rpy((0, 0, yaw))) for yaw in (3.1, -3.1)])
    actions = label(poses, np.zeros(2), ActionConvention(rotation="euler_difference"), Frames())
    assert actions[0, 5] == pytest.approx(2 * np.pi - 6.2)


def test_rotations_turn_about_the_origin_of_the_policys_tool_frame() -> None:
    frames = Frames(tool_policy_xyz=(0, 0, 0.1))
    action = np.array([[0, 0, 0, np.pi / 2, 0, 0, 0.0]])
    T = integrate(action, np.eye(4), ActionConvention(), frames)[0]
    np.testing.assert_allclose(T[:3, 3], (0, 0.1, 0.1), atol=1e-12)


def test_labels_carry_the_next_gripper_value() -> None:
    poses = np.repeat(np.eye(4)[None], 3, axis=0)
    actions = label(poses, np.array([0.0, 1.0, 0.4]), ActionConvention(), Frames())
    np.testing.assert_array_equal(actions[:, 6], (1.0, 0.4))


def test_relative_labels_carry_the_change_of_the_gripper() -> None:
    poses = np.repeat(np.eye(4)[None], 3, axis=0)
    actions = label(poses, np.array([0.0, 1.0, 0.4]), ActionConvention(gripper_relative=True), Frames())
    np.testing.assert_allclose(actions[:, 6], (1.0, -0.6))

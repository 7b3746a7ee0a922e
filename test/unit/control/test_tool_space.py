"""The tool itself as what is commanded."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sqap_vla_ros.config.robot import Limits
from sqap_vla_ros.control.ik import APPROACH_S
from sqap_vla_ros.control.tool_space import ToolSpace, angular_velocity
from sqap_vla_ros.perception.transforms import (
    rotation_from_rpy,
    rotation_from_vector,
    transform_from,
    vector_from_rotation,
)

DOWN = transform_from((0.4, 0.1, 0.3), rotation_from_rpy((np.pi, 0, 0)))


def space(T: np.ndarray = DOWN) -> ToolSpace:
    tool = ToolSpace(Limits(tool_velocity=(0.3, 0.9)))
    tool.coordinates(T)
    return tool


VECTORS = st.tuples(*[st.floats(-1.7, 1.7)] * 3)


@given(vector=VECTORS)
def test_coordinates_lead_back_to_the_pose(vector: tuple[float, ...]) -> None:
    tool, T = space(), transform_from((0.2, -0.3, 0.5), rotation_from_vector(vector) @ DOWN[:3, :3])
    np.testing.assert_allclose(tool.forward(tool.coordinates(T)), T, atol=1e-7)


def test_the_first_orientation_is_the_origin_of_rotations() -> None:
    np.testing.assert_allclose(space().coordinates(DOWN), (0.4, 0.1, 0.3, 0, 0, 0), atol=1e-9)


def test_rotations_go_on_beyond_half_a_turn() -> None:
    tool, q = space(), np.zeros(6)
    for angle in np.arange(0, 4.5, 0.3):
        q = tool.coordinates(transform_from((0, 0, 0), rotation_from_vector((0, 0, angle)) @ DOWN[:3, :3]), q)
        assert q[5] == pytest.approx(angle, abs=1e-7)


def test_targets_within_reach_of_one_step_are_reached() -> None:
    tool = space()
    target = transform_from((0.41, 0.11, 0.29), rotation_from_vector((0, 0, 0.1)) @ DOWN[:3, :3])
    solution = tool.inverse(target[None], tool.coordinates(DOWN), tool.limits, 0.2)
    np.testing.assert_allclose(tool.forward(solution.q[0]), target, atol=1e-9)
    assert solution.position_error_m[0] == 0 and solution.rotation_error_rad[0] == 0


def test_a_target_too_far_away_is_approached_and_the_rest_reported() -> None:
    tool, target = space(), DOWN.copy()
    target[0, 3] += 1.0
    solution = tool.inverse(target[None], tool.coordinates(DOWN), tool.limits, 0.2)
    step = 0.3 / np.sqrt(3) * APPROACH_S
    assert solution.q[0, 0] == pytest.approx(0.4 + step)
    assert solution.position_error_m[0] == pytest.approx(1 - step)


def test_coordinates_at_their_limits_do_not_exceed_the_tools() -> None:
    limits = space().limits
    assert np.linalg.norm(limits.velocity[:3]) == pytest.approx(0.3)
    assert np.linalg.norm(limits.velocity[3:]) == pytest.approx(0.9)


@given(vector=VECTORS, rate=VECTORS)
def test_the_angular_velocity_is_how_fast_the_tool_turns(vector: tuple[float, ...], rate: tuple[float, ...]) -> None:
    start, change, dt = np.array(vector), np.array(rate), 1e-6
    turned = rotation_from_vector(start + change * dt) @ rotation_from_vector(start).T
    omega = angular_velocity(start, change)
    np.testing.assert_allclose(omega, vector_from_rotation(turned) / dt, atol=1e-4)
    assert np.linalg.norm(omega) <= np.linalg.norm(change) + 1e-9

"""Rigid transforms against closed forms."""

from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sqap_vla_ros.perception.transforms import (
    inverse,
    quaternion_from_matrix,
    rotation_from_quaternion,
    rotation_from_rpy,
    rotation_from_vector,
    rpy_from_rotation,
    slerp,
    transform_from,
    transform_from_message,
    vector_from_rotation,
)

number = st.floats(-2, 2)
vectors = st.tuples(number, number, number).map(np.array)
rotations = vectors.map(rotation_from_vector)


def message(x=0.0, y=0.0, z=0.0, w=1.0, translation=(1.0, 2.0, 3.0)):
    names = dict(zip("xyz", translation, strict=True))
    return SimpleNamespace(translation=SimpleNamespace(**names), rotation=SimpleNamespace(x=x, y=y, z=z, w=w))


# Worked out by hand, whatever library computes them: rotations about fixed axes, first roll, then pitch, then yaw.
# (0.6, 0, 0, 0.8) turns about x by twice the angle of cosine 0.8: cosine 0.8^2 - 0.6^2, sine 2 * 0.6 * 0.8.
RIGHT = np.pi / 2
HALF = np.sqrt(0.5)
KNOWN = [
    ((0, 0, 0), (0, 0, 0, 1), [[1, 0, 0], [0, 1, 0], [0, 0, 1]]),
    ((RIGHT, 0, 0), (HALF, 0, 0, HALF), [[1, 0, 0], [0, 0, -1], [0, 1, 0]]),
    ((0, 0, RIGHT), (0, 0, HALF, HALF), [[0, -1, 0], [1, 0, 0], [0, 0, 1]]),
    ((RIGHT, 0, RIGHT), (0.5, 0.5, 0.5, 0.5), [[0, 0, 1], [1, 0, 0], [0, 1, 0]]),
    ((np.arctan2(0.96, 0.28), 0, 0), (0.6, 0, 0, 0.8), [[1, 0, 0], [0, 0.28, -0.96], [0, 0.96, 0.28]]),
    ((0, np.arctan2(0.96, 0.28), 0), (0, 0.6, 0, 0.8), [[0.28, 0, 0.96], [0, 1, 0], [-0.96, 0, 0.28]]),
]


@pytest.mark.parametrize(("rpy", "quaternion", "rotation"), KNOWN)
def test_known_rotations_have_their_rpy_and_quaternion_in_ros_order(rpy, quaternion, rotation):
    rotation = np.array(rotation, np.float64)
    np.testing.assert_allclose(rotation_from_rpy(rpy), rotation, atol=1e-15)
    np.testing.assert_allclose(rpy_from_rotation(rotation), rpy, atol=1e-15)
    np.testing.assert_allclose(rotation_from_quaternion(quaternion), rotation, atol=1e-15)
    np.testing.assert_allclose(quaternion_from_matrix(rotation), quaternion, atol=1e-15)


def test_yaw_turns_x_into_y():
    np.testing.assert_allclose(rotation_from_rpy((0, 0, np.pi / 2)) @ (1, 0, 0), (0, 1, 0), atol=1e-15)


@given(vectors)
def test_rpy_turns_about_fixed_x_then_y_then_z(rpy):
    about = [rotation_from_vector(np.eye(3)[axis] * rpy[axis]) for axis in range(3)]
    np.testing.assert_allclose(rotation_from_rpy(rpy), about[2] @ about[1] @ about[0], atol=1e-12)


@given(st.tuples(number, st.floats(-1.5, 1.5), number).map(np.array))
def test_rpy_comes_back(rpy):
    np.testing.assert_allclose(rpy_from_rotation(rotation_from_rpy(rpy)), rpy, atol=1e-9)


@given(rotations)
def test_quaternion_comes_back(rotation):
    np.testing.assert_allclose(rotation_from_quaternion(quaternion_from_matrix(rotation)), rotation, atol=1e-12)


def test_quaternion_is_in_ros_order():
    half = np.sqrt(0.5)
    np.testing.assert_allclose(rotation_from_quaternion((0, 0, half, half)) @ (1, 0, 0), (0, 1, 0), atol=1e-15)


@given(st.tuples(*[st.floats(-1.7, 1.7)] * 3).map(np.array))
def test_rotation_vector_comes_back(vector):
    np.testing.assert_allclose(vector_from_rotation(rotation_from_vector(vector)), vector, atol=1e-9)


@pytest.mark.parametrize("angle", [1e-4, 1e-8, 1e-13, 0.0])
def test_small_rotation_vectors_keep_their_digits(angle):
    vector = vector_from_rotation(rotation_from_vector((0, angle, 0)))
    np.testing.assert_allclose(vector, (0, angle, 0), rtol=1e-6, atol=1e-15)


@given(rotations, vectors)
def test_inverse_undoes(rotation, translation):
    T = transform_from(translation, rotation)
    np.testing.assert_allclose(inverse(T) @ T, np.eye(4), atol=1e-12)


@given(vectors, st.floats(0, 1), rotations)
def test_slerp_turns_at_constant_rate(vector, fraction, start):
    end = start @ rotation_from_vector(vector * 0.8)
    expected = start @ rotation_from_vector(vector * 0.8 * fraction)
    between = slerp(quaternion_from_matrix(start), quaternion_from_matrix(end), fraction)
    np.testing.assert_allclose(rotation_from_quaternion(between), expected, atol=1e-9)


@given(st.floats(0, 1))
def test_slerp_does_not_care_about_the_quaternions_sign(fraction):
    start, end = (0.0, 0.0, 0.0, 1.0), (0.6, 0.0, 0.0, 0.8)
    np.testing.assert_allclose(
        rotation_from_quaternion(slerp(start, [-value for value in end], fraction)),
        rotation_from_quaternion(slerp(start, end, fraction)),
        atol=1e-12,
    )


@given(st.floats(0, 1), st.floats(1e-9, 1e-5))
def test_slerp_of_nearly_equal_quaternions_is_of_unit_length(fraction, angle):
    between = slerp((0, 0, 0, 1), (np.sin(angle / 2), 0, 0, np.cos(angle / 2)), fraction)
    assert np.linalg.norm(between) == pytest.approx(1, abs=1e-12)


def test_a_transform_message_is_read():
    T = transform_from_message(message(z=np.sin(0.5), w=np.cos(0.5)))
    np.testing.assert_allclose(T, transform_from((1, 2, 3), rotation_from_rpy((0, 0, 1))), atol=1e-12)


def test_a_pose_message_is_read():
    transform = message(x=1.0, w=0.0)
    pose = SimpleNamespace(position=transform.translation, orientation=transform.rotation)
    np.testing.assert_array_equal(transform_from_message(pose), transform_from_message(transform))


@pytest.mark.parametrize("bad", [message(w=0.0), message(w=0.9), message(w=float("nan"))])
def test_a_quaternion_that_is_not_of_unit_length_is_refused(bad):
    with pytest.raises(ValueError, match="must have length 1"):
        transform_from_message(bad)


def test_a_translation_that_is_not_finite_is_refused():
    with pytest.raises(ValueError, match="not finite"):
        transform_from_message(message(translation=(float("inf"), 0, 0)))

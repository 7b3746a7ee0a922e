"""Rigid transforms: float64 (4, 4) matrices, metres and radians.

`T_a_b` is the pose of frame b in frame a; it transforms coordinates in b to coordinates in a. Quaternions are in ROS
order (x, y, z, w). Roll, pitch, yaw turn about the fixed x, y and z axes in that order: R = Rz(yaw) Ry(pitch) Rx(roll).
"""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from sqap_vla_ros.core.types import Array

Quaternion = tuple[float, float, float, float]

# ROS workstations have tf_transformations, which wraps transforms3d: both give the same bits, which scipy does not.
try:
    import tf_transformations

    def rotation_from_quaternion(quaternion: Sequence[float]) -> Array:
        """Rotation matrix, float64 (3, 3), of a unit quaternion (x, y, z, w)."""
        return tf_transformations.quaternion_matrix(quaternion)[:3, :3]

    def _quaternion(rotation: Array) -> Sequence[float]:
        return tf_transformations.quaternion_from_matrix(transform_from((0, 0, 0), rotation))

    def _rotation_from_rpy(roll: float, pitch: float, yaw: float) -> Array:
        return tf_transformations.euler_matrix(roll, pitch, yaw, "sxyz")[:3, :3]

    def _rpy(rotation: Array) -> Sequence[float]:
        return tf_transformations.euler_from_matrix(transform_from((0, 0, 0), rotation), "sxyz")

except ImportError:
    from transforms3d.euler import euler2mat, mat2euler
    from transforms3d.quaternions import mat2quat, quat2mat

    def rotation_from_quaternion(quaternion: Sequence[float]) -> Array:
        """Rotation matrix, float64 (3, 3), of a unit quaternion (x, y, z, w)."""
        x, y, z, w = quaternion
        return quat2mat((w, x, y, z))

    def _quaternion(rotation: Array) -> Sequence[float]:
        w, x, y, z = mat2quat(rotation)
        return x, y, z, w

    def _rotation_from_rpy(roll: float, pitch: float, yaw: float) -> Array:
        return euler2mat(roll, pitch, yaw, "sxyz")

    def _rpy(rotation: Array) -> Sequence[float]:
        return mat2euler(rotation, "sxyz")


def transform_from(translation: ArrayLike, rotation: ArrayLike) -> Array:
    """Transform, float64 (4, 4), of a translation (3,) and a rotation matrix (3, 3)."""
    T = np.eye(4)
    T[:3, :3] = rotation
    T[:3, 3] = translation
    return T


def inverse(T: Array) -> Array:
    """Inverse T_b_a of a rigid transform T_a_b."""
    R_transposed = T[:3, :3].T
    return transform_from(-R_transposed @ T[:3, 3], R_transposed)


def quaternion_from_matrix(matrix: Array) -> Quaternion:
    """Unit quaternion (x, y, z, w) with w >= 0, of a rotation matrix (3, 3) or of a transform (4, 4)."""
    x, y, z, w = (float(value) for value in _quaternion(matrix[:3, :3]))
    return x, y, z, w


def rotation_from_rpy(rpy: ArrayLike) -> Array:
    """Rotation matrix, float64 (3, 3), of roll, pitch and yaw (3,)."""
    roll, pitch, yaw = np.asarray(rpy, np.float64)
    return _rotation_from_rpy(roll, pitch, yaw)


def rpy_from_rotation(rotation: Array) -> Array:
    """Roll, pitch and yaw, float64 (3,), of a rotation matrix (3, 3); pitch is within +-pi/2."""
    return np.array(_rpy(rotation))


def rotation_from_vector(vector: ArrayLike) -> Array:
    """Rotation matrix, float64 (3, 3), of a rotation vector (3,): axis times angle."""
    x, y, z = np.asarray(vector, np.float64)
    angle = math.sqrt(x * x + y * y + z * z)
    # sin(angle / 2) / angle, whose limit is 1/2
    scale = math.sin(angle / 2) / angle if angle > 1e-12 else 0.5
    return rotation_from_quaternion((scale * x, scale * y, scale * z, math.cos(angle / 2)))


def vector_from_rotation(rotation: Array) -> Array:
    """Rotation vector, float64 (3,), of a rotation matrix (3, 3); its length, the angle, is at most pi."""
    x, y, z, w = quaternion_from_matrix(rotation)
    sine = math.sqrt(x * x + y * y + z * z)
    # atan2 keeps the precision of the angle near 0, where an arc cosine loses half of the digits.
    scale = 2 * math.atan2(sine, w) / sine if sine > 1e-12 else 2.0
    return scale * np.array((x, y, z))


def slerp(start: Sequence[float], end: Sequence[float], fraction: float) -> Quaternion:
    """Unit quaternion at `fraction` of the shorter way from `start` to `end` (Shoemake 1985).

    It works on plain floats, since the transform tree calls it for every edge of every look-up.
    """
    x0, y0, z0, w0 = start
    x1, y1, z1, w1 = end
    cosine = x0 * x1 + y0 * y1 + z0 * z1 + w0 * w1
    side = -1.0 if cosine < 0 else 1.0  # q and -q are the same rotation: take the nearer one
    angle = math.acos(min(side * cosine, 1.0))
    if angle < 1e-6:  # the sines' ratio is the fraction itself to within angle^2
        a, b = 1 - fraction, side * fraction
    else:
        a = math.sin((1 - fraction) * angle) / math.sin(angle)
        b = side * math.sin(fraction * angle) / math.sin(angle)
    return a * x0 + b * x1, a * y0 + b * y1, a * z0 + b * z1, a * w0 + b * w1


def transform_from_message(message: Any) -> Array:
    """Transform, float64 (4, 4), of a geometry_msgs Transform or Pose.

    Raises:
        ValueError: A number is not finite, or the quaternion is not of unit length.
    """
    translation = message.translation if hasattr(message, "translation") else message.position
    rotation = message.rotation if hasattr(message, "rotation") else message.orientation
    quaternion = unit_quaternion((rotation.x, rotation.y, rotation.z, rotation.w))
    numbers = (translation.x, translation.y, translation.z)
    if not all(math.isfinite(number) for number in numbers):
        raise ValueError(f"translation {numbers} is not finite")
    return transform_from(numbers, rotation_from_quaternion(quaternion))


def unit_quaternion(quaternion: Sequence[float]) -> Quaternion:
    """The quaternion (x, y, z, w) scaled to length one.

    Raises:
        ValueError: It is not finite, or its squared length is not within 0.01 of one (tf2's own tolerance).
    """
    x, y, z, w = (float(value) for value in quaternion)
    length = math.sqrt(x * x + y * y + z * z + w * w)
    if not abs(length * length - 1) <= 0.01:
        raise ValueError(f"quaternion (x, y, z, w) = ({x}, {y}, {z}, {w}) must have length 1, has {length:g}")
    return x / length, y / length, z / length, w / length

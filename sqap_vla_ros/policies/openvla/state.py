"""The robot's state and the gripper, as the data sets of OpenVLA-OFT define them."""

import numpy as np

from sqap_vla_ros.core.types import Array

GRIPPER = 6


def axis_angle(quaternion: Array) -> Array:
    """Rotation vector of a quaternion, as LIBERO's data were made.

    The sign of the quaternion is kept: one with w < 0 gives an angle between pi and two pi, so that the same
    orientation has two vectors.

    Args:
        quaternion: float64 (..., 4), x, y, z, w, of unit length.

    Returns:
        float64 (..., 3), radians; zero where w is exactly ±1.
    """
    w = np.clip(quaternion[..., 3:], -1, 1)
    length = np.sqrt(1 - w * w)
    still = length == 0
    vector = quaternion[..., :3] * 2 * np.arccos(w) / np.where(still, 1, length)
    return np.where(still, 0.0, vector)


def tool_state(position: Array, quaternion: Array, fingers: Array) -> Array:
    """LIBERO's state, float64 (8,).

    Args:
        position: float64 (3,), grip site in the simulator's world frame, metres.
        quaternion: float64 (4,), x, y, z, w, orientation of the `right_hand` body.
        fingers: float64 (2,), positions of the two finger joints, metres.
    """
    return np.concatenate((position, axis_angle(quaternion), fingers))


def simulator_gripper(actions: Array) -> Array:
    """Actions with the gripper as LIBERO's simulator takes it: −1 opens, 1 closes, and exactly 0.5 gives 0.

    Args:
        actions: float64 (..., 7), gripper from 0 (closed) to 1 (open).
    """
    turned = actions.copy()
    turned[..., GRIPPER] = -np.sign(2 * actions[..., GRIPPER] - 1)
    return turned

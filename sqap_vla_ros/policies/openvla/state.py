"""The robot's state and the gripper, as the data sets of OpenVLA-OFT define them."""

import numpy as np

from sqap_vla_ros.core.types import Array
from sqap_vla_ros.perception.robot_state import axis_angle

GRIPPER = 6


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

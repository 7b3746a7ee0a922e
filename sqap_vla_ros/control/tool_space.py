"""The tool itself as what is commanded, for arms whose controller does the kinematics.

Its six coordinates take the place of joints, so that a tool pose is planned, limited, joined to the motion and brought
to rest by the same code as joints are: x, y, z in the base frame [m], and a rotation vector from a reference
orientation in base axes [rad]. The reference is the first orientation that is seen. A rotation vector changes at least
as fast as the tool turns, so that limits on it hold for the tool as well.
"""

import numpy as np

from sqap_vla_ros.config.robot import Limits
from sqap_vla_ros.control.ik import APPROACH_S, InverseKinematics
from sqap_vla_ros.control.trajectory import JointLimits
from sqap_vla_ros.core.types import Array
from sqap_vla_ros.perception.transforms import rotation_from_vector, transform_from, vector_from_rotation

# Rotation vectors are singular at a whole turn.
LARGEST_TURN = 1.5 * np.pi


class ToolSpace:
    """Coordinates of the tool pose; has what `Kinematics` has.

    Args:
        limits: With those of the tool.

    Attributes:
        joints: Names of the coordinates.
        limits: Of each of them.
    """

    joints = ("x", "y", "z", "rotation x", "rotation y", "rotation z")

    def __init__(self, limits: Limits) -> None:
        # The limits are of lengths of vectors; each coordinate has its share.
        velocity, acceleration, jerk = (
            np.repeat(of_tool, 3) / np.sqrt(3)
            for of_tool in (limits.tool_velocity, limits.tool_acceleration, limits.tool_jerk)
        )
        largest = np.repeat([np.inf, LARGEST_TURN], 3)
        self.limits = JointLimits(-largest, largest, velocity, acceleration, jerk)
        self._reference: Array | None = None

    def coordinates(self, T_base_tool: Array, near: Array | None = None) -> Array:
        """Coordinates float64 (6,) of a pose.

        Args:
            T_base_tool: float64 (4, 4).
            near: float64 (6,), of a pose shortly before: beyond half a turn there are two rotation vectors.
        """
        if self._reference is None:
            self._reference = T_base_tool[:3, :3].copy()
        vector = vector_from_rotation(T_base_tool[:3, :3] @ self._reference.T)
        angle = float(np.linalg.norm(vector))
        if near is not None and angle > 0:
            other = vector * (1 - 2 * np.pi / angle)
            if np.linalg.norm(other - near[3:]) < np.linalg.norm(vector - near[3:]):
                vector = other
        return np.concatenate([T_base_tool[:3, 3], vector])

    def forward(self, q: Array) -> Array:
        """T_base_tool float64 (4, 4) of coordinates float64 (6,)."""
        rotation = rotation_from_vector(q[3:])
        return transform_from(q[:3], rotation if self._reference is None else rotation @ self._reference)

    def tool_positions(self, q: Array) -> Array:
        """Where the tool is, as `Kinematics.tool_positions`."""
        return q[:, :3]

    def inverse(self, targets: Array, q0: Array, limits: JointLimits, dt: float) -> InverseKinematics:
        """Coordinates of each target in turn; arguments and result as of `Kinematics.inverse`."""
        travel, q = limits.velocity * max(dt, APPROACH_S), np.array(q0, dtype=np.float64)
        rows = np.empty((len(targets), 6))
        left = np.empty_like(rows)
        for row, target in enumerate(targets):
            wanted = self.coordinates(target, q)
            q = np.clip(wanted, np.maximum(q - travel, limits.lower), np.minimum(q + travel, limits.upper))
            travel = limits.velocity * dt
            rows[row], left[row] = q, wanted - q
        return InverseKinematics(rows, np.linalg.norm(left[:, :3], axis=1), np.linalg.norm(left[:, 3:], axis=1))


def angular_velocity(vector: Array, rate: Array) -> Array:
    """Angular velocity float64 (3,) in base axes, of a rotation vector (3,) and its rate of change (3,).

    The left Jacobian of SO(3): Barfoot, State Estimation for Robotics, equation 7.77.
    """
    angle = float(np.linalg.norm(vector))
    if angle < 1e-6:
        return rate + 0.5 * np.cross(vector, rate)
    axis = vector / angle
    share = np.sin(angle) / angle
    turned: Array = (
        share * rate + (1 - share) * (axis @ rate) * axis + (1 - np.cos(angle)) / angle * np.cross(axis, rate)
    )
    return turned

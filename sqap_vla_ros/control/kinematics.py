"""Kinematics of the arm, both ways, and the limits of its joints."""

import numpy as np

from sqap_vla_ros.config.robot import Robot
from sqap_vla_ros.control.forward_kinematics import ForwardKinematics
from sqap_vla_ros.control.ik import InverseKinematics, solve
from sqap_vla_ros.control.trajectory import JointLimits
from sqap_vla_ros.core.types import Array


class Kinematics(ForwardKinematics):
    """The tool's pose from the named joints, and the joints from tool poses."""

    def inverse(self, targets: Array, q0: Array, limits: JointLimits, dt: float) -> InverseKinematics:
        """Joint positions that bring the tool to each target in turn; see `ik.solve`."""
        return solve(self, targets, q0, limits, dt)


def joint_limits(robot: Robot, kinematics: Kinematics) -> JointLimits:
    """The settings' limits, one for all joints or one each, with the model's position and lower velocity limits."""
    shape = len(robot.command.joints)
    velocity, acceleration, jerk = (
        np.broadcast_to(np.array(values, dtype=np.float64), shape)
        for values in (robot.limits.joint_velocity, robot.limits.joint_acceleration, robot.limits.joint_jerk)
    )
    return JointLimits(
        kinematics.lower, kinematics.upper, np.minimum(velocity, kinematics.velocity), acceleration, jerk
    )

"""Inverse kinematics: joint positions for a sequence of tool poses.

Pink sets up each step as a quadratic programme, DAQP solves it: reach the target, stay near the start in the directions
that the tool does not need, keep the joints in their limits.
"""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from sqap_vla_ros.control.forward_kinematics import ForwardKinematics
from sqap_vla_ros.control.trajectory import JointLimits
from sqap_vla_ros.core.types import Array

# A target counts as reached within these; far below what an arm repeats.
POSITION_TOLERANCE_M = 1e-4
ROTATION_TOLERANCE_RAD = 1e-3
# The first target lies aside from where the arm is, as far as its joints move in this time at most [s]. The trajectory
# closes that gap at its own pace; the solutions must not, or they would run after the targets instead of along them.
APPROACH_S = 0.5
# Steps per target: 2 or 3 where it can be reached; out of reach, more do not help.
ITERATIONS = 6
# Costs, relative to 1 per metre of position error: where both cannot be had, position comes first. The posture's
# leaves errors far below the tolerances.
ROTATION_COST = 0.2
POSTURE_COST = 5e-4
# Levenberg-Marquardt damping grows with the squared error: none at the target, bounded steps far from it.
DAMPING = 0.3


@dataclass(frozen=True)
class InverseKinematics:
    """Joint positions for a sequence of tool poses.

    Attributes:
        q: float64 (poses, joints) [rad or m]; joints that turn without limit are unwrapped from the start.
        position_error_m: float64 (poses,), what is left between tool and target.
        rotation_error_rad: float64 (poses,).
    """

    q: Array
    position_error_m: Array
    rotation_error_rad: Array


def solve(arm: ForwardKinematics, targets: Array, q0: Array, limits: JointLimits, dt: float) -> InverseKinematics:
    """Joint positions that bring the tool to each target in turn, each found from the one before.

    Args:
        arm: Forward kinematics.
        targets: float64 (poses, 4, 4), T_base_tool.
        q0: float64 (joints,), where the arm is before the first target.
        limits: A joint moves from one pose to the next by at most its velocity times `dt`, to the first by as much as
            in `APPROACH_S`, and only within its position limits; so neither a singularity nor a far target makes it
            leap.
        dt: Time between two targets [s].

    Returns:
        The nearest that was found; the errors say how near.
    """
    import daqp

    pin, pink = arm.pin, arm.pink
    configuration = pink.Configuration(arm.model, arm.data, arm.configuration(q0), copy_data=False)
    reach = pink.tasks.FrameTask(
        arm.model.frames[arm.tool].name, position_cost=1.0, orientation_cost=ROTATION_COST, lm_damping=DAMPING
    )
    posture = pink.tasks.PostureTask(cost=POSTURE_COST)
    posture.set_target(configuration.q)
    travel = limits.velocity * max(dt, APPROACH_S)
    # min 1/2 x'Px + q'x subject to lower_bounds <= x <= upper_bounds: a step is bounded variable by variable only,
    # which the solver takes directly, so that there are no rows of constraints.
    upper_bounds, lower_bounds = np.empty((2, arm.model.nv))
    no_rows, is_inequality = np.empty((0, arm.model.nv)), np.zeros(arm.model.nv, np.int32)
    before = q = np.array(q0, dtype=np.float64)
    is_reached = False
    result = InverseKinematics(np.empty((len(targets), len(q))), np.empty(len(targets)), np.empty(len(targets)))
    for row, T_base_target in enumerate(targets):
        target = arm.T_world_base * pin.SE3(np.asarray(T_base_target, dtype=np.float64))
        # Standing still is always allowed, also from a start beyond a limit.
        lower = np.minimum(np.maximum(limits.lower, q - travel), q)
        upper = np.maximum(np.minimum(limits.upper, q + travel), q)
        # Going on as before is nearly right on a smooth path, and saves most of the iterations.
        before, q = q, np.minimum(np.maximum(2 * q - before, lower), upper) if row > 1 and is_reached else q
        position_m, rotation_rad = _error(arm, q, target)
        for _ in range(ITERATIONS):
            if is_reached := position_m < POSITION_TOLERANCE_M and rotation_rad < ROTATION_TOLERANCE_RAD:
                break
            reach.set_target(target)
            configuration.update(arm.configuration(q))
            problem = pink.build_ik(configuration, (reach, posture), 1.0, limits=())
            upper_bounds[arm.velocity_index], lower_bounds[arm.velocity_index] = upper - q, lower - q
            step, _, status, _ = daqp.solve(problem.P, problem.q, no_rows, upper_bounds, lower_bounds, is_inequality)
            if status != 1:
                break
            q = np.clip(q + step[arm.velocity_index], lower, upper)
            position_m, rotation_rad = _error(arm, q, target)
        travel = limits.velocity * dt
        result.q[row] = q
        result.position_error_m[row] = position_m
        result.rotation_error_rad[row] = rotation_rad
    return result


def _error(arm: ForwardKinematics, q: Array, target: Any) -> tuple[float, float]:
    """Distance [m] and angle [rad] from the tool at q, float64 (joints,), to a target, T_world_tool."""
    arm.pin.forwardKinematics(arm.model, arm.data, arm.configuration(q))
    tool = arm.pin.updateFramePlacement(arm.model, arm.data, arm.tool)
    error = arm.pin.log6(tool.actInv(target)).np
    return math.sqrt(error[:3] @ error[:3]), math.sqrt(error[3:] @ error[3:])

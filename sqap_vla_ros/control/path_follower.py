"""From timed targets to the points of a trajectory that goes on from what is committed."""

import numpy as np
from numpy.typing import NDArray

from sqap_vla_ros.control.active_trajectory import TimedPoints
from sqap_vla_ros.control.kinematics import Kinematics
from sqap_vla_ros.control.latency import TRANSPORT_NS
from sqap_vla_ros.control.targets import Targets, ToolTargets
from sqap_vla_ros.control.tool_space import ToolSpace
from sqap_vla_ros.control.trajectory import JointLimits, plan_trajectory

# Inverse kinematics that ends further than this from a target is reported as clipping.
UNREACHED_M = 0.005
UNREACHED_RAD = 0.05


class PathFollower:
    """Branches off what is committed, and follows targets within the limits.

    Args:
        kinematics: What is commanded: joints, or the tool itself.
        spacing_s: Time between two points.
    """

    def __init__(self, kinematics: Kinematics | ToolSpace, spacing_s: float) -> None:
        self._kinematics = kinematics
        self._spacing_s = spacing_s
        self._spacing_ns = round(spacing_s * 1e9)

    def follow(
        self,
        targets: Targets,
        due_ns: NDArray[np.int64],
        committed: TimedPoints,
        horizon_s: float,
        slower: int,
        limits: JointLimits,
    ) -> tuple[TimedPoints, tuple[str, ...]]:
        """Branch off the last committed point and follow the targets for the horizon.

        Args:
            targets: What is followed.
            due_ns: int64 (targets,), evenly spaced.
            committed: What stays as published.
            horizon_s: How long targets are followed, before the ramp to rest.
            slower: Factor on the time that the targets take from there on.
            limits: Of each joint.

        Returns:
            The whole trajectory, and a sentence about targets that the arm does not reach, if there are any.

        Raises:
            TrajectoryError: There is none within the limits.
        """
        branch_ns = int(committed.times_ns[-1])
        begin = max(int(np.searchsorted(due_ns, branch_ns, side="right")) - 1, 0)
        end = int(np.searchsorted(due_ns, branch_ns + round(horizon_s / slower * 1e9))) + 1
        step_s = slower * float(due_ns[1] - due_ns[0]) * 1e-9
        solution = targets.solve(slice(begin, end), self._kinematics, committed.positions[-1], limits, step_s)
        planned = plan_trajectory(
            solution.q,
            slower * (due_ns[begin:end] - branch_ns).astype(np.float64) * 1e-9,
            committed.motion(-1),
            0.0,
            horizon_s,
            self._spacing_s,
            limits,
        )
        position_m, rotation_rad = solution.position_error_m.max(), solution.rotation_error_rad.max()
        unreached: tuple[str, ...] = ()
        if position_m > UNREACHED_M or rotation_rad > UNREACHED_RAD:
            unreached = (f"targets out of reach, by up to {position_m:.3f} m and {rotation_rad:.3f} rad",)
        return committed.followed_by(planned, self._spacing_ns), unreached

    def warm_up(self, horizon_s: float, limits: JointLimits) -> None:
        """Plan to stand still, so that the first command does not pay for what libraries do on first use."""
        lower, upper = np.nan_to_num(limits.lower, neginf=0.0), np.nan_to_num(limits.upper, posinf=0.0)
        rest = TimedPoints.at_rest(TRANSPORT_NS, (lower + upper) / 2)
        pose = self._kinematics.forward(rest.positions[0])
        away = pose.copy()
        away[2, 3] -= 0.01
        self.follow(ToolTargets(np.stack([pose, away])), np.array([0, 10**9]), rest, horizon_s, 1, limits)

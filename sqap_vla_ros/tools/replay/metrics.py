"""Metrics of a planned motion: its distance from the recorded motion, or from the baseline's plan.

A metric is None where it is undefined: the truth ends before the horizon, the direction of a tool that stood still, a
gripper without commands. A final error is that of the last step of the horizon, never of the last known one.
"""

from dataclasses import dataclass

import numpy as np

from sqap_vla_ros.config.robot import ActionConvention, Robot
from sqap_vla_ros.control.gripper import wants_open
from sqap_vla_ros.control.jerk import mean_jerk
from sqap_vla_ros.core.action_chunk import ActionChunk
from sqap_vla_ros.core.token_selection import TokenSelection
from sqap_vla_ros.core.types import Array
from sqap_vla_ros.perception.conventions import integrate
from sqap_vla_ros.perception.transforms import vector_from_rotation

# A net motion shorter than this has no direction: the repeatability of good arms is a tenth of it.
STANDS_STILL_M = 1e-3


@dataclass(frozen=True)
class Motion:
    """Motion of a tool during one horizon, planned or real.

    Attributes:
        stamp_ns: Begin of the horizon; step k (from 0) ends (k + 1) time steps later.
        time_step_s: Time between two steps.
        T_base_tool: float64 (4, 4), the pose at `stamp_ns`, metres.
        poses: float64 (horizon, 4, 4), T_base_tool at the end of each step; NaN where it is unknown.
        gripper: float64 (horizon,), during each step: 1 open, 0 closed, NaN unknown.
    """

    stamp_ns: int
    time_step_s: float
    T_base_tool: Array
    poses: Array
    gripper: Array

    @property
    def path_m(self) -> Array:
        """Positions of the tool in the base frame at the end of each step, float64 (horizon, 3)."""
        return self.poses[:, :3, 3]

    @property
    def rotations_rad(self) -> Array:
        """Orientations in the base frame at the end of each step, rotation vectors, float64 (horizon, 3)."""
        turns = np.full((len(self.poses), 3), np.nan)
        for step in np.flatnonzero(np.isfinite(self.poses).all(axis=(1, 2))):
            turns[step] = vector_from_rotation(self.poses[step, :3, :3])
        return turns

    @property
    def from_start_m(self) -> Array:
        """Positions of the tool from `stamp_ns` on, float64 (horizon + 1, 3)."""
        return np.concatenate([self.T_base_tool[None, :3, 3], self.path_m])


@dataclass(frozen=True)
class Difference:
    """Differences between two motions from the same pose, symmetric in both; None where undefined.

    Attributes:
        mean_displacement_m: Mean distance of the positions over the steps that both know.
        final_displacement_m: Distance at the end of the horizon.
        rotation_rad: Angle between the orientations at the end of the horizon.
        direction_cosine: Cosine of the angle between the net motions over the horizon; None if either stood still.
        gripper_agreement: Share of the steps known in both, in which both grippers are open or both are closed.
    """

    mean_displacement_m: float | None
    final_displacement_m: float | None
    rotation_rad: float | None
    direction_cosine: float | None
    gripper_agreement: float | None


def planned_motion(chunk: ActionChunk, robot: Robot) -> Motion:
    """Integrate a chunk from the measured pose, before any limits, by the action convention of the robot."""
    return Motion(
        chunk.stamp_ns,
        chunk.time_step_s,
        chunk.T_base_tool,
        integrate(chunk.actions, chunk.T_base_tool, robot.action, robot.frames),
        gripper_states(chunk.actions[:, 6], robot.action),
    )


def gripper_states(values: Array, convention: ActionConvention) -> Array:
    """Convert gripper values to states, see `Motion.gripper`; a value that asks for no change keeps the state.

    Args:
        values: float64 (horizon,), gripper values of the actions.
        convention: What the values mean.
    """
    states, state = np.empty(len(values)), np.nan
    for step, value in enumerate(values):
        wanted = wants_open(float(value), convention)
        state = state if wanted is None else float(wanted)
        states[step] = state
    return states


def difference(a: Motion, b: Motion) -> Difference:
    """Measure the differences between two motions from the same pose with the same steps."""
    distances = np.linalg.norm(a.path_m - b.path_m, axis=1)
    known = np.isfinite(distances)
    whole = bool(known[-1])
    both = np.isfinite(a.gripper) & np.isfinite(b.gripper) & known
    return Difference(
        mean_displacement_m=float(distances[known].mean()) if known.any() else None,
        final_displacement_m=float(distances[-1]) if whole else None,
        rotation_rad=_angle(a.poses[-1], b.poses[-1]) if whole else None,
        direction_cosine=_cosine(a, b) if whole else None,
        gripper_agreement=float((a.gripper == b.gripper)[both].mean()) if both.any() else None,
    )


def planned_jerk(motion: Motion) -> float | None:
    """Mean jerk of the tool's position (m/s^3), see `mean_jerk`; None for fewer than three steps."""
    return mean_jerk(motion.from_start_m, motion.time_step_s) if len(motion.poses) >= 3 else None


def overlap_m(previous: Motion, motion: Motion) -> float | None:
    """Mean distance between two plans where both plan the same time; None where they do not.

    The earlier plan is interpolated on a line between its steps at the times of the later one's.
    """
    apart_s = (motion.stamp_ns - previous.stamp_ns) * 1e-9
    times_s = apart_s + motion.time_step_s * np.arange(1, len(motion.poses) + 1)
    planned_s = previous.time_step_s * np.arange(len(previous.poses) + 1)
    common = (times_s >= 0) & (times_s < planned_s[-1] + 1e-9)  # sums of time steps are not exact
    if not common.any():
        return None
    before = np.stack([np.interp(times_s[common], planned_s, axis) for axis in previous.from_start_m.T], axis=1)
    return float(np.linalg.norm(motion.path_m[common] - before, axis=1).mean())


def kept_overlap(kept: TokenSelection, baseline: TokenSelection) -> float:
    """Kept tokens in common: the share of the visual tokens that the baseline keeps which the policy keeps, too."""
    return len(np.intersect1d(kept.indices, baseline.indices)) / len(baseline.indices)


def _angle(T_a: Array, T_b: Array) -> float:
    return float(np.linalg.norm(vector_from_rotation(T_a[:3, :3].T @ T_b[:3, :3])))


def _cosine(a: Motion, b: Motion) -> float | None:
    net_a = a.path_m[-1] - a.T_base_tool[:3, 3]
    net_b = b.path_m[-1] - b.T_base_tool[:3, 3]
    length_a, length_b = np.linalg.norm(net_a), np.linalg.norm(net_b)
    if min(length_a, length_b) < STANDS_STILL_M:
        return None
    return float(np.clip(net_a @ net_b / (length_a * length_b), -1.0, 1.0))

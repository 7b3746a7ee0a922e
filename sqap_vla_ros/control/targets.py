"""What a trajectory follows: tool poses, which inverse kinematics turns into joints, or joint positions as they are."""

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from sqap_vla_ros.config.robot import Command, Limits, Robot
from sqap_vla_ros.control.ik import APPROACH_S, InverseKinematics
from sqap_vla_ros.control.kinematics import Kinematics
from sqap_vla_ros.control.safety import clipping
from sqap_vla_ros.control.tool_space import ToolSpace
from sqap_vla_ros.control.trajectory import JointLimits
from sqap_vla_ros.core.action_chunk import ActionSpace
from sqap_vla_ros.core.types import Array
from sqap_vla_ros.perception.conventions import integrate


class Targets(Protocol):
    """Targets in the order in which they are due."""

    def __len__(self) -> int: ...

    def poses(self, kinematics: Kinematics | ToolSpace) -> Array:
        """Where the tool is at each, T_base_tool, float64 (targets, 4, 4)."""

    def clipped(self, limits: Limits, joint_limits: JointLimits, inset_m: float) -> tuple["Targets", tuple[str, ...]]:
        """Those nearest within the bounds that a target can be clipped to, and what was clipped, a sentence each."""

    def solve(
        self, rows: slice, kinematics: Kinematics | ToolSpace, q0: Array, limits: JointLimits, dt: float
    ) -> InverseKinematics:
        """Joint positions of some of them in turn; arguments as of `Kinematics.inverse`."""


@dataclass(frozen=True)
class ToolTargets:
    """Tool poses.

    Attributes:
        T_base_tool: float64 (targets, 4, 4).
    """

    T_base_tool: Array

    def __len__(self) -> int:
        return len(self.T_base_tool)

    def poses(self, kinematics: Kinematics | ToolSpace) -> Array:
        """See `Targets`."""
        return self.T_base_tool

    def clipped(self, limits: Limits, joint_limits: JointLimits, inset_m: float) -> tuple[Targets, tuple[str, ...]]:
        """Into the workspace; see `Targets`."""
        inside, moved = clipping.clip_targets(self.T_base_tool, limits, inset_m)
        return ToolTargets(inside), moved

    def solve(
        self, rows: slice, kinematics: Kinematics | ToolSpace, q0: Array, limits: JointLimits, dt: float
    ) -> InverseKinematics:
        """See `Targets`."""
        return kinematics.inverse(self.T_base_tool[rows], q0, limits, dt)


@dataclass(frozen=True)
class JointTargets:
    """Joint positions; nothing solves for them, but the tool is where they bring it.

    Attributes:
        q: float64 (targets, joints) [rad or m].
    """

    q: Array

    def __len__(self) -> int:
        return len(self.q)

    def poses(self, kinematics: Kinematics | ToolSpace) -> Array:
        """See `Targets`."""
        return np.stack([kinematics.forward(row) for row in self.q])

    def clipped(self, limits: Limits, joint_limits: JointLimits, inset_m: float) -> tuple[Targets, tuple[str, ...]]:
        """Into the joints' position limits; see `Targets`."""
        inside = np.clip(self.q, joint_limits.lower, joint_limits.upper)
        inside[0] = self.q[0]  # where the arm is
        beyond = np.abs(inside - self.q).max(axis=1)
        if not beyond.any():
            return self, ()
        moved = f"{np.count_nonzero(beyond)} targets, up to {beyond.max():.3f} rad, into the joints' limits"
        return JointTargets(inside), (moved,)

    def solve(
        self, rows: slice, kinematics: Kinematics | ToolSpace, q0: Array, limits: JointLimits, dt: float
    ) -> InverseKinematics:
        """Each as near as the joints get from the one before; see `Targets`."""
        wanted, q = self.q[rows], np.array(q0, dtype=np.float64)
        travel, reached = limits.velocity * max(dt, APPROACH_S), np.empty_like(wanted)
        for row, target in enumerate(wanted):
            reached[row] = q = np.clip(target, q - travel, q + travel)
            travel = limits.velocity * dt
        left = np.abs(wanted - reached).max(axis=1)
        return InverseKinematics(reached, np.zeros(len(wanted)), left)


def targets_of(
    actions: Array, space: ActionSpace, T_base_tool: Array, start: Array, robot: Robot
) -> tuple[Targets, tuple[str, ...]]:
    """Targets that actions lead to, after where the arm is, and which actions were clipped, a sentence each.

    Args:
        actions: float64 (horizon, numbers).
        space: What they are.
        T_base_tool: float64 (4, 4), the pose that changes of the tool pose are added to.
        start: float64 (joints,), the positions that changes of joint positions are added to.
        robot: Frames, action convention, limits, command.
    """
    if space.of_joints:
        return joint_targets(actions, space, start, robot.command), ()
    actions, clipped = clipping.clip_actions(actions, robot.limits)
    poses = integrate(actions, T_base_tool, robot.action, robot.frames)
    return ToolTargets(np.concatenate([T_base_tool[None], poses])), clipped


def joint_targets(actions: Array, space: ActionSpace, start: Array, command: Command) -> JointTargets:
    """Targets of a chunk of joint positions, or of changes of them, after where the arm is.

    Args:
        actions: float64 (horizon, numbers).
        space: Which numbers are grippers; where the controller moves these as well, they are joints like the others.
        start: float64 (joints,), where the arm is at the chunk's stamp.
        command: Joints, and the gripper's positions when open and closed.
    """
    if command.moves_grippers:
        values = actions.copy()
        grippers = list(space.grippers)
        opening = command.gripper_open - command.gripper_closed
        values[:, grippers] = command.gripper_closed + opening * actions[:, grippers]
        absolute = np.isin(np.arange(space.size), grippers)
    else:
        values = actions[:, list(space.moving)]
        absolute = np.zeros(len(start), dtype=bool)
    if space.kind == "joint_deltas":
        values = np.where(absolute, values, start + np.cumsum(values, axis=0))
    return JointTargets(np.concatenate([start[None], values]))


def own_gripper(space: ActionSpace, command: Command) -> int | None:
    """The number of an action that is the gripper's, if the gripper is commanded on its own; else None."""
    are_joints = space.of_joints and command.moves_grippers
    return space.grippers[0] if len(space.grippers) == 1 and not are_joints else None

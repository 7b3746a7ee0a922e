"""An arm that stands still though plans arrive: nothing is wrong, and yet nothing happens."""

import numpy as np

from sqap_vla_ros.control.commands import Command
from sqap_vla_ros.core.action_chunk import ActionChunk
from sqap_vla_ros.core.rejection import Cause, Rejection, Response

# A command within which no joint (or coordinate of the tool) moves by more than this stands still [rad or m].
STILL = 1e-3
# A chunk whose actions add up to no more than this at any step [m, rad] does not move the tool.
STILL_M, STILL_RAD = 2e-3, 0.02
# It is reported after so many seconds and commands: a policy may wait for a moment, or for its gripper.
REPORTED_AFTER_S, REPORTED_AFTER = 5.0, 5


def moves_tool(chunk: ActionChunk) -> bool:
    """Whether a chunk's actions move the tool at all."""
    if chunk.space.of_joints:
        moving = chunk.actions[:, list(chunk.space.moving)]
        reached = moving - moving[0] if chunk.space.kind == "joint_positions" else np.cumsum(moving, axis=0)
        return bool(np.abs(reached).max() > STILL_RAD)
    reached = np.cumsum(chunk.actions[:, :6], axis=0)
    far, turned = np.linalg.norm(reached[:, :3], axis=1), np.linalg.norm(reached[:, 3:], axis=1)
    return bool(far.max() > STILL_M or turned.max() > STILL_RAD)


class Standstill:
    """Looks at each command, and says why the arm stands still."""

    def __init__(self) -> None:
        """Start with nothing seen."""
        self.forget()

    def forget(self) -> None:
        """Begin anew: another instruction, or another activation."""
        self._since_s: float | None = None
        self._commands = 0
        self._clipped = ""
        self._gripper_moved = False
        self._unreached_s: float | None = None
        self._now_s = 0.0

    def look(self, now_s: float, chunk: ActionChunk, command: Command, gripper_reached: bool) -> None:
        """Take note of a command.

        Args:
            now_s: Steady time.
            chunk: That it follows.
            command: As it is sent, or would be in a dry run.
            gripper_reached: Whether the gripper's controller was there; True where it was not asked to move.
        """
        self._now_s = now_s
        if gripper_reached:
            self._unreached_s = None
            self._gripper_moved = self._gripper_moved or command.gripper is not None
        elif self._unreached_s is None:
            self._unreached_s = now_s
        positions = command.trajectory.positions
        if np.abs(positions - positions[0]).max() > STILL:
            self._since_s, self._commands = None, 0
            return
        if self._since_s is None:
            self._since_s, self._gripper_moved = now_s, False
        self._commands += 1
        self._clipped = "; ".join(command.clipped) if moves_tool(chunk) else ""

    @property
    def reason(self) -> Rejection | None:
        """Why the arm, or its gripper, stands still; None when it does not."""
        still_s = 0.0 if self._since_s is None else self._now_s - self._since_s
        if still_s >= REPORTED_AFTER_S and self._commands >= REPORTED_AFTER:
            why = "all that they ask for is clipped" if self._clipped else "they ask for no motion"
            gripper = "" if self._gripper_moved else ", and the gripper was not told to move"
            sentence = f"for {still_s:.0f} s the {self._commands} plans have not moved the tool: {why}{gripper}"
            return Rejection(
                Cause.PLANS_STAND_STILL, Response.DROP, f"{sentence} ({self._clipped})" if self._clipped else sentence
            )
        if self._unreached_s is not None and self._now_s - self._unreached_s >= REPORTED_AFTER_S:
            return Rejection(
                Cause.GRIPPER_UNREACHED,
                Response.DROP,
                f"for {self._now_s - self._unreached_s:.0f} s nothing has taken the gripper's commands: is its "
                "controller active under topics.gripper_command?",
            )
        return None

"""What goes into a command, and what comes out: measured joints, the command, and a command that is not sent yet."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from sqap_vla_ros.control.trajectory import Trajectory
from sqap_vla_ros.core.rejection import RejectedError, Rejection
from sqap_vla_ros.core.types import Array


@dataclass(frozen=True)
class JointState:
    """Measured joints, in the order of `command.joints`.

    Attributes:
        positions: float64 (joints,) [rad or m].
        velocities: float64 (joints,); zeros where the robot reports none.
        stamp_ns: When they were measured, ROS clock.
        pace: float64 (joints,), velocities that follow from the positions, whatever the robot reports; None: not known.
    """

    positions: Array
    velocities: Array
    stamp_ns: int
    pace: Array | None = None

    @classmethod
    def following(cls, last: "JointState | None", positions: Array, stamp_ns: int) -> "JointState":
        """A state whose velocities are not measured but follow from these positions and the last; zero without them."""
        velocities = np.zeros_like(positions)
        if last is not None and 0 < stamp_ns - last.stamp_ns < 10**9:
            velocities = (positions - last.positions) / ((stamp_ns - last.stamp_ns) * 1e-9)
            return cls(positions, velocities, stamp_ns, velocities)
        return cls(positions, velocities, stamp_ns)


@dataclass(frozen=True)
class Command:
    """What is sent to the arm's controllers.

    Attributes:
        trajectory: Of the arm's joints; positions and velocities are published.
        start_ns: The header's stamp, which `time_from_start` counts from; it may lie in the past.
        branch_ns: When it leaves the active trajectory, if the controller's speed stays as it is; it must have reached
            the controller by then.
        gripper: Position of the gripper's joint [m or rad], or None when it stays.
        clipped: What was clipped, a sentence each.
        stops: Whether it brings the arm to rest, instead of following a plan.
    """

    trajectory: Trajectory
    start_ns: int
    branch_ns: int
    gripper: float | None
    clipped: tuple[str, ...]
    stops: bool = False


Send = Callable[[Command], bool]
"""Sends a command; returns whether the gripper got its part. Raises `RejectedError` when nothing was sent."""


class PreparedCommand:
    """A command that has passed all checks but has not been sent; it counts only once it is sent through this object.

    Args:
        command: The command.
        admit: Raises `RejectedError` when it is too late for it at a time (ROS clock, ns), and `ValueError` when it
            was not the last one prepared.
        commit: Takes note that it was sent, and whether the gripper got its part.
        is_due: Whether it is time for it.

    Attributes:
        is_due: Whether it is time for it: a controller whose speed is scaled down is not sent one with each plan.
        gripper_reached: Whether the gripper got its part; True while there is none, or it was not sent.
    """

    def __init__(
        self, command: Command, admit: Callable[[int], None], commit: Callable[[bool], None], is_due: bool = True
    ) -> None:
        self.command = command
        self.is_due = is_due
        self.gripper_reached = True
        self._admit = admit
        self._commit = commit

    def publish_through(self, send: Send, now_ns: int) -> Rejection | None:
        """Send the command if it can still join the active trajectory; from then on it is what the arm does.

        Args:
            send: Called at most once.
            now_ns: ROS clock. The next command allows for the time that has passed since this one was asked for.

        Returns:
            Why it was not sent; None: it was.

        Raises:
            ValueError: Another command was prepared since, or this one was sent already: it would not join what the arm
                does.
        """
        try:
            self._admit(now_ns)
            self.gripper_reached = send(self.command)
        except RejectedError as rejected:
            return rejected.rejection
        self._commit(self.gripper_reached)
        return None

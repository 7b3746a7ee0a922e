"""How a command joins what the controller is doing, at full speed and while its speed is scaled.

At full speed a message repeats the active trajectory from the point before now up to the branch: whenever it arrives,
the controller goes on as before. While the speed is scaled that would be wrong, because the controller sets its time to
the clock when it takes a message. Then the message begins at the branch, and the controller gets there by a cubic from
the position and velocity that it wanted last, wherever that was.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import TypeVar

from sqap_vla_ros.control.active_trajectory import TimedPoints
from sqap_vla_ros.control.commands import Command
from sqap_vla_ros.control.controller_time import ControllerTime
from sqap_vla_ros.control.latency import LeadEstimate
from sqap_vla_ros.control.trajectory import JointLimits, TrajectoryError

# The cubic takes at least this long, in the controller's time. What the controller's time and the one assumed here
# differ by when a message arrives is made up for on the way [ns].
SPLICE_NS = 150_000_000
# Such a cubic accelerates harder than the path that it stands for, up to 5/3 as hard; and in the cycle in which the
# controller takes a message it goes on by up to two cycles, with twice the change of velocity. So much is planned with;
# a stop may be joined while the arm brakes, and its speed be raised meanwhile.
SHARE_OF_VELOCITY, SHARE_OF_ACCELERATION, SHARE_OF_BRAKING = 0.45, 0.2, 0.3
# So much of the controller's time passes from one command to the next at least: at a tenth of the speed, many commands
# would move the arm more by their joins than it goes in between [ns].
SPACED_BY_NS = 100_000_000
# Below full speed a trajectory covers less of its own time in the same time of the clock, but this at least [s].
SHORTEST_HORIZON_S = 0.1

Planned = TypeVar("Planned")


class Splicing:
    """Lead, limits and horizon that a trajectory is planned with, and what is sent of it.

    Args:
        time: Of the controller.
        lead: Measured.
        limits: Of each joint.
        spacing_ns: Time between two points.
    """

    def __init__(self, time: ControllerTime, lead: LeadEstimate, limits: JointLimits, spacing_ns: int) -> None:
        self._time = time
        self._lead = lead
        self._spacing_ns = spacing_ns
        self._whole_limits = limits
        self._share_of_limits = replace(
            limits,
            velocity=SHARE_OF_VELOCITY * limits.velocity,
            acceleration=SHARE_OF_ACCELERATION * limits.acceleration,
        )

        self._braking_limits = replace(limits, acceleration=SHARE_OF_BRAKING * limits.acceleration)

    @property
    def splice_ns(self) -> int:
        """How long the controller has, before the branch, for getting there from wherever it is."""
        return SPLICE_NS if self._time.splices else 0

    @property
    def lead_ns(self) -> int:
        """From now to the branch, at least."""
        return self._lead.lead_ns + self.splice_ns

    @property
    def spaced_by_ns(self) -> int:
        """How much of the controller's time passes from one command to the next, at least."""
        return SPACED_BY_NS if self._time.is_scaled else 0

    @property
    def limits(self) -> JointLimits:
        """Limits that leave what the splice needs."""
        return self._share_of_limits if self._time.splices else self._whole_limits

    def within_limits(self, plan: Callable[[JointLimits], Planned], stops: bool = False) -> Planned:
        """Plan with the limits that leave what the splice needs; from a motion that is faster already, with all.

        Args:
            plan: Plans with limits.
            stops: Whether it plans a stop: nothing is joined while the arm brakes, but its speed may be raised then.

        Raises:
            TrajectoryError: There is no trajectory within the limits.
        """
        if not self._time.splices:
            return plan(self._whole_limits)
        try:
            return plan(self._braking_limits if stops else self.limits)
        except TrajectoryError:
            return plan(self._whole_limits)

    def horizon_s(self, full_speed_s: float) -> float:
        """How long targets are followed, in the controller's time: as long on the clock at any speed."""
        return max(full_speed_s * min(self._time.factor, 1.0), min(full_speed_s, SHORTEST_HORIZON_S))

    def command(
        self,
        points: TimedPoints,
        committed: int,
        now_ns: int,
        gripper: float | None,
        clipped: tuple[str, ...],
        stops: bool = False,
    ) -> Command:
        """What is sent of a trajectory, stamped for the moment when the controller takes it.

        Args:
            points: In the controller's time.
            committed: How many of them go up to the branch.
            now_ns: ROS clock.
            gripper: See `Command`, as the rest.
            clipped: Likewise.
            stops: Likewise.
        """
        branch_ns = int(points.times_ns[committed - 1])
        taken_ns = now_ns + self._lead.lead_ns // 2  # about when the controller takes the message
        behind_ns = self._time.difference_ns(taken_ns)
        sent = points.part(slice(committed - 1, None)) if self._time.splices else points
        start_ns = int(sent.times_ns[0]) - self._spacing_ns  # the first `time_from_start` must not be 0
        stamp_ns = start_ns + behind_ns
        if self._time.replaces:  # a stamp that is past counts as the moment when the message is taken
            start_ns, stamp_ns = self._time.at(taken_ns), now_ns
        return Command(sent.from_start(start_ns), stamp_ns, branch_ns + behind_ns, gripper, clipped, stops)

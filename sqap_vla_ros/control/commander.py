"""Turns an action chunk into a command: integrated, clipped, timed, checked, and joined to what the arm is doing.

The state between ticks is the trajectory published last (`ActiveTrajectory`). A new one branches off it at a point a
little ahead, where position, velocity and acceleration are known exactly; the points up to there are published again,
from the point before now on. A joint_trajectory_controller therefore replaces the old trajectory by one that is the
same for the next moments, whatever it interpolates from when a message arrives, and however late that is within the
lead.

A chunk's poses are scheduled at times counted from its observation's stamp, so a delay shifts nothing: poses of the
past are dropped.

All of it happens in the time of the arm's controller (`control.controller_time`), which passes more slowly than the
clock while its speed is scaled down; `control.splicing` says what is sent then.
"""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from sqap_vla_ros.config.robot import Robot
from sqap_vla_ros.control.active_trajectory import ActiveTrajectory, TimedPoints, going_on
from sqap_vla_ros.control.blending import Followed, TimedPoses, average, continuation, ensemble
from sqap_vla_ros.control.commands import Command, JointState, PreparedCommand
from sqap_vla_ros.control.controller_time import ControllerTime
from sqap_vla_ros.control.gripper import Gripper
from sqap_vla_ros.control.kinematics import Kinematics, joint_limits
from sqap_vla_ros.control.latency import DelayEstimate, LeadEstimate
from sqap_vla_ros.control.path_follower import PathFollower
from sqap_vla_ros.control.safety import checks, clipping
from sqap_vla_ros.control.safety.following import Pace
from sqap_vla_ros.control.splicing import Splicing
from sqap_vla_ros.control.targets import Targets, ToolTargets, own_gripper, targets_of
from sqap_vla_ros.control.tool_space import ToolSpace
from sqap_vla_ros.control.trajectory import TrajectoryError, stop_trajectory
from sqap_vla_ros.core.action_chunk import ActionChunk, CommittedActions
from sqap_vla_ros.core.clock import CLOCK_BACK_NS, JumpDetector
from sqap_vla_ros.core.rejection import Cause, RejectedError, Rejection, Response
from sqap_vla_ros.core.types import Array

# A trajectory that swings out of the workspace is planned again, slower by these factors and with targets further
# inside: slowly, the joints follow the targets as closely as inverse kinematics does.
SLOWER = (1, 2, 4)


@dataclass(frozen=True)
class _Pending:
    """A command that was prepared and may be sent.

    Attributes:
        command: The command.
        points: Of its trajectory, from now on, in the controller's time.
        branch_ns: When it leaves the active trajectory, in the controller's time.
        followed: What it follows; None when it stops the arm.
    """

    command: Command
    points: TimedPoints
    branch_ns: int
    followed: Followed | None


class Commander:
    """Turns chunks into commands; one for as long as the robot model stays the same."""

    def __init__(self, robot: Robot, kinematics: Kinematics | ToolSpace, time: ControllerTime | None = None) -> None:
        """Start with nothing published.

        Args:
            robot: Frames, action convention, limits, freshness, command.
            kinematics: What is commanded: joints (of `robot.command.joints`, between `robot.frames.base` and
                `robot.frames.tool`), or the tool itself.
            time: Of the arm's controller; None: its speed is never scaled.
        """
        self._robot = robot
        self._kinematics = kinematics
        self._time = time or ControllerTime()
        moves_tool = isinstance(kinematics, ToolSpace)
        self._limits = kinematics.limits if isinstance(kinematics, ToolSpace) else joint_limits(robot, kinematics)
        self._spacing_ns = round(robot.command.point_spacing * 1e9)
        self._follower = PathFollower(kinematics, robot.command.point_spacing)
        self._gripper = Gripper(robot.action, robot.command)
        self._delay = DelayEstimate()
        self._lead = LeadEstimate()
        self._splicing = Splicing(self._time, self._lead, self._limits, self._spacing_ns)
        self._active = ActiveTrajectory()
        self._pace = None if moves_tool else Pace(self._limits.velocity)  # Servo may slow the tool down by itself
        self._pending: _Pending | None = None
        self._followed: Followed | None = None
        self._asked_ns = self._sent_ns = 0
        self._clock = JumpDetector(CLOCK_BACK_NS)
        self._follower.warm_up(self._horizon_s, self._limits)

    def prepare(
        self, chunk: ActionChunk, now_ns: int, joint_state: JointState, moved_by_others: bool = False
    ) -> PreparedCommand | Rejection:
        """Compute and check the command for a chunk.

        Args:
            chunk: Planned from an observation at `chunk.stamp_ns`.
            now_ns: ROS clock.
            joint_state: Measured last.
            moved_by_others: Whether nothing is sent (a dry run, a bag that is played): the command is computed as if
                what the arm does now were this node's doing.

        Returns:
            The command, which counts only when it is published through; or why there is none. After a rejection the
            arm goes on with the active trajectory to its end, at rest.
        """
        self._watch_clock(now_ns)
        try:
            checks.check_chunk(chunk)
            checks.check_action_space(chunk.space, self._robot.command)
            checks.check_joint_state(joint_state.positions, joint_state.velocities, self._kinematics.joints)
            self._delay.add(chunk.stamp_ns, now_ns)
            checks.check_freshness(
                (now_ns - chunk.stamp_ns) * 1e-9, (now_ns - joint_state.stamp_ns) * 1e-9, self._robot.freshness
            )
            self._lead.received(now_ns - joint_state.stamp_ns)
            self._pending = self._follow_chunk(
                replace(chunk, stamp_ns=self._time.at(chunk.stamp_ns)),
                self._time.at(now_ns),
                replace(joint_state, stamp_ns=self._time.at(joint_state.stamp_ns)),
                moved_by_others,
            )
        except RejectedError as rejected:
            return rejected.rejection
        except TrajectoryError as error:
            return Rejection(Cause.NO_MOTION_WITHIN_LIMITS, Response.DROP, str(error))
        return self._prepared(self._pending)

    def continuation(self, stamp_ns: int, T_base_tool: Array) -> CommittedActions | None:
        """What the next chunk is to go on from; None unless real-time chunking is chosen and a chunk is being followed.

        Args:
            stamp_ns: Of the observation that the next chunk is planned on.
            T_base_tool: float64 (4, 4), the tool pose at that moment.
        """
        robot, delay_s, stamp_ns = self._robot, self._delay.delay_s, self._time.at(stamp_ns)
        if robot.command.blending != "real_time" or delay_s is None or self._followed is None:
            return None
        takes_over_s = delay_s * self._time.factor + self._splicing.lead_ns * 1e-9
        if not self._active.is_active(stamp_ns + round(takes_over_s * 1e9)):
            return None
        running, _ = self._followed.plans[-1]
        return continuation(running, stamp_ns, T_base_tool, takes_over_s, robot.action, robot.frames)

    def prepare_stop(self, now_ns: int) -> PreparedCommand | None:
        """Compute the ramp that brings the arm to rest as soon as the limits allow; None when it rests already.

        Raises:
            TrajectoryError: There is no ramp within the limits; the arm goes on to the end of its trajectory, at rest.
        """
        self._watch_clock(now_ns)
        self._interrupt()
        now_ns = self._time.at(now_ns)
        if not self._active.is_active(now_ns):
            return None
        committed = self._active.branch(now_ns, self._splicing.lead_ns)
        start, spacing_s = committed.motion(-1), self._robot.command.point_spacing
        ramp = self._splicing.within_limits(lambda limits: stop_trajectory(start, spacing_s, limits), stops=True)
        points = committed.followed_by(ramp, self._spacing_ns)
        command = self._splicing.command(points, len(committed.times_ns), self._asked_ns, None, (), stops=True)
        checks.check_finite(command.trajectory)
        self._pending = _Pending(command, points, int(committed.times_ns[-1]), None)
        return self._prepared(self._pending)

    def _prepared(self, pending: _Pending) -> PreparedCommand:
        def admit(now_ns: int) -> None:
            if self._pending is not pending:
                raise ValueError(
                    "only the last command can be sent, and once: another would not join what the arm does"
                )
            self._lead.computed(max(now_ns - self._asked_ns, 0))
            left_ns = pending.branch_ns - self._splicing.splice_ns - self._time.at(now_ns)
            checks.check_in_time(left_ns * 1e-9, self._lead.transport_ns * 1e-9)

        def commit(gripper_reached: bool) -> None:
            self._active.replace(pending.points)
            self._sent_ns = self._time.at(self._asked_ns)
            self._followed, self._pending = pending.followed, None
            if pending.command.gripper is not None and gripper_reached:
                self._gripper.sent(pending.command.gripper)

        passed_ns = self._time.at(self._asked_ns) - self._sent_ns
        is_due = pending.command.stops or not 0 <= passed_ns < self._splicing.spaced_by_ns
        return PreparedCommand(pending.command, admit, commit, is_due)

    def is_moving(self, now_ns: int) -> bool:
        """Whether the trajectory published last has not ended yet."""
        return self._active.is_active(self._time.at(now_ns))

    def forget(self) -> None:
        """Start from rest again: what was published is void (the controller was restarted, the clock was set)."""
        self._active.forget()
        self._time.forget()
        self._pending = None
        self.reset()

    def reset(self) -> None:
        """Begin anew (instruction, episode): no previous target, and the gripper's position is sent again.

        What the arm is doing is kept; the next trajectory still branches off it.
        """
        self._interrupt()
        self._gripper.reset()

    def _interrupt(self) -> None:
        """What comes next does not continue what was followed."""
        self._followed = None
        self._delay.interrupt()
        if self._pace is not None:
            self._pace.forget()

    def _follow_chunk(
        self, chunk: ActionChunk, now_ns: int, joint_state: JointState, moved_by_others: bool
    ) -> _Pending:
        """Everything in the controller's time: the chunk's stamp, now, and the joints' stamp."""
        robot, limits = self._robot, self._robot.limits
        T_base_tool = self._kinematics.forward(joint_state.positions)
        if self._active.is_active(now_ns) and not moved_by_others:
            self._check_following(joint_state, T_base_tool)

        before = () if self._followed is None else self._followed.overlapping(chunk)
        blends = robot.command.blending
        actions = ensemble([*(old for old, _ in before), chunk]) if blends == "ensemble" else chunk.actions
        start = self._active.desired(chunk.stamp_ns)[0] if self._active.is_active(now_ns) else joint_state.positions
        path, clipped = targets_of(actions, chunk.space, self._anchor(chunk, now_ns), start, robot)
        poses = path.poses(self._kinematics)
        due_ns = chunk.stamp_ns + round(chunk.time_step_s * 1e9) * np.arange(len(poses))
        plans = (*before, (chunk, TimedPoses(due_ns, poses)))
        if blends == "temporal" and before:
            path = ToolTargets(average([timed for _, timed in plans]))
        first = checks.first_due(due_ns, now_ns)

        if moved_by_others:  # since the image, they may have moved it elsewhere
            committed = going_on(joint_state, now_ns + self._splicing.lead_ns, self._limits)
            T_base_tool = chunk.T_base_tool
        else:
            names = self._kinematics.joints
            committed = self._active.start(now_ns, self._splicing.lead_ns, joint_state, self._splicing.limits, names)
        inset_m = clipping.WORKSPACE_INSET_M
        for slower in SLOWER:
            targets, moved = path.clipped(limits, self._limits, inset_m)
            target_poses = targets.poses(self._kinematics)
            checks.check_first_target(target_poses[first], T_base_tool, limits)
            points, unreached = self._follow(targets, due_ns, committed, slower)
            tool_m = self._kinematics.tool_positions(points.positions)
            excess_m = clipping.workspace_excess(tool_m, limits)
            if excess_m == 0:
                break
            inset_m += 1.5 * excess_m
        trajectory = points.from_start(int(points.times_ns[0]) - self._spacing_ns)
        checks.check_trajectory(trajectory, tool_m, self._limits, limits)

        number = own_gripper(chunk.space, robot.command)
        gripper = None if number is None else self._gripper.command(float(actions[first - 1, number]))
        slowed = (f"speed, to 1/{slower}, to stay in the workspace",) if slower > 1 else ()
        branch_ns = int(committed.times_ns[-1])
        clips = clipped + moved + unreached + slowed
        command = self._splicing.command(points, len(committed.times_ns), self._asked_ns, gripper, clips)
        followed = TimedPoses(branch_ns + slower * (due_ns - branch_ns), target_poses)
        return _Pending(command, points, branch_ns, Followed(followed, plans))

    def _follow(
        self, targets: Targets, due_ns: NDArray[np.int64], committed: TimedPoints, slower: int
    ) -> tuple[TimedPoints, tuple[str, ...]]:
        return self._splicing.within_limits(
            lambda limits: self._follower.follow(targets, due_ns, committed, self._horizon_s, slower, limits)
        )

    def _check_following(self, joint_state: JointState, T_base_tool: Array) -> None:
        """The arm is where the active trajectory has it, and goes as fast."""
        positions, velocities = self._active.desired(joint_state.stamp_ns)
        checks.check_following(self._kinematics.forward(positions), T_base_tool, self._robot.limits)
        if self._pace is None:
            return
        if self._time.splices:
            self._pace.check_positions(self._asked_ns, positions, joint_state.positions)
        elif joint_state.pace is not None:
            self._pace.check(self._asked_ns, velocities, joint_state.pace)

    @property
    def _horizon_s(self) -> float:
        return self._splicing.horizon_s(self._robot.command.horizon or self._delay.horizon_s)

    def _anchor(self, chunk: ActionChunk, now_ns: int) -> Array:
        """The pose that the first delta is added to, float64 (4, 4)."""
        is_measured = self._robot.action.anchor == "measured"
        if is_measured or self._followed is None or not self._active.is_active(now_ns):
            return chunk.T_base_tool
        return self._followed.targets.at(np.array([chunk.stamp_ns]))[0]

    def _watch_clock(self, now_ns: int) -> None:
        """A clock that was set back (a bag, a simulation) makes all remembered times meaningless."""
        if self._clock.jump_ns(now_ns):
            self.forget()
        self._asked_ns = now_ns

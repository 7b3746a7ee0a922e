"""From an action chunk to a command: integrated, clipped, timed, checked, and joined to what the arm is doing.

The state between ticks is the trajectory published last. A new one branches off it at a point a little ahead, where
position, velocity and acceleration are known exactly; the way to that point is published again, from the point before
now on. A joint_trajectory_controller therefore replaces the old trajectory by one that is the same for the next
moments, whatever it interpolates from when a message arrives, and however late that is within the lead.

A chunk's poses are due at times counted from its observation's stamp, so a delay shifts nothing: what is past is
dropped.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sqap_vla_ros.config.robot import Robot
from sqap_vla_ros.control.blending import BLENDED_CHUNKS, TimedPoses, average, continuation, ensemble
from sqap_vla_ros.control.delays import TRANSPORT_NS, DelayEstimate, LeadEstimate
from sqap_vla_ros.control.gripper import Gripper
from sqap_vla_ros.control.kinematics import Kinematics
from sqap_vla_ros.control.running import TimedPoints
from sqap_vla_ros.control.safety import checks
from sqap_vla_ros.control.tool_space import ToolSpace
from sqap_vla_ros.control.trajectory import JointLimits, Trajectory, TrajectoryError, plan_trajectory, stop_trajectory
from sqap_vla_ros.core.action_chunk import ActionChunk, CommittedActions
from sqap_vla_ros.core.clock import CLOCK_BACK_NS, JumpDetector
from sqap_vla_ros.core.rejection import Cause, RejectedError, Rejection, Response
from sqap_vla_ros.core.types import Array
from sqap_vla_ros.perception.conventions import integrate

# The least lead of a start from rest, where the controller may hold a position slightly beside the measured one.
START_LEAD_NS = 100_000_000
# After a trajectory's end the controller is taken to hold its last point, if the joints are still this near [rad or m].
HOLDING = 0.05
# An arm that moves faster than this share of its velocity limits without a trajectory of ours is not ours to move.
MOVING = 0.05
# Inverse kinematics that ends further than this from a target is reported as clipping.
UNREACHED_M = 0.005
UNREACHED_RAD = 0.05
# A trajectory that swings out of the workspace is planned again, slower by these factors and with targets further
# inside: slowly, the joints follow the targets as closely as inverse kinematics does.
SLOWER = (1, 2, 4)


@dataclass(frozen=True)
class JointState:
    """Measured joints, in the order of `command.joints`.

    Attributes:
        positions: float64 (joints,) [rad or m].
        velocities: float64 (joints,); zeros where the robot reports none.
        stamp_ns: When they were measured, ROS clock.
    """

    positions: Array
    velocities: Array
    stamp_ns: int

    @classmethod
    def following(cls, last: "JointState | None", positions: Array, stamp_ns: int) -> "JointState":
        """Where velocities are not measured: from these positions and the last; zero without recent ones."""
        velocities = np.zeros_like(positions)
        if last is not None and 0 < stamp_ns - last.stamp_ns < 10**9:
            velocities = (positions - last.positions) / ((stamp_ns - last.stamp_ns) * 1e-9)
        return cls(positions, velocities, stamp_ns)


@dataclass(frozen=True)
class Command:
    """What to publish.

    Attributes:
        trajectory: Of the arm's joints; publish positions and velocities.
        start_ns: The header's stamp, which `time_from_start` counts from; it may lie in the past.
        branch_ns: When it leaves what the arm does without it; it must have reached the controller by then.
        gripper: Position of the gripper's joint [m or rad], or None when it stays.
        clipped: What was clipped, in words; empty: nothing.
        stops: Whether it brings the arm to rest, instead of following a plan.
    """

    trajectory: Trajectory
    start_ns: int
    branch_ns: int
    gripper: float | None
    clipped: tuple[str, ...]
    stops: bool = False


@dataclass(frozen=True)
class _Followed:
    """What the published trajectory follows.

    Attributes:
        targets: Of the tool.
        plans: Chunks that led to the targets with the poses that each leads to, oldest first.
    """

    targets: TimedPoses
    plans: tuple[tuple[ActionChunk, TimedPoses], ...]


class Commander:
    """Turns chunks into commands; one for as long as the robot model stays the same."""

    def __init__(self, robot: Robot, kinematics: Kinematics | ToolSpace) -> None:
        """Start with nothing published.

        Args:
            robot: Frames, action convention, limits, freshness, command.
            kinematics: What is commanded: joints (of `robot.command.joints`, between `robot.frames.base` and
                `robot.frames.tool`), or the tool itself.
        """
        self._robot = robot
        self._kinematics = kinematics
        self._limits = kinematics.limits if isinstance(kinematics, ToolSpace) else _joint_limits(robot, kinematics)
        self._spacing_ns = round(robot.command.point_spacing * 1e9)
        self._gripper = Gripper(robot.action, robot.command)
        self._delay = DelayEstimate()
        self._lead = LeadEstimate()
        self._published: TimedPoints | None = None
        self._pending: tuple[Command, TimedPoints, _Followed | None] | None = None
        self._followed: _Followed | None = None
        self._last_now_ns = 0
        self._clock = JumpDetector(CLOCK_BACK_NS)
        self._rehearse()

    def command(self, chunk: ActionChunk, now_ns: int, joint_state: JointState) -> Command | Rejection:
        """The command for a chunk.

        Args:
            chunk: Planned from an observation at `chunk.stamp_ns`.
            now_ns: ROS clock.
            joint_state: Measured last.

        Returns:
            The command, which counts once `published` is told of it; or why there is none. After a refusal the arm
            goes on with the last trajectory to its end, at rest.
        """
        self._watch_clock(now_ns)
        try:
            return self._command(chunk, now_ns, joint_state)
        except RejectedError as rejected:
            return rejected.rejection
        except TrajectoryError as error:
            return Rejection(Cause.NO_MOTION_WITHIN_LIMITS, Response.DROP, str(error))

    def continuation(self, stamp_ns: int, T_base_tool: Array) -> CommittedActions | None:
        """What the next chunk is to go on from; None unless real-time chunking is chosen and a chunk is being followed.

        Args:
            stamp_ns: Of the observation that the next chunk is planned on.
            T_base_tool: float64 (4, 4), the tool pose at that moment.
        """
        robot, delay_s = self._robot, self._delay.delay_s
        if robot.command.blending != "real_time" or delay_s is None or self._followed is None:
            return None
        takes_over_s = delay_s + self._lead.lead_ns * 1e-9
        if not self._runs(stamp_ns + round(takes_over_s * 1e9)):
            return None
        running, _ = self._followed.plans[-1]
        return continuation(running, stamp_ns, T_base_tool, takes_over_s, robot.action, robot.frames)

    def stop(self, now_ns: int) -> Command | None:
        """Bring the arm to rest as soon as the limits allow; None when it is, as far as this knows.

        Raises:
            TrajectoryError: There is no ramp within the limits; the arm goes on to the end of its trajectory, at rest.
        """
        self._watch_clock(now_ns)
        self._followed = None
        self._delay.interrupt()
        if not self._runs(now_ns):
            return None
        assert self._published is not None
        committed = self._branch(now_ns, self._published.positions[-1], self._lead.lead_ns)
        ramp = stop_trajectory(committed.motion(-1), self._robot.command.point_spacing, self._limits)
        points = committed.followed_by(ramp, self._spacing_ns)
        stamp_ns, branch_ns = self._stamp_ns(points), int(committed.times_ns[-1])
        command = Command(points.from_start(stamp_ns), stamp_ns, branch_ns, None, (), stops=True)
        checks.check_finite(command.trajectory)
        self._pending = command, points, None
        return command

    def late(self, command: Command, now_ns: int) -> Rejection | None:
        """Why a command may not be published any more; None: it may.

        Args:
            command: The last one that `command` or `stop` gave.
            now_ns: ROS clock. The next command will allow for the time that this one took.
        """
        self._lead.computed(max(now_ns - self._last_now_ns, 0))
        try:
            checks.check_in_time((command.branch_ns - now_ns) * 1e-9, self._lead.transport_ns * 1e-9)
        except RejectedError as rejected:
            return rejected.rejection
        return None

    def published(self, command: Command, *, gripper_reached: bool = True) -> None:
        """Tell that a command has been published: from now on it is what the arm does.

        Args:
            command: The last one that `command` or `stop` gave.
            gripper_reached: Whether the gripper could be told; if not, it is told again with the next command.
        """
        if self._pending is None or self._pending[0] is not command:
            raise ValueError("only the last command can be published; an older one would not join what the arm does")
        _, self._published, self._followed = self._pending
        self._pending = None
        if command.gripper is not None and gripper_reached:
            self._gripper.sent(command.gripper)

    def forget(self) -> None:
        """What was published is void (the controller was restarted, the clock was set): start from rest again."""
        self._published = self._pending = None
        self.reset()

    def reset(self) -> None:
        """Begin anew (instruction, episode): no previous target, and the gripper is told again.

        What the arm is doing is kept; the next trajectory still branches off it.
        """
        self._followed = None
        self._gripper.reset()
        self._delay.interrupt()

    def _command(self, chunk: ActionChunk, now_ns: int, joint_state: JointState) -> Command:
        robot, limits = self._robot, self._robot.limits
        checks.check_chunk(chunk)
        checks.check_joint_state(joint_state.positions, joint_state.velocities, self._kinematics.joints)
        self._delay.add(chunk.stamp_ns, now_ns)
        checks.check_freshness(
            (now_ns - chunk.stamp_ns) * 1e-9, (now_ns - joint_state.stamp_ns) * 1e-9, robot.freshness
        )
        self._lead.heard(now_ns - joint_state.stamp_ns)
        T_base_tool = self._kinematics.forward(joint_state.positions)
        if self._runs(now_ns):
            assert self._published is not None
            desired = self._kinematics.forward(self._published.desired(joint_state.stamp_ns))
            checks.check_following(desired, T_base_tool, limits)

        before = self._overlapping(chunk)
        blends = robot.command.blending
        mixed = ensemble([*(old for old, _ in before), chunk]) if blends == "ensemble" else chunk.actions
        actions, clipped = checks.clip_actions(mixed, limits)
        anchor = self._anchor(chunk, now_ns)
        poses = np.concatenate([anchor[None], integrate(actions, anchor, robot.action, robot.frames)])
        due_ns = chunk.stamp_ns + round(chunk.time_step_s * 1e9) * np.arange(len(poses))
        plans = (*before, (chunk, TimedPoses(due_ns, poses)))
        if blends == "temporal" and before:
            poses = average([path for _, path in plans])
        first = max(1, int(np.searchsorted(due_ns, now_ns, side="right")))
        if first == len(poses):
            late_s = (now_ns - due_ns[-1]) * 1e-9
            raise RejectedError(
                Cause.CHUNK_OUTDATED,
                Response.DROP,
                f"all poses of the chunk lie in the past; the last was scheduled {late_s:.3f} s ago",
            )

        committed = self._start(now_ns, joint_state)
        inset_m = checks.WORKSPACE_INSET_M
        for slower in SLOWER:
            targets, moved = checks.clip_targets(poses, limits, inset_m)
            checks.check_first_target(targets[first], T_base_tool, limits)
            points, unreached = self._follow(targets, due_ns, committed, slower)
            tool_m = self._kinematics.tool_positions(points.positions)
            excess_m = checks.workspace_excess(tool_m, limits)
            if excess_m == 0:
                break
            inset_m += 1.5 * excess_m
        trajectory = points.from_start(self._stamp_ns(points))
        checks.check_trajectory(trajectory, tool_m, self._limits, limits)

        gripper = self._gripper.command(float(actions[first - 1, 6]))
        slowed = (f"speed, to 1/{slower}, to stay in the workspace",) if slower > 1 else ()
        branch_ns = int(committed.times_ns[-1])
        words = clipped + moved + unreached + slowed
        command = Command(trajectory, self._stamp_ns(points), branch_ns, gripper, words)
        followed = TimedPoses(branch_ns + slower * (due_ns - branch_ns), targets)
        self._pending = command, points, _Followed(followed, plans)
        return command

    def _follow(
        self, targets: Array, due_ns: NDArray[np.int64], committed: TimedPoints, slower: int
    ) -> tuple[TimedPoints, tuple[str, ...]]:
        """Branch off the last committed point and follow the targets for the horizon.

        Args:
            targets: float64 (poses, 4, 4), T_base_tool.
            due_ns: int64 (poses,), evenly spaced.
            committed: What stays as published.
            slower: Factor on the time that the targets take from there on.

        Returns:
            The whole trajectory, and in words which targets the arm does not reach.
        """
        horizon_s = self._robot.command.horizon or self._delay.horizon_s
        branch_ns = int(committed.times_ns[-1])
        begin = max(int(np.searchsorted(due_ns, branch_ns, side="right")) - 1, 0)
        end = int(np.searchsorted(due_ns, branch_ns + round(horizon_s / slower * 1e9))) + 1
        step_s = slower * float(due_ns[1] - due_ns[0]) * 1e-9
        solution = self._kinematics.inverse(targets[begin:end], committed.positions[-1], self._limits, step_s)
        planned = plan_trajectory(
            solution.q,
            slower * (due_ns[begin:end] - branch_ns).astype(np.float64) * 1e-9,
            committed.motion(-1),
            0.0,
            horizon_s,
            self._robot.command.point_spacing,
            self._limits,
        )
        position_m, rotation_rad = solution.position_error_m.max(), solution.rotation_error_rad.max()
        unreached: tuple[str, ...] = ()
        if position_m > UNREACHED_M or rotation_rad > UNREACHED_RAD:
            unreached = (f"targets out of reach, by up to {position_m:.3f} m and {rotation_rad:.3f} rad",)
        return committed.followed_by(planned, self._spacing_ns), unreached

    def _anchor(self, chunk: ActionChunk, now_ns: int) -> Array:
        """The pose that the first delta is added to, float64 (4, 4)."""
        if self._robot.action.anchor == "measured" or self._followed is None or not self._runs(now_ns):
            return chunk.T_base_tool
        return self._followed.targets.at(np.array([chunk.stamp_ns]))[0]

    def _overlapping(self, chunk: ActionChunk) -> tuple[tuple[ActionChunk, TimedPoses], ...]:
        """Of the chunks that led to the running trajectory, those that reach into this one."""
        before = () if self._followed is None else self._followed.plans[1 - BLENDED_CHUNKS :]
        return tuple((old, path) for old, path in before if old.stamp_ns < chunk.stamp_ns < path.due_ns[-1])

    def _start(self, now_ns: int, joint_state: JointState) -> TimedPoints:
        """The points to publish again, and the last of them to branch off.

        Raises:
            RejectedError: Nothing of ours runs, and yet the arm moves.
        """
        if self._runs(now_ns):
            assert self._published is not None
            return self._branch(now_ns, self._published.positions[-1], self._lead.lead_ns)
        if self._published is not None:
            held = self._published.positions[-1]
            gap = np.abs(joint_state.positions - held)
            if gap.max() <= HOLDING:
                return self._branch(now_ns, held, max(START_LEAD_NS, self._lead.lead_ns, self._closing_ns(gap)))
        speed = np.abs(joint_state.velocities) / self._limits.velocity
        if speed.max() > MOVING:
            joint = int(speed.argmax())
            raise RejectedError(
                Cause.ALREADY_MOVING,
                Response.DROP,
                f"joint {self._kinematics.joints[joint]} moves at {joint_state.velocities[joint]:.3f} rad/s and "
                "no trajectory of this node is active; wait until the arm rests",
            )
        return self._branch(now_ns, joint_state.positions, max(START_LEAD_NS, self._lead.lead_ns))

    def _closing_ns(self, gap: Array) -> int:
        """How long a cubic from rest to rest takes across a gap float64 (joints,), within the limits.

        A controller that was halted and started again holds the measured position instead, and goes that way.
        """
        fastest, hardest = 1.5 * gap / self._limits.velocity, np.sqrt(6 * gap / self._limits.acceleration)
        return round(float(max(fastest.max(), hardest.max())) * 1e9)

    def _branch(self, now_ns: int, rest: Array, lead_ns: int) -> TimedPoints:
        """What remains of the published points up to the lead; past their end, and a point at rest there."""
        at_rest = TimedPoints.at_rest(now_ns + lead_ns, rest)
        if not self._runs(now_ns):
            return at_rest
        assert self._published is not None
        times_ns = self._published.times_ns
        previous = max(int(np.searchsorted(times_ns, now_ns, side="right")) - 1, 0)
        branch = int(np.searchsorted(times_ns, now_ns + lead_ns))
        remaining = self._published.part(slice(previous, branch + 1))
        return remaining if branch < len(times_ns) else remaining.then(at_rest)

    def _stamp_ns(self, points: TimedPoints) -> int:
        """One spacing before the first point, whose `time_from_start` must not be 0."""
        return int(points.times_ns[0]) - self._spacing_ns

    def _runs(self, now_ns: int) -> bool:
        return self._published is not None and now_ns < self._published.times_ns[-1]

    def _rehearse(self) -> None:
        """Plan to stand still, so that the first command does not pay for what libraries do on first use."""
        lower, upper = np.nan_to_num(self._limits.lower, neginf=0.0), np.nan_to_num(self._limits.upper, posinf=0.0)
        rest = self._branch(0, (lower + upper) / 2, TRANSPORT_NS)
        pose = self._kinematics.forward(rest.positions[0])
        away = pose.copy()
        away[2, 3] -= 0.01
        self._follow(np.stack([pose, away]), np.array([0, 10**9]), rest, 1)

    def _watch_clock(self, now_ns: int) -> None:
        """A clock that was set back (a bag, a simulation) makes all remembered times meaningless."""
        if self._clock.jump_ns(now_ns):
            self.forget()
        self._last_now_ns = now_ns


def _joint_limits(robot: Robot, kinematics: Kinematics) -> JointLimits:
    """Of the settings, one value for all joints or one each; positions, and slower velocities, of the robot model."""
    shape = len(robot.command.joints)
    velocity, acceleration, jerk = (
        np.broadcast_to(np.array(values, dtype=np.float64), shape)
        for values in (robot.limits.joint_velocity, robot.limits.joint_acceleration, robot.limits.joint_jerk)
    )
    return JointLimits(
        kinematics.lower, kinematics.upper, np.minimum(velocity, kinematics.velocity), acceleration, jerk
    )

"""What is sent to the arm, as data; one kind per robot (`command.output` in its settings).

joint_trajectory  each command as a whole. To stop: a trajectory that ramps to rest replaces the active one. Silence,
                  or a dead node: the controller goes on to the trajectory's end, at rest.
servo_twist       the tool's velocity, one per point spacing, for MoveIt Servo. To stop: the ramp, then zeros for a
                  while, then silence. A dead node: Servo halts after its `incoming_command_timeout`.
servo_pose        the tool's pose likewise. To stop: the ramp, its last pose for a while, then silence.
cartesian_pose    the same for a controller that never finds a pose too old. A dead node: the arm stops where the
                  last pose was, as hard as the controller does.
"""

from collections import deque
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from scipy.interpolate import CubicHermiteSpline

from sqap_vla_ros.config.robot import Robot
from sqap_vla_ros.control.commands import Command
from sqap_vla_ros.control.tool_space import ToolSpace, angular_velocity
from sqap_vla_ros.core.types import Array

# After a trajectory's end its last state is sent for so long, so that a lost message does not leave the arm moving [s].
AT_REST_S = 0.3
# Velocities add up to a place only roughly: an error is corrected with this rate [1/s].
CORRECTION_PER_S = 2.0
# The error is one of a moment ago, when the tool may still have followed an earlier command: so many are remembered.
FOLLOWED = 4
# After a silence of this length the consumer has halted the arm by itself [s].
HALTED_S = 0.1
# Coordinates of the tool that are the same up to rounding [m, rad].
ROUNDING = 1e-9


@dataclass(frozen=True)
class ToolPose:
    """The tool is to be at this pose now: T_base_tool float64 (4, 4)."""

    stamp_ns: int
    T_base_tool: Array


@dataclass(frozen=True)
class ToolTwist:
    """The tool is to move with this velocity now: linear [m/s] and angular [rad/s], float64 (3,) each, in base axes."""

    stamp_ns: int
    linear: Array
    angular: Array


Message = Command | ToolPose | ToolTwist


class Output(Protocol):
    """Between the commander and the publisher."""

    streams: bool
    """Whether `due` must be called once per point spacing."""

    def follow(self, command: Command) -> Message | None:
        """Take over a command; returns what must be published at once."""
        ...

    def due(self, now_ns: int, measured: tuple[int, Array] | None) -> Message | None:
        """What is to be published now.

        Args:
            now_ns: ROS clock.
            measured: Stamp and T_base_tool float64 (4, 4) of the last known tool pose.
        """

    def clock_set(self, by_ns: int) -> None:
        """Go on in the new time: the ROS clock was set by so much."""


class WholeTrajectories:
    """Publishes each command as a whole."""

    streams = False

    def follow(self, command: Command) -> Message | None:
        """Returns the command."""
        return command

    def due(self, now_ns: int, measured: tuple[int, Array] | None) -> Message | None:
        """Returns None: there is nothing to stream."""
        return None

    def clock_set(self, by_ns: int) -> None:
        """Does nothing: what was published is the controller's."""


class ToolStream:
    """A command's trajectory of the tool, sampled as time goes on.

    Args:
        space: In which commands are planned.
        twists: Velocities instead of poses.
    """

    streams = True

    def __init__(self, space: ToolSpace, twists: bool) -> None:
        self._space = space
        self._twists = twists
        self._followed: deque[_Sampled] = deque(maxlen=FOLLOWED)  # the newest last
        self._sent_ns = 0
        self._sent_velocity: Array = np.zeros(6)
        self._sent_pose: Array | None = None

    def follow(self, command: Command) -> Message | None:
        """Follow another command from now on; nothing at once."""
        self._followed.append(_Sampled(command))
        return None

    def due(self, now_ns: int, measured: tuple[int, Array] | None) -> Message | None:
        """See `Output.due`; returns None without a command, and from `AT_REST_S` after its end on."""
        if not self._followed or now_ns > self._followed[-1].end_ns + AT_REST_S * 1e9:
            self._followed.clear()
            self._sent_pose = None
            return None
        trajectory = self._followed[-1]
        position, velocity = trajectory.at(now_ns)
        if not self._twists:
            return ToolPose(now_ns, self._reachable(position, now_ns))
        # A stop goes nowhere: an arm that is blocked must not be pushed on while it is brought to rest.
        if measured is not None and now_ns <= trajectory.end_ns and not trajectory.stops:
            velocity = self._corrected(velocity, *measured)
        velocity = self._accelerated(velocity, now_ns)
        return ToolTwist(now_ns, velocity[:3], angular_velocity(position[3:], velocity[3:]))

    def clock_set(self, by_ns: int) -> None:
        """Go on in the new time."""
        self._sent_ns += by_ns
        for trajectory in self._followed:
            trajectory.delay(by_ns)

    def _corrected(self, velocity: Array, stamp_ns: int, T_base_tool: Array) -> Array:
        """The velocity float64 (6,) with a share against what the tool was off at a moment, within the limits."""
        at_the_time = [trajectory for trajectory in self._followed if trajectory.first_ns <= stamp_ns]
        if not at_the_time:
            return velocity
        wanted, _ = at_the_time[-1].at(stamp_ns)
        correction = CORRECTION_PER_S * (wanted - self._space.coordinates(T_base_tool, wanted))
        largest = self._space.limits.velocity
        return np.clip(velocity + correction, -largest, largest)

    def _reachable(self, position: Array, now_ns: int) -> Array:
        """The pose float64 (4, 4) nearest to what is due, within the velocity limits from the last one sent.

        The planned motion keeps them by itself; but after a silence, or a small step of the clock, a far pose is due.
        """
        if self._sent_pose is not None:
            before = self._space.coordinates(self._sent_pose, position)
            passed_s = min(max((now_ns - self._sent_ns) * 1e-9, 0.0), HALTED_S)
            change = self._space.limits.velocity * passed_s + ROUNDING
            position = np.clip(position, before - change, before + change)
        self._sent_ns, self._sent_pose = now_ns, self._space.forward(position)
        return self._sent_pose

    def _accelerated(self, velocity: Array, now_ns: int) -> Array:
        """The velocity float64 (6,) nearest to what is wanted, within the acceleration limits from the last one sent.

        The planned motion keeps them by itself; its correction follows a measured pose, which may jump.
        """
        passed_s = (now_ns - self._sent_ns) * 1e-9
        before = self._sent_velocity
        if passed_s > HALTED_S:
            passed_s, before = 0.0, np.zeros(6)
        change = self._space.limits.acceleration * max(passed_s, 0.0)
        self._sent_ns, self._sent_velocity = now_ns, np.clip(velocity, before - change, before + change)
        return self._sent_velocity


class _Sampled:
    """A command's trajectory as a function of time; before its start and after its end it stands still."""

    def __init__(self, command: Command) -> None:
        times_s, trajectory = command.trajectory.time_from_start, command.trajectory
        self._start_ns = command.start_ns
        self._first_s, self._last_s = float(times_s[0]), float(times_s[-1])
        self._position = CubicHermiteSpline(times_s, trajectory.positions, trajectory.velocities)
        self._velocity = self._position.derivative()
        self.first_ns = command.start_ns + round(self._first_s * 1e9)
        self.end_ns = command.start_ns + round(self._last_s * 1e9)
        self.stops = command.stops

    def delay(self, by_ns: int) -> None:
        """Shift everything by so much."""
        self._start_ns += by_ns
        self.first_ns += by_ns
        self.end_ns += by_ns

    def at(self, stamp_ns: int) -> tuple[Array, Array]:
        """Position and velocity, float64 (6,) each."""
        time_s = (stamp_ns - self._start_ns) * 1e-9
        inside_s = min(max(time_s, self._first_s), self._last_s)
        position: Array = self._position(inside_s)
        return position, self._velocity(inside_s) if time_s == inside_s else np.zeros_like(position)


def output_of(robot: Robot, space: ToolSpace | None) -> Output:
    """Build the output that the robot's settings name.

    Args:
        robot: The settings.
        space: In which the commander plans; None when it plans joints.
    """
    if space is None:
        return WholeTrajectories()
    return ToolStream(space, twists=robot.command.output == "servo_twist")

"""An arm whose controller follows the commander, on clocks that the test drives."""

from collections import deque
from dataclasses import dataclass, field
from types import SimpleNamespace

import numpy as np
from control_robots import PANDA_HOME, PANDA_JOINTS

from sqap_vla_ros.config.robot import Command as CommandSettings
from sqap_vla_ros.config.robot import Frames, Limits, Robot, Topics
from sqap_vla_ros.control.commander import Commander
from sqap_vla_ros.control.commands import Command, JointState, PreparedCommand
from sqap_vla_ros.control.kinematics import Kinematics
from sqap_vla_ros.control.trajectory import JointLimits
from sqap_vla_ros.core.action_chunk import ActionChunk
from sqap_vla_ros.core.rejection import Rejection
from sqap_vla_ros.core.token_selection import keep_all
from sqap_vla_ros.simulation.joint_trajectory_controller import JointTrajectoryController

MS = 10**6
EPOCH_NS = 1_700_000_000 * 10**9  # a clock as on a robot: float64 seconds are coarse there
LIMITS = Limits(workspace_min=(0.2, -0.4, 0.05), workspace_max=(0.75, 0.4, 0.7))
STEP_S = 0.2


def settings(**fields: object) -> Robot:
    command = command_settings()
    frames, topics = Frames(base="base", tool="right_hand"), Topics(gripper_command="/gripper")
    return Robot(**{"frames": frames, "topics": topics, "limits": LIMITS, "command": command, **fields})


def command_settings(**fields: object) -> CommandSettings:
    return CommandSettings(**{"joints": PANDA_JOINTS, "gripper_joint": "finger", **fields})


def steady(translation: tuple[float, float, float] = (0, 0, 0), gripper: float = 1.0) -> np.ndarray:
    return np.tile([*translation, 0, 0, 0, gripper], (16, 1))


@dataclass
class Arm:
    """An arm that does exactly what its controller wants."""

    kinematics: Kinematics
    robot: Robot
    now_ns: int = EPOCH_NS
    messages: deque[tuple[int, SimpleNamespace]] = field(default_factory=deque)
    path: list[np.ndarray] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.commander = Commander(self.robot, self.kinematics)
        each = np.ones(7)
        limits = self.robot.limits
        self.bounds = JointLimits(
            self.kinematics.lower,
            self.kinematics.upper,
            limits.joint_velocity[0] * each,
            limits.joint_acceleration[0] * each,
            limits.joint_jerk[0] * each,
        )
        self.controller = JointTrajectoryController(PANDA_JOINTS, PANDA_HOME, self.bounds)
        self.state = self.controller.desired(self.now_ns * 1e-9)

    @property
    def joint_state(self) -> JointState:
        return JointState(self.state[0], self.state[1], self.now_ns)

    @property
    def T_base_tool(self) -> np.ndarray:
        return self.kinematics.forward(self.state[0])

    def chunk(self, actions: np.ndarray) -> ActionChunk:
        return ActionChunk(self.now_ns, actions, STEP_S, self.T_base_tool, "pick", 0, keep_all())

    def prepare(self, chunk: ActionChunk, joint_state: JointState | None = None) -> PreparedCommand | Rejection:
        return self.commander.prepare(chunk, self.now_ns, joint_state or self.joint_state)

    def command(self, chunk: ActionChunk, transport_ns: int = 2 * MS) -> Command | Rejection:
        answer = self.prepare(chunk)
        if isinstance(answer, Rejection):
            return answer
        if answer.is_due:
            self.publish(answer, transport_ns)
        return answer.command

    def publish(self, prepared: PreparedCommand, transport_ns: int = 2 * MS) -> None:
        """Send a command at the moment when it was asked for."""

        def send(command: Command) -> bool:
            self.transmit(command, transport_ns)
            return True

        assert prepared.publish_through(send, self.now_ns) is None

    def transmit(self, command: Command, transport_ns: int = 2 * MS) -> None:
        points = [
            SimpleNamespace(
                time_from_start=time_message(round(t * 1e9)), positions=q, velocities=v, accelerations=[], effort=[]
            )
            for t, q, v in zip(
                command.trajectory.time_from_start,
                command.trajectory.positions,
                command.trajectory.velocities,
                strict=True,
            )
        ]
        header = SimpleNamespace(stamp=time_message(command.start_ns))
        message = SimpleNamespace(header=header, joint_names=PANDA_JOINTS, points=points)
        self.messages.append((self.now_ns + transport_ns, message))

    def run(self, seconds: float) -> None:
        """Let the controller run at 500 Hz."""
        end_ns = self.now_ns + round(seconds * 1e9)
        while self.now_ns < end_ns:
            self.now_ns += 2 * MS
            while self.messages and self.messages[0][0] <= self.now_ns:
                assert self.controller.accept(self.messages.popleft()[1], self.now_ns * 1e-9) is None
            self.state = self.controller.desired(self.now_ns * 1e-9)
            self.path.append(self.state[0])

    @property
    def travel(self) -> float:
        return float(np.abs(np.diff(self.path, axis=0)).sum())

    @property
    def rests(self) -> bool:
        return not self.state[1].any() and not self.state[2].any()


def time_message(nanoseconds: int) -> SimpleNamespace:
    return SimpleNamespace(sec=nanoseconds // 10**9, nanosec=nanoseconds % 10**9)

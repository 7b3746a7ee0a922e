"""A control loop whose time, inputs, policy and controller are driven by hand: no ROS, no process, no sleeping.

The loop, its gate, commander and supervisor are the real ones. The arm is where the active trajectory has it, unless it
is blocked.
"""

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
from control_robots import CHAIN_JOINTS, chain_urdf

from sqap_vla_ros.config.robot import Command as CommandSettings
from sqap_vla_ros.config.robot import Configuration, Frames, Freshness, Limits, Topics
from sqap_vla_ros.control.commands import Command, JointState
from sqap_vla_ros.control.kinematics import Kinematics
from sqap_vla_ros.control.safety.states import MotionState
from sqap_vla_ros.control.tool_space import ToolSpace
from sqap_vla_ros.core.action_chunk import ActionChunk, CommittedActions
from sqap_vla_ros.core.observation import Observation
from sqap_vla_ros.core.policy import ONE_CAMERA
from sqap_vla_ros.core.rejection import Cause, Rejection, Response
from sqap_vla_ros.core.token_selection import keep_all
from sqap_vla_ros.ros.control_loop import ControlLoop
from sqap_vla_ros.ros.latest_inputs import LatestInputs
from sqap_vla_ros.ros.policy_messages import Planned, Report
from sqap_vla_ros.ros.policy_runner import PolicyRunner

S, MS = 10**9, 10**6
BEGIN_NS = 1_700_000_000 * S
PERIOD_S = 0.05
HOME = np.array([0.3, 0.5, 0.8, -0.4, 0.7, 0.2])
KINEMATICS = Kinematics(chain_urdf(), CHAIN_JOINTS, "base", "tool0")
NO_CONTROLLER = Rejection(Cause.NO_CONTROLLER, Response.HOLD, "nothing listens")


class HandClock:
    """Two clocks that are set by hand; `computing_ns` passes with each reading of the steady one."""

    def __init__(self) -> None:
        self.ros_ns, self.steady = BEGIN_NS, S
        self.computing_ns = 0

    def pass_time(self, seconds: float) -> None:
        self.ros_ns += round(seconds * S)
        self.steady += round(seconds * S)

    def now_ns(self) -> int:
        return self.ros_ns

    def steady_ns(self) -> int:
        self.steady += self.computing_ns
        return self.steady

    def sleep(self, seconds: float) -> None:
        """A simulated clock stands still while the node sleeps."""
        self.steady += round(seconds * S)


class HandDrivenPolicy:
    """The policy's process as the runner sees it; answers when it is told to."""

    def __init__(self, on_report: Callable[[Report], None]) -> None:
        self.report = on_report
        self.heartbeat_age_s = 0.0
        self.asked: tuple[int, Observation] | None = None
        self.is_killed = False
        self._tickets = 0

    def submit(self, observation: Observation, committed: CommittedActions | None = None) -> int:
        self._tickets += 1
        self.asked = self._tickets, observation
        return self._tickets

    def reset(self) -> None:
        pass

    def close(self) -> None:
        pass

    def kill(self) -> None:
        self.is_killed = True


class HandDrivenOutput:
    """Collects what would be published."""

    def __init__(self) -> None:
        self.commands: list[Command] = []
        self.has_gripper = True
        self.chunks: list[ActionChunk] = []
        self.no_controller: Rejection | None = None
        self.has_lost_listener = False
        self.controller = "/arm_controller"
        self.replaces_trajectories = False

    def publish_command(self, command: Command) -> bool:
        self.commands.append(command)
        return self.has_gripper or command.gripper is None

    def stream(self, now_ns: int, measured: object) -> bool:
        return False

    def clock_set(self, by_ns: int) -> None:
        pass

    def publish_plan(self, chunk: ActionChunk, inputs: LatestInputs, generation: int) -> None:
        self.chunks.append(chunk)

    def lost_listener(self) -> bool:
        lost, self.has_lost_listener = self.has_lost_listener, False
        return lost


def _log(lines: list[str]) -> Any:
    def write(text: str, **_: object) -> bool:
        lines.append(text)
        return True

    return SimpleNamespace(info=write, warning=write, error=write)


def message(stamp_ns: int, **fields: object) -> SimpleNamespace:
    stamp = SimpleNamespace(sec=stamp_ns // S, nanosec=stamp_ns % S)
    return SimpleNamespace(header=SimpleNamespace(stamp=stamp, frame_id="camera"), **fields)


class HandDrivenLoop:
    """A configured loop with a robot model, inputs that arrive at 20 Hz and a plan at each of them.

    Args:
        settings: Of the configuration, over those of the chain of six joints.

    Attributes:
        needs: What the policy needs.
        sends: Which inputs arrive, of "image", "transforms", "joint states", "enable".
        image: How the images differ from the usual ones.
        image_ahead_s: How far the images' stamps are ahead of the clock.
        speed: Share of the commanded speed that the arm has.
        reported_scaling: The controller's speed scaling; None: nobody reports it.
        answers: What the policy does with each observation; None: it keeps planning.
    """

    needs = ONE_CAMERA

    def __init__(self, **settings: Any) -> None:
        self.configuration = Configuration(
            **{
                "instruction": "pick up the can",
                "dry_run": False,
                "frames": Frames(base="base", tool="tool0", camera="camera"),
                "limits": Limits(workspace_min=(-2, -2, -2), workspace_max=(2, 2, 2), tool_to_target=0.03),
                "freshness": Freshness(image=0.5, transform=0.2, joint_states=0.2, frozen_motion=0.02),
                "command": CommandSettings(joints=CHAIN_JOINTS, horizon=1.0, gripper_joint="finger"),
                "topics": Topics(enable="/enable", gripper_command="/gripper"),
                "plan_timeout": 1.0,
                "restart_policy": False,
                **settings,
            }
        )
        self.clock, self.output, self.log = HandClock(), HandDrivenOutput(), list[str]()
        self.policy: HandDrivenPolicy
        self.runner = PolicyRunner(self._start, lambda: None, self.clock, self.configuration.plan_timeout)
        space = ToolSpace(self.configuration.limits) if self.configuration.command.moves_tool else None
        self.loop = ControlLoop(
            self.configuration, space, self.runner, self.output, self.clock, _log(self.log), self.needs
        )
        self.supervisor = self.loop.supervisor
        self.supervisor.set_robot_description(chain_urdf())
        self.sends = {"image", "transforms", "joint states", "enable"}
        self.image: dict[str, object] = {}
        self.image_ahead_s = 0.0
        self.is_blocked = self.is_camera_frozen = False
        self.speed = 1.0
        self.reported_scaling: float | None = None
        self.answers: Callable[[Observation], ActionChunk | str | None] = self.chunk
        self._q, self._pixel = HOME.copy(), 0

    def _start(self, on_report: Callable[[Report], None]) -> HandDrivenPolicy:
        self.policy = HandDrivenPolicy(on_report)
        return self.policy

    # What the world does

    def chunk(self, observation: Observation, **changes: Any) -> ActionChunk:
        """The tool goes steadily to one side."""
        fields = {
            "stamp_ns": observation.stamp_ns,
            "T_base_tool": observation.T_base_tool,
            "time_step_s": 0.2,
        } | changes
        actions = fields.pop("actions", np.tile([0.0, 0.02, 0, 0, 0, 0, 1.0], (16, 1)))
        selection = keep_all()
        return ActionChunk(actions=actions, instruction=observation.instruction, seed=0, selection=selection, **fields)

    def pass_time(self, seconds: float) -> None:
        """Let time pass in steps of 50 ms: inputs arrive, the policy answers, the supervisor watches."""
        for _ in range(round(seconds / PERIOD_S)):
            self.clock.pass_time(PERIOD_S)
            self._move()
            self._send_inputs()
            self.supervisor.watch()
            self.loop.begin_tick()
            self.answer()

    def answer(self) -> None:
        """Let the policy answer what it was asked."""
        if self.policy.asked is None:
            return
        ticket, observation = self.policy.asked
        answer = self.answers(observation)
        if answer is None:
            return
        self.policy.asked = None
        chunk, error = (None, answer) if isinstance(answer, str) else (answer, "")
        steady_ns = self.clock.steady_ns()
        self.policy.report(Planned(ticket, chunk, error, steady_ns, steady_ns))
        self.loop.handle_reports()

    def _move(self) -> None:
        if self.is_blocked or not self.output.commands:
            return
        command = self.output.commands[-1]
        times_s, passed_s = command.trajectory.time_from_start, (self.clock.ros_ns - command.start_ns) * 1e-9
        wanted = np.array([np.interp(passed_s, times_s, column) for column in command.trajectory.positions.T])
        self._q = self._q + self.speed * (wanted - self._q)

    def _send_inputs(self) -> None:
        now_ns, inputs = self.clock.ros_ns, self.loop.inputs
        if "enable" in self.sends:
            self.supervisor.gate.enable(True)
        if self.reported_scaling is not None:
            inputs.take_speed_scaling(self.reported_scaling, True)
        if "joint states" in self.sends:
            inputs.take_joint_state(JointState.following(inputs.joint_state, self._q, now_ns))
        if "transforms" in self.sends:
            T = KINEMATICS.forward(self._q)
            self._send_transform("tool0", T, now_ns)
            self._send_transform("camera", np.eye(4), now_ns)
        if "image" in self.sends:
            self._pixel += not self.is_camera_frozen
            data = np.full((8, 8, 3), self._pixel % 256, np.uint8)
            fields = {
                "height": 8,
                "width": 8,
                "encoding": "rgb8",
                "is_bigendian": 0,
                "step": 24,
                "data": data.tobytes(),
            }
            stamp_ns = now_ns + round(self.image_ahead_s * S)
            inputs.offer_image(message(stamp_ns, **(fields | self.image)))

    def _send_transform(self, child: str, T: np.ndarray, now_ns: int) -> None:
        from sqap_vla_ros.perception.transforms import quaternion_from_matrix

        x, y, z, w = quaternion_from_matrix(T)
        transform = SimpleNamespace(
            translation=SimpleNamespace(x=T[0, 3], y=T[1, 3], z=T[2, 3]),
            rotation=SimpleNamespace(x=x, y=y, z=z, w=w),
        )
        stamped = message(now_ns, child_frame_id=child, transform=transform)
        stamped.header.frame_id = "base"
        self.loop.inputs.add_transforms(SimpleNamespace(transforms=[stamped]), static=False)

    # What came of it

    @property
    def state(self) -> MotionState:
        return self.supervisor.state()[0]

    @property
    def cause(self) -> str:
        """Why the arm does not move; while it may, why the last command was rejected."""
        why = self.supervisor.state()[1] or self.loop.inputs.statistics.last_rejection
        return "" if why is None else why.cause

    @property
    def is_held(self) -> bool:
        """Whether the last command was the ramp to rest."""
        return bool(self.output.commands) and self.output.commands[-1].stops

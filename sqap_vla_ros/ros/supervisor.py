# Copyright 2026 The sqap_vla maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""
Asks the motion gate many times a second, and brings the arm to rest when it may not move.

The supervisor decides what follows from a cause: whether the arm is held until the cause is gone, or stopped until
somebody resumes; whether the policy's process is started again; and what is void after the clock was set. It sends
nothing by itself but the ramp to rest.
"""

from typing import Protocol

from sqap_vla_ros.config.robot import Configuration
from sqap_vla_ros.control.commander import Commander
from sqap_vla_ros.control.kinematics import Kinematics
from sqap_vla_ros.control.model_agreement import disagreement
from sqap_vla_ros.control.model_limits import velocity_doubts
from sqap_vla_ros.control.robot_model import urdf_text
from sqap_vla_ros.control.safety.gate import GateInputs, MotionGate
from sqap_vla_ros.control.safety.standstill import Standstill
from sqap_vla_ros.control.safety.states import MotionState
from sqap_vla_ros.control.tool_space import ToolSpace
from sqap_vla_ros.core.clock import CLOCK_BACK_NS, Clock, JumpDetector
from sqap_vla_ros.core.errors import in_one_line
from sqap_vla_ros.core.rejection import Cause, Rejection, Response
from sqap_vla_ros.ros.command_sender import ArmOutput, CommandSender
from sqap_vla_ros.ros.defects import Log
from sqap_vla_ros.ros.latest_inputs import LatestInputs
from sqap_vla_ros.ros.policy_runner import PolicyRunner


class SupervisedOutput(ArmOutput, Protocol):
    """The part of `Publishers` that the supervisor needs."""

    def lost_listener(self) -> bool:
        """Whether the arm's controller has gone since the last call, or was started again."""

    @property
    def no_controller(self) -> Rejection | None:
        """Why commands reach no controller; None when they do."""

    @property
    def controller(self) -> str:
        """Name of the node that takes the arm's commands; empty: none does."""

    @property
    def replaces_trajectories(self) -> bool:
        """Whether the arm's controller keeps an old trajectory up to the stamp of a new one."""


class Supervisor:
    """
    Keeps an arm at rest that may not move.

    :param configuration: The node's settings.
    :param tool_space: Where the tool itself is commanded; None where joints are.
    :param inputs: The newest messages.
    :param policy: The loaded policy.
    :param output: Where commands go.
    :param clock: ROS and steady time.
    :param log: For people.

    :ivar gate: Answers whether the arm may move.
    :ivar sender: Sends commands; has the commander.
    :ivar standstill: Looks at the commands, for an arm that stands still although it may move.
    :ivar unreachable: Which publishers do not reach the node, for the status.
    """

    def __init__(
        self,
        configuration: Configuration,
        tool_space: ToolSpace | None,
        inputs: LatestInputs,
        policy: PolicyRunner,
        output: SupervisedOutput,
        clock: Clock,
        log: Log,
    ) -> None:
        self.gate = MotionGate(configuration, lambda: clock.steady_ns() * 1e-9)
        self.sender = CommandSender(output, clock, log, configuration.command.point_spacing)
        self.standstill = Standstill()
        self.unreachable = ""
        self._configuration = configuration
        self._inputs = inputs
        self._policy = policy
        self._output = output
        self._clock = clock
        self._log = log
        self._jumps = JumpDetector(CLOCK_BACK_NS)
        self._is_active = False
        self._is_dry_run = configuration.dry_run
        self._generation = 0
        self._robot_description = ""
        self._no_robot_model = _hold(Cause.NO_ROBOT_MODEL, "no robot model yet: waiting for the robot description")
        self._controller: Rejection | None = None
        self._kinematics: Kinematics | None = None
        if tool_space is not None:
            self.sender.commander = Commander(configuration, tool_space)
        elif configuration.command.robot_model:
            self.sender.commander = self._commander_of(configuration.command.robot_model)

    @property
    def is_active(self) -> bool:
        """Whether the node is active."""
        return self._is_active

    @property
    def is_dry_run(self) -> bool:
        """Whether plans are made and nothing is commanded."""
        return self._is_dry_run

    @property
    def controller(self) -> str:
        """Name of the node that takes the arm's commands; empty: none does, or nobody has looked yet."""
        return self._output.controller

    @property
    def generation(self) -> int:
        """Return the number of the instruction, activation and clock that plans are made for now."""
        return self._generation

    def watch(self) -> None:
        """Bring the arm to rest if it may not move; call often."""
        if not self._is_active:
            return
        self.watch_clock()
        if self._output.lost_listener() and self.sender.commander is not None:
            self.sender.hold(Cause.CONTROLLER_LOST, "the arm's controller has gone, or was started again")
            self.sender.commander.forget()
        self._inputs.speed_scaling.time.replaces = self._output.replaces_trajectories
        self._controller = None if self._is_dry_run else self._output.no_controller
        fault = self._policy.fault()
        self.hold_if_inhibited()
        # Ending a process takes so long that a ramp that is being streamed would break off: that comes first.
        may_restart = self._configuration.restart_policy and not self._policy.is_restarting
        if fault and may_restart and not self.sender.is_streaming and self._policy.restart(fault):
            sentence = f"stopped because {fault.sentence}; the policy was started again"
            self._log.error(sentence)
            self.stop(Rejection(fault.cause, Response.STOP, sentence))

    def hold_if_inhibited(self) -> None:
        """Bring the arm to rest if it may not move."""
        if inhibited := self.inhibit(self._clock.now_ns()):
            self.sender.hold(inhibited.cause, inhibited.sentence)

    def watch_clock(self) -> None:
        """Start from rest in the new time when the clock was set: all stamps, and what was published, are void."""
        jump_ns = self._jumps.jump_ns(self._clock.now_ns(), self._clock.steady_ns())
        if not jump_ns:
            return
        direction = "ahead" if jump_ns > 0 else "back"
        sentence = f"the clock was set {direction} by {abs(jump_ns) * 1e-9:.2f} s"
        self.sender.hold(Cause.CLOCK_JUMP, sentence, jump_ns)
        self.sender.clock_set(jump_ns)
        self._inputs.forget_time()
        self._begin_generation()
        if self.sender.commander is not None:
            self.sender.commander.forget()

    def respond(self, rejection: Rejection) -> None:
        """Do what follows from a rejection."""
        if rejection.response is Response.HOLD:
            self.sender.hold(rejection.cause, rejection.sentence)
        elif rejection.response is Response.STOP:
            self.stop(rejection)

    def stream(self) -> None:
        """Send what is due of a command that is streamed; call once per point spacing."""
        self.watch_clock()  # first: in the old time another place of the trajectory would be due
        self.sender.stream(self._inputs.measured_tool)

    # Events

    def activate(self) -> None:
        """Plan from now on."""
        self._inputs.begin()
        self._begin_generation()
        self._is_active = True

    def deactivate(self) -> None:
        """No new plans first, whatever follows; then the ramp to rest."""
        was_active, self._is_active = self._is_active, False
        if was_active:
            self._begin_generation()
            self.sender.hold(Cause.NOT_ACTIVE, "the node is no longer active")
            self.sender.finish_stream(self._inputs.measured_tool)

    def stop(self, rejection: Rejection) -> None:
        """Bring the arm to rest, and keep it there until `resume`."""
        self.gate.stop(rejection)
        self.sender.hold(rejection.cause, rejection.sentence)

    def resume(self) -> bool:
        """Let the arm move again, by plans made from now on; returns whether it was stopped."""
        was_stopped = self.gate.resume()
        if was_stopped:
            self._begin_generation()
        return was_stopped

    def set_instruction(self, text: str) -> bool:
        """Plan for another instruction from now on; returns whether it differs from the one before."""
        is_new = self._inputs.set_instruction(text)
        if is_new:
            self._begin_generation()
        return is_new

    def set_dry_run(self, value: bool) -> None:
        """Plan without commanding, or command again."""
        if value and self._is_active:
            self.sender.hold(Cause.DRY_RUN, "dry_run was set")
        self._is_dry_run = value

    def set_robot_description(self, description: str) -> None:
        """Command the arm by this model; the arm comes to rest first. The same text again changes nothing."""
        if description == self._robot_description:
            return
        self.sender.hold(Cause.ROBOT_MODEL_CHANGED, "the robot description has changed")
        self._robot_description, self.sender.commander = description, None
        try:
            self.sender.commander = self._commander_of(urdf_text(description))
        except Exception as error:
            self._no_robot_model = _hold(Cause.ROBOT_MODEL_UNUSABLE, in_one_line(error))
            self._log.error(f"no commands: {self._no_robot_model.sentence}")

    def _begin_generation(self) -> None:
        """Give up what was planned so far: a running plan's answer will be dropped."""
        self._generation += 1
        self._inputs.statistics.rejected_s = None
        self.standstill.forget()
        self._policy.reset()
        if self.sender.commander is not None:
            self.sender.commander.reset()

    def _commander_of(self, model: str) -> Commander:
        configuration, frames = self._configuration, self._configuration.frames
        kinematics = Kinematics(model, configuration.command.joints, frames.base, frames.tool)
        for doubt in velocity_doubts(kinematics.joints, kinematics.velocity, configuration.limits):
            self._log.warning(doubt)
        self._kinematics = kinematics
        return Commander(configuration, kinematics, self._inputs.speed_scaling.time)

    def _compare_model(self) -> Rejection | None:
        """How the robot model and TF differ; None when they agree, or cannot be compared."""
        if self._kinematics is None or self.sender.commander is None:
            return None
        inputs, frames = self._inputs, self._configuration.frames
        sentence = disagreement(self._kinematics, frames, inputs.tree, inputs.joint_history)
        return _hold(Cause.ROBOT_MODEL_DISAGREES, sentence) if sentence else None

    def _gate_inputs(self, now_ns: int) -> GateInputs:
        """Collect what the motion gate looks at."""
        return GateInputs(
            now_ns=now_ns,
            ages=self._inputs.ages_s(now_ns),
            instruction=self._inputs.instruction,
            image=self._inputs.image_rejection,
            joint_states=self._inputs.joint_states_rejection,
            robot_model=self._no_robot_model if self.sender.commander is None else None,
            agreement=self._compare_model(),
            camera=self._inputs.frozen,
            further=self._inputs.further.rejection(now_ns),
            controller=self._controller,
            speed_scaling=None if self._is_dry_run else self._inputs.speed_scaling.rejection(now_ns),
            policy=self._policy.fault(),
            unreachable=self.unreachable,
        )

    def inhibit(self, now_ns: int) -> Rejection | None:
        """Why the arm must be at rest; None: it may move."""
        return self.gate.inhibit(self._gate_inputs(now_ns))

    def state(self) -> tuple[MotionState, Rejection | None]:
        """Return the state, and why the arm does not move; None: it does, or may."""
        return self.gate.state(
            self._gate_inputs(self._clock.now_ns()),
            active=self._is_active,
            unplanned=self._inputs.statistics.unplanned(self._configuration.freshness.image),
            standstill=self.standstill.reason,
        )


def _hold(cause: Cause, sentence: str) -> Rejection:
    return Rejection(cause, Response.HOLD, sentence)

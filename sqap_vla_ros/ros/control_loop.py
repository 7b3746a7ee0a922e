# Copyright 2026 The sqap_vla maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""
The control loop: one tick after another, each read from top to bottom.

    observe   the image in the slot, with the transforms of its moment        `LatestInputs`
    gate      may the arm move? If not, it is brought to rest                 `Supervisor`, `MotionGate`
    plan      the policy plans, in a process of its own                       `PolicyRunner`
    check     chunk -> poses -> joints -> timed points, within all limits     `Commander`
    publish   the command                                                     `CommandSender`
    record    chunk, token mask and figures: what a replay needs              `Publishers`

`begin_tick` does the first three, `end_tick` the others when the plan is there; the gate is asked again then. At most
one plan runs at a time; while it runs, newer images replace each other in the slot. Nothing here imports ROS: time
comes from a `Clock`, and what is published goes to `publishers`.
"""

from dataclasses import dataclass
from typing import Protocol

from sqap_vla_ros.config.robot import Configuration
from sqap_vla_ros.control.commands import PreparedCommand
from sqap_vla_ros.control.safety import checks
from sqap_vla_ros.control.tool_space import ToolSpace
from sqap_vla_ros.core.action_chunk import ActionChunk
from sqap_vla_ros.core.clock import Clock
from sqap_vla_ros.core.observation import Observation
from sqap_vla_ros.core.policy import ONE_CAMERA, PolicyNeeds
from sqap_vla_ros.core.rejection import Cause, RejectedError, Rejection, Response
from sqap_vla_ros.ros.defects import DefectLog, Log
from sqap_vla_ros.ros.latest_inputs import LatestInputs
from sqap_vla_ros.ros.policy_messages import Planned, Progress, Ready
from sqap_vla_ros.ros.policy_runner import PolicyRunner, RunningPlan
from sqap_vla_ros.ros.supervisor import SupervisedOutput, Supervisor


class LoopPublishers(SupervisedOutput, Protocol):
    """What the loop publishes with."""

    def publish_plan(self, chunk: ActionChunk, inputs: LatestInputs, generation: int) -> None:
        """Publish a chunk and what it looked at."""


@dataclass(frozen=True)
class _Moment:
    """One reading of both clocks."""

    now_ns: int
    steady_ns: int


class ControlLoop:
    """
    Everything between the inputs and the arm, but for ROS itself.

    :param configuration: The node's settings.
    :param tool_space: Where the tool itself is commanded; None where joints are.
    :param policy: The loaded policy.
    :param publishers: Where commands and plans go.
    :param clock: ROS and steady time.
    :param log: For people.
    :param needs: Cameras and state that the policy needs.

    :ivar inputs: Takes the messages.
    :ivar supervisor: Decides whether the arm may move.
    """

    def __init__(
        self,
        configuration: Configuration,
        tool_space: ToolSpace | None,
        policy: PolicyRunner,
        publishers: LoopPublishers,
        clock: Clock,
        log: Log,
        needs: PolicyNeeds = ONE_CAMERA,
    ) -> None:
        self.inputs = LatestInputs(configuration, clock, tool_space, needs)
        self.supervisor = Supervisor(configuration, tool_space, self.inputs, policy, publishers, clock, log)
        self._policy = policy
        self._publishers = publishers
        self._clock = clock
        self._log = log
        self._defects = DefectLog(log)

    # The tick

    def begin_tick(self) -> None:
        """Observe and plan, if an image with its transforms is there and the policy is free."""
        if not (self.supervisor.is_active and self._policy.is_free):
            return
        taken_ns = self._clock.steady_ns()
        try:
            observation = self.inputs.observe(taken_ns)
            if observation is not None:
                self.supervisor.hold_if_inhibited()  # planning goes on, so that the arm can start at once
                self._plan(observation, taken_ns)
        except RejectedError as rejected:
            self._reject(rejected.rejection)
        except Exception as error:  # a defect or a library's failure: no plan, and the node goes on
            self._reject(_hold(Cause.INTERNAL_ERROR, self._defects.sentence("no plan could be started", error)))

    def end_tick(self, planned: Planned) -> None:
        """Check what was planned, publish the command, and record both."""
        plan, moment = self._policy.finish(planned), self._moment()
        if plan is None or not self.supervisor.is_active:
            return
        chunk: ActionChunk | None = None
        try:
            chunk = self._usable_chunk(planned, plan)
            self._require_open_gate(moment)
            prepared = self._check(chunk, moment)
            self._publish(prepared, moment)
        except RejectedError as rejected:
            self._reject(rejected.rejection)
        else:
            self._count(plan, planned, prepared)
            now_s = moment.steady_ns * 1e-9
            self.supervisor.standstill.look(now_s, chunk, prepared.command, prepared.gripper_reached)
        if chunk is not None:
            self._record(chunk)

    def _plan(self, observation: Observation, taken_ns: int) -> None:
        commander, committed = self.supervisor.sender.commander, None
        if commander is not None:
            committed = commander.continuation(observation.stamp_ns, observation.T_base_tool)
        self._policy.submit(observation, committed, taken_ns, self.supervisor.generation)

    def _usable_chunk(self, planned: Planned, plan: RunningPlan) -> ActionChunk:
        if planned.chunk is None:
            raise RejectedError(Cause.POLICY_FAILED, Response.HOLD, f"the policy raised {planned.error}")
        checks.check_chunk(planned.chunk)
        if plan.generation != self.supervisor.generation:
            raise RejectedError(
                Cause.CHUNK_SUPERSEDED,
                Response.DROP,
                "instruction, activation or time have changed since the plan began",
            )
        return planned.chunk

    def _require_open_gate(self, moment: _Moment) -> None:
        """Nothing is computed for an arm that may not move."""
        if inhibited := self.supervisor.inhibit(moment.now_ns):
            raise RejectedError(inhibited.cause, Response.HOLD, inhibited.sentence)

    def _check(self, chunk: ActionChunk, moment: _Moment) -> PreparedCommand:
        commander, joint_state = self.supervisor.sender.commander, self.inputs.joint_state
        assert commander is not None and joint_state is not None  # the gate was open
        try:
            answer = commander.prepare(chunk, moment.now_ns, joint_state, moved_by_others=self.supervisor.is_dry_run)
        except Exception as error:  # a defect or a library's failure: no command, and the node goes on
            sentence = self._defects.sentence("no motion could be planned", error)
            raise RejectedError(Cause.INTERNAL_ERROR, Response.HOLD, sentence) from error
        if isinstance(answer, Rejection):
            raise RejectedError(answer.cause, answer.response, answer.sentence)
        return answer

    def _publish(self, prepared: PreparedCommand, moment: _Moment) -> None:
        if self.supervisor.is_dry_run or not prepared.is_due:
            return
        late = self.supervisor.sender.send(prepared, moment.now_ns, moment.steady_ns)
        if late is not None:
            raise RejectedError(late.cause, late.response, late.sentence)
        self.inputs.statistics.commands_published += 1

    def _record(self, chunk: ActionChunk) -> None:
        self.inputs.statistics.count_chunk(chunk.tool_px is not None, self._clock.steady_ns() * 1e-9)
        self._publishers.publish_plan(chunk, self.inputs, self.supervisor.generation)

    def _count(self, plan: RunningPlan, planned: Planned, prepared: PreparedCommand) -> None:
        """Latency, and the node's own share: slot taken to `plan` entered, `plan` returned to published."""
        moment, statistics = self._moment(), self.inputs.statistics
        statistics.commands_clipped += bool(prepared.command.clipped)
        statistics.latencies_s.append((moment.now_ns - plan.observation.stamp_ns) * 1e-9)
        own_ns = planned.entered_ns - plan.taken_ns + moment.steady_ns - planned.returned_ns
        statistics.overheads_s.append(own_ns * 1e-9)

    def _reject(self, rejection: Rejection) -> None:
        """Do what follows from a rejection, and count it."""
        self.supervisor.watch_clock()  # first: a ramp joins the motion in the new time
        self.supervisor.respond(rejection)
        if self.inputs.statistics.reject(rejection, self._clock.steady_ns() * 1e-9):
            self._log.warning(f"no command ({rejection.cause}): {rejection.sentence}")

    def handle_reports(self) -> None:
        """Take what the policy's process has reported."""
        self.supervisor.watch_clock()
        for report in self._policy.take_reports():
            if isinstance(report, Planned):
                self.end_tick(report)
            elif isinstance(report, Progress):
                self._log.info(report.text)
            elif isinstance(report, Ready):
                self._log.info("the policy was started again")
        self.begin_tick()

    def _moment(self) -> _Moment:
        return _Moment(self._clock.now_ns(), self._clock.steady_ns())


def _hold(cause: Cause, sentence: str) -> Rejection:
    return Rejection(cause, Response.HOLD, sentence)

# Copyright 2026 The sqap_vla maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""
The action `~/execute`: an instruction as a goal, which is watched, canceled and answered, beside `~/instruction`.

The newest instruction counts, wherever it comes from: a goal takes the place of the one before, and so does a text on
`~/instruction`. When a goal ends without a successor, the instruction is cleared and the arm is brought to rest.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from rclpy.action import ActionServer, CancelResponse, GoalResponse
from rclpy.node import Node
from rclpy.task import Future
from sqap_vla.action import ExecuteInstruction

from sqap_vla_ros.config.robot import LONGEST_INSTRUCTION
from sqap_vla_ros.control.safety.states import MotionState
from sqap_vla_ros.core.clock import Clock
from sqap_vla_ros.core.rejection import Cause, Rejection, Response
from sqap_vla_ros.ros.control_loop import ControlLoop
from sqap_vla_ros.ros.instruction_goal import ArmReading, Ending, InstructionGoal, Outcome

_FEEDBACK_PERIOD_S = 0.2
# Discovery may show a client's subscription only after its goal has come.
_DISCOVERY_S = 2.0
_NOT_ACTIVE = "the node is not active: configure and activate it first"


@dataclass
class _Running:
    """
    A goal that was accepted and has no result yet.

    :ivar handle: rclpy's.
    :ivar goal: Its life.
    :ivar result: Awaited by rclpy.
    :ivar clients: Endpoints that listen to the feedback: the client, and others perhaps.
    :ivar feedback_s: When feedback was sent last, steady clock.
    """

    handle: Any
    goal: InstructionGoal
    result: Future = field(default_factory=Future)
    clients: set[bytes] = field(default_factory=set)
    feedback_s: float = -math.inf


class ExecuteAction:
    """
    Server of the action.

    :param node: Its owner.
    :param loop: Returns the control loop; None while the node is not configured.
    :param clock: Steady time: goals must end also while a simulated clock stands still.
    """

    def __init__(self, node: Node, loop: Callable[[], ControlLoop | None], clock: Clock) -> None:
        self._node = node
        self._loop = loop
        self._clock = clock
        self._log = node.get_logger()
        self._running: _Running | None = None
        self._undelivered = 0
        self._feedback_topic = node.resolve_topic_name("~/execute/_action/feedback")
        self._server = ActionServer(
            node,
            ExecuteInstruction,
            "~/execute",
            execute_callback=lambda handle: None,  # each goal brings its own
            goal_callback=self._consider,
            handle_accepted_callback=self._begin,
            cancel_callback=lambda handle: CancelResponse.ACCEPT,
        )

    @property
    def has_undelivered_results(self) -> bool:
        """Whether goals have ended whose results the executor has not taken yet."""
        return self._undelivered > 0

    def watch(self) -> None:
        """Look after the goal; call often."""
        running, loop = self._running, self._loop()
        if running is None or loop is None:
            return
        arm, goal = self._read(loop), running.goal
        is_canceled = running.handle.is_cancel_requested
        if goal.watch(arm, is_canceled=is_canceled, has_client=self._has_client(running, arm.steady_s)):
            self._clear_instruction(loop, goal)
        if goal.is_over(arm):
            self._finish(running)
        elif arm.steady_s - running.feedback_s >= _FEEDBACK_PERIOD_S:
            running.feedback_s = arm.steady_s
            running.handle.publish_feedback(_feedback(goal, arm))

    def preempt(self, text: str) -> None:
        """Another instruction was given, or the goal's was cleared, on `~/instruction` or as a parameter."""
        running = self._running
        if running is None:
            return
        sentence = f"another instruction was given: {text!r}" if text.strip() else "the instruction was cleared"
        running.goal.end(Ending(Outcome.PREEMPTED, sentence), self._steady_s())
        if text.strip():
            self._finish(running)

    def abort(self, sentence: str) -> None:
        """End the goal when the arm is at rest: the node is no longer active."""
        running, loop = self._running, self._loop()
        if running is not None and loop is not None:
            running.goal.end(Ending(Outcome.ABORTED, sentence, Cause.NOT_ACTIVE), self._steady_s())
            self._clear_instruction(loop, running.goal)

    def finish(self) -> None:
        """Answer the client now: nobody will look after a goal that has ended, because the configuration goes."""
        if self._running is not None:
            self._finish(self._running)

    def destroy(self) -> None:
        """End the server."""
        self._server.destroy()

    # Goals

    def _consider(self, request: ExecuteInstruction.Goal) -> GoalResponse:
        """Accept what can be done; rclpy has no way to tell the client why not, so that the log does."""
        problem = _invalid(request) or self._immovable()
        if not problem:
            return GoalResponse.ACCEPT
        self._log.warning(f"goal of ~/execute rejected: {problem}")
        return GoalResponse.REJECT

    def _immovable(self) -> str:
        """Say what keeps the arm from moving and does not pass by itself."""
        loop = self._loop()
        if loop is None:
            return _NOT_ACTIVE
        state, why = loop.supervisor.state()
        return why.sentence if why is not None and state is not MotionState.WAITING else ""

    def _begin(self, handle: Any) -> None:
        loop, text = self._loop(), handle.request.instruction.strip()
        assert loop is not None  # it was just considered
        self.preempt(text)
        loop.supervisor.set_instruction("")  # the same text again is a new episode all the same
        loop.supervisor.set_instruction(text)
        running = _Running(handle, InstructionGoal(text, handle.request.timeout, self._read(loop)))

        async def result(_: Any) -> ExecuteInstruction.Result:
            outcome = await running.result
            self._undelivered -= 1
            return outcome

        self._running = running
        self._undelivered += 1
        handle.execute(result)
        limit = f" for {handle.request.timeout:g} s" if handle.request.timeout else ""
        self._log.info(f"goal of ~/execute: {text!r}{limit}")

    def _clear_instruction(self, loop: ControlLoop, goal: InstructionGoal) -> None:
        if loop.inputs.instruction == goal.instruction:
            loop.supervisor.set_instruction("")
        assert goal.ending is not None
        sentence = f"the goal of ~/execute has ended: {goal.ending.sentence}"
        loop.supervisor.respond(Rejection(Cause.NO_INSTRUCTION, Response.HOLD, sentence))

    def _finish(self, running: _Running) -> None:
        """Send the result, in the state that the outcome stands for."""
        goal, handle, ending = running.goal, running.handle, running.goal.ending
        assert ending is not None
        if ending.outcome is Outcome.CANCELED:
            handle.canceled()
        elif ending.outcome is Outcome.TIME_OVER:
            handle.succeed()
        else:
            handle.abort()
        result = ExecuteInstruction.Result(
            outcome=ending.outcome.value,
            cause=ending.cause.value if ending.cause else "",
            detail=ending.sentence,
            plans=goal.plans,
            duration=goal.elapsed_s(self._steady_s()),
        )
        self._running = None
        running.result.set_result(result)
        outcome = ending.outcome.name.lower().replace("_", " ")
        self._log.info(f"goal of ~/execute ended ({outcome}) with {goal.plans} plans: {ending.sentence}")

    # What goals depend on

    def _read(self, loop: ControlLoop) -> ArmReading:
        supervisor, inputs = loop.supervisor, loop.inputs
        state, why = supervisor.state()
        return ArmReading(
            state=state,
            why=why,
            is_commanded=supervisor.sender.is_commanding,
            joints=inputs.joint_state,
            plans=inputs.statistics.chunks_published,
            steady_s=self._steady_s(),
        )

    def _has_client(self, running: _Running, steady_s: float) -> bool:
        """
        Whether one of those who listened to the feedback at the beginning still does.

        An action's client always subscribes to it. A process that was killed is noticed when the middleware gives it
        up (Fast DDS: after 20 s).
        """
        infos = self._node.get_subscriptions_info_by_topic(self._feedback_topic)
        listening = {bytes(info.endpoint_gid) for info in infos}
        if running.goal.elapsed_s(steady_s) < _DISCOVERY_S or not running.clients:
            running.clients |= listening
        return not running.clients or bool(running.clients & listening)

    def _steady_s(self) -> float:
        return self._clock.steady_ns() * 1e-9


def _invalid(request: ExecuteInstruction.Goal) -> str:
    """Say what is wrong with a goal in itself."""
    text = request.instruction.strip()
    if not text:
        return "the instruction is empty"
    if len(text) > LONGEST_INSTRUCTION:
        return f"the instruction has {len(text)} characters, at most {LONGEST_INSTRUCTION} are allowed"
    if not (math.isfinite(request.timeout) and request.timeout >= 0):
        return f"the timeout is {request.timeout:g} s; give a number of seconds, or 0 for no limit"
    return ""


def _feedback(goal: InstructionGoal, arm: ArmReading) -> ExecuteInstruction.Feedback:
    return ExecuteInstruction.Feedback(
        state=arm.state.value,
        cause=arm.why.cause.value if arm.why else "",
        detail=arm.why.sentence if arm.why else "",
        plans=goal.plans,
        elapsed=goal.elapsed_s(arm.steady_s),
    )

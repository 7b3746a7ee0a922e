"""One tick of the node: slot -> observation -> policy worker -> chunk -> command.

No ROS in here: times and messages come as arguments, what is to be published goes back as data. At most one plan
runs at a time; while it runs, newer images replace each other in the slot.
"""

import math
import queue
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sqap_vla_ros.config.robot import Configuration
from sqap_vla_ros.control.commander import Command, Commander, JointState
from sqap_vla_ros.control.safety import checks
from sqap_vla_ros.control.safety.gate import GateInputs, InputAges, MotionGate
from sqap_vla_ros.control.tool_space import ToolSpace
from sqap_vla_ros.core.action_chunk import ActionChunk
from sqap_vla_ros.core.clock import CLOCK_BACK_NS, JumpDetector, stamp_ns
from sqap_vla_ros.core.errors import in_one_line
from sqap_vla_ros.core.observation import Observation
from sqap_vla_ros.core.rejection import Cause, RejectedError, Rejection, Response
from sqap_vla_ros.perception.assembly import ObservationAssembler, RejectedImage
from sqap_vla_ros.perception.frozen_camera import FrozenCamera
from sqap_vla_ros.perception.images import ImageError
from sqap_vla_ros.perception.transform_tree import TransformError
from sqap_vla_ros.ros.statistics import TickStatistics
from sqap_vla_ros.ros.worker import Planned, PolicyFactory, PolicyWorker, Report

HEARTBEAT_LIMIT_S = 2.0


@dataclass(frozen=True)
class Tick:
    """What one plan led to.

    Attributes:
        observation: What was planned on.
        chunk: The plan; None when the policy raised or what it gave cannot be used.
        command: What may be sent to the arm; None when rejected.
        rejection: Why there is no command; None with one.
        taken_ns: Image taken from the slot, monotonic clock.
        planned: Times of `plan`, monotonic clock.
    """

    observation: Observation
    chunk: ActionChunk | None
    command: Command | None
    rejection: Rejection | None
    taken_ns: int
    planned: Planned

    def overhead_s(self, published_ns: int) -> float:
        """The node's own share: slot taken to `plan` entered, `plan` returned to published (monotonic clock)."""
        return (self.planned.entered_ns - self.taken_ns + published_ns - self.planned.returned_ns) * 1e-9


class Pipeline:
    """State between ticks: the slot, the worker, the commander, the motion gate.

    Args:
        configuration: The node's settings.
        factory: Builds the policy in the worker's process.
        wake: Called on the worker's receiving thread when there is something new in `reports`.

    Attributes:
        reports: What the worker says, in order; another queue after a `restart`.
    """

    def __init__(self, configuration: Configuration, factory: PolicyFactory, wake: Callable[[], None]) -> None:
        self.configuration = configuration
        self.assembler = ObservationAssembler(configuration)
        self.assembler.set_instruction(configuration.instruction)
        self.commander: Commander | None = None
        self.tool_space: ToolSpace | None = None
        self.joint_state: JointState | None = None
        self.measured_tool: tuple[int, NDArray[np.float64]] | None = None
        self.no_commander: Rejection | None = hold(
            Cause.NO_ROBOT_MODEL, "no robot model yet: waiting for the robot description"
        )
        self.statistics = TickStatistics()
        self.robot_description = ""
        self.gate = MotionGate(configuration)
        self.image_rejection: Rejection | None = None
        self.joint_states_rejection: Rejection | None = None
        self.frozen: Rejection | None = None
        self.controller: Rejection | None = None
        self.unreachable = ""
        self._wake = wake
        self._factory = factory
        self.worker = self._start_worker()
        self.instruction = configuration.instruction
        self.epoch = 0
        self.dead = ""
        self.starting = ""
        self._clock = JumpDetector(CLOCK_BACK_NS)
        self._has_planned = False
        self._running: tuple[int, Observation, int, int] | None = None  # ticket, observation, taken_ns, epoch
        self._frozen_camera = FrozenCamera(configuration.freshness.frozen_motion)
        self._calibration: tuple[Any, ...] = ()
        self._image_stamp_ns: int | None = None
        self._image_frame = ""
        self._camera_info_stamp_ns: int | None = None

    def _start_worker(self) -> PolicyWorker:
        """A process with a queue of its own: what an earlier one said last is not about this one."""
        reports: queue.SimpleQueue[Report] = queue.SimpleQueue()
        self.reports = reports

        def receive(report: Report) -> None:
            reports.put(report)
            self._wake()

        return PolicyWorker(self._factory, self.configuration, receive)

    def activate(self) -> None:
        """Begin anew: counts from zero, nothing planned yet."""
        self.statistics = TickStatistics()
        self.assembler.dropped = 0
        self.frozen = None
        self._frozen_camera = FrozenCamera(self.configuration.freshness.frozen_motion)
        self.begin_epoch()

    def offer_image(self, message: Any) -> str:
        """Put an image into the slot; returns in words why it was refused, empty when it was not."""
        self.statistics.images_received += 1
        try:
            # Waiting is counted on the monotonic clock: it must end also while a simulated clock stands still.
            self.assembler.offer(message, time.monotonic_ns())
            self._image_stamp_ns, self._image_frame = stamp_ns(message), message.header.frame_id
            self.image_rejection = None
        except ImageError as error:
            self.statistics.images_refused += 1
            self.image_rejection = hold(Cause.IMAGE_UNUSABLE, str(error))
        return "" if self.image_rejection is None else self.image_rejection.sentence

    def take_joint_state(self, state: JointState) -> None:
        """Take the arm's joints."""
        self.joint_state, self.joint_states_rejection = state, None

    def refuse_joint_states(self, reason: str) -> None:
        """Told why joint states cannot be used; the last good ones count until they are too old."""
        self.joint_states_rejection = hold(Cause.JOINT_STATES_UNUSABLE, reason)

    def measure_tool(self) -> None:
        """Where the tool itself is commanded, its newest transform takes the place of joint states."""
        frames, tree = self.configuration.frames, self.assembler.tree
        at_ns = tree.latest_ns(frames.base, frames.tool)
        last = self.joint_state
        if self.tool_space is None or at_ns is None or (last is not None and at_ns <= last.stamp_ns):
            return
        try:
            T_base_tool = tree.lookup(frames.base, frames.tool, at_ns)
        except TransformError:  # before the first transform of an edge, or in a gap of it: not known yet
            return
        self.measured_tool = at_ns, T_base_tool
        near = None if last is None else last.positions
        positions = self.tool_space.coordinates(T_base_tool, near)
        self.joint_state = JointState.following(last, positions, at_ns)

    def set_camera_info(self, message: Any) -> bool:
        """Take the camera's calibration; returns whether it is another one than before."""
        self._camera_info_stamp_ns = stamp_ns(message)
        self.assembler.set_camera_info(message)
        before, roi = self._calibration, message.roi
        self._calibration = (
            *(message.width, message.height, message.distortion_model, tuple(message.d), tuple(message.k)),
            *(message.binning_x, message.binning_y, roi.x_offset, roi.y_offset, roi.width, roi.height),
        )
        return bool(before) and before != self._calibration

    def add_transforms(self, message: Any, static: bool) -> tuple[str, ...]:
        """Take transforms; returns what was refused, a sentence each."""
        return self.assembler.add_transforms(message, static)

    def set_instruction(self, text: str) -> bool:
        """Plan for another instruction from now on; returns whether it is another one."""
        text = text.strip()
        if text == self.instruction:
            return False
        self.instruction = text
        self.assembler.set_instruction(text)
        self.begin_epoch()
        return True

    def begin_epoch(self) -> None:
        """Forget what was planned so far: a running plan's answer will be dropped."""
        self.epoch += 1
        self.statistics.refused_s = None
        self.worker.reset()
        if self.commander is not None:
            self.commander.reset()

    def clock_jump_ns(self, now_ns: int) -> int:
        """By how much the ROS clock was set since this was asked last; 0: it was not.

        A simulated clock may stand still, or run slower or faster than real time.
        """
        return self._clock.jump_ns(now_ns, time.monotonic_ns())

    def forget_time(self) -> None:
        """Forget all that has a stamp: the clock was set."""
        self.assembler.reset()
        self.begin_epoch()
        self.joint_state = self.measured_tool = None
        if self.commander is not None:
            self.commander.forget()

    def restart(self, cause: str) -> bool:
        """Start the policy's process again; returns False when that would not help: it has planned nothing.

        Args:
            cause: What is wrong with it, a sentence.
        """
        if not self._has_planned:
            return False
        self.worker.kill()
        self._running, self._has_planned, self.dead = None, False, ""
        self.starting = f"{cause}; the policy is being started again"
        self.worker = self._start_worker()
        return True

    def advance(self) -> Rejection | None:
        """Start a plan if the worker is free and an image with its transforms is there.

        Returns:
            Why a waiting image was refused; None otherwise.
        """
        if self._running is not None or self.dead or self.starting:
            return None
        try:
            return self._plan_on_image()
        except Exception as error:  # a defect or a library's failure: no plan, and the node goes on
            return hold(Cause.INTERNAL_ERROR, f"no plan could be started: {in_one_line(error)}")

    def finish(self, planned: Planned, now_ns: int) -> Tick | None:
        """Turn the worker's answer into a command, or into the reason why there is none.

        Args:
            planned: The answer.
            now_ns: ROS clock.

        Returns:
            None when the answer belongs to a plan that was given up.
        """
        if self._running is None or self._running[0] != planned.ticket:
            return None
        _, observation, taken_ns, epoch = self._running
        self._running = None
        chunk = planned.chunk
        if chunk is None:
            raised = hold(Cause.POLICY_FAILED, f"the policy raised {planned.error}")
            return Tick(observation, None, None, raised, taken_ns, planned)
        self._has_planned = True
        try:
            checks.check_chunk(chunk)
        except RejectedError as rejected:
            return Tick(observation, None, None, rejected.rejection, taken_ns, planned)
        if epoch != self.epoch:
            late = Rejection(
                Cause.CHUNK_SUPERSEDED,
                Response.DROP,
                "instruction, activation or time have changed since the plan began",
            )
            return Tick(observation, None, None, late, taken_ns, planned)
        answer = self._command(chunk, now_ns)
        if isinstance(answer, Rejection):
            return Tick(observation, chunk, None, answer, taken_ns, planned)
        return Tick(observation, chunk, answer, None, taken_ns, planned)

    @property
    def camera_frame(self) -> str:
        """Frame of the camera: as set, or as the images say."""
        return self.configuration.frames.camera or self._image_frame

    def ages_s(self, now_ns: int) -> InputAges:
        """How old the inputs are."""

        def age(stamp_ns: int | None) -> float:
            return math.nan if stamp_ns is None else (now_ns - stamp_ns) * 1e-9

        joint_stamp_ns = None if self.joint_state is None else self.joint_state.stamp_ns
        frames = self.configuration.frames
        return InputAges(
            image=age(self._image_stamp_ns),
            camera_info=age(self._camera_info_stamp_ns),
            transform=age(self.assembler.tree.latest_ns(frames.base, frames.tool)),
            joint_states=age(joint_stamp_ns),
        )

    def gate_inputs(self, now_ns: int) -> GateInputs:
        """What the motion gate looks at."""
        return GateInputs(
            now_ns=now_ns,
            ages=self.ages_s(now_ns),
            instruction=self.instruction,
            image=self.image_rejection,
            joint_states=self.joint_states_rejection,
            robot_model=self.no_commander if self.commander is None else None,
            camera=self.frozen,
            controller=self.controller,
            policy=self.fault,
            unreachable=self.unreachable,
        )

    def inhibit(self, now_ns: int) -> Rejection | None:
        """Why the arm must be at rest, whatever is planned; None: it may move."""
        return self.gate.inhibit(self.gate_inputs(now_ns))

    @property
    def fault(self) -> Rejection | None:
        """Why nothing can be planned although the inputs may be fine; None: no fault."""
        if self.dead:
            return hold(Cause.POLICY_DEAD, self.dead)
        if self.starting:
            return hold(Cause.POLICY_RESTARTING, self.starting)
        limit = self.configuration.plan_timeout
        if self._running is not None and (running_s := (time.monotonic_ns() - self._running[2]) * 1e-9) > limit:
            return hold(
                Cause.POLICY_TIMEOUT,
                f"the policy has been planning for {running_s:.1f} s (plan_timeout is {limit:g} s)",
            )
        if (age_s := self.worker.heartbeat_age_s) > HEARTBEAT_LIMIT_S:
            return hold(
                Cause.POLICY_UNRESPONSIVE, f"the policy's process has not shown a sign of life for {age_s:.1f} s"
            )
        return None

    def _plan_on_image(self) -> Rejection | None:
        taken_ns = time.monotonic_ns()
        outcome = self.assembler.poll(taken_ns)
        if isinstance(outcome, RejectedImage):
            rejection = outcome.rejection
            if rejection.cause is not Cause.IMAGE_UNUSABLE:
                return rejection
            self.statistics.images_refused += 1
            self.image_rejection = rejection
            alone = self.statistics.refused_s is None  # cameras send a broken frame now and then
            return rejection if alone else replace(rejection, response=Response.HOLD)
        if isinstance(outcome, Observation):
            frozen = self._frozen_camera.check(outcome.image, outcome.T_base_tool)
            self.frozen = Rejection(Cause.CAMERA_FROZEN, Response.DROP, frozen) if frozen else None
            if self.frozen:
                return self.frozen
            committed = None
            if self.commander is not None:
                committed = self.commander.continuation(outcome.stamp_ns, outcome.T_base_tool)
            self._running = (self.worker.submit(outcome, committed), outcome, taken_ns, self.epoch)
        return None

    def _command(self, chunk: ActionChunk, now_ns: int) -> Command | Rejection:
        if inhibited := self.inhibit(now_ns):
            return replace(inhibited, response=Response.HOLD)
        assert self.commander is not None and self.joint_state is not None
        try:
            return self.commander.command(chunk, now_ns, self.joint_state)
        except Exception as error:  # a defect or a library's failure: no command, and the node goes on
            return hold(Cause.INTERNAL_ERROR, f"no motion could be planned: {in_one_line(error)}")


def hold(cause: Cause, sentence: str) -> Rejection:
    """A rejection that brings the arm to rest until the next good command."""
    return Rejection(cause, Response.HOLD, sentence)

"""One tick of the node: slot -> observation -> policy worker -> chunk -> command.

No ROS in here: times and messages come as arguments, what is to be published goes back as data. At most one plan
runs at a time; while it runs, newer images replace each other in the slot.
"""

import math
import queue
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sqap_vla_ros.config.robot import Configuration
from sqap_vla_ros.control import guard
from sqap_vla_ros.control.commander import CLOCK_BACK_NS, Command, Commander, JointState, Refusal
from sqap_vla_ros.control.guard import Response
from sqap_vla_ros.control.tool_space import ToolSpace
from sqap_vla_ros.core.action_chunk import ActionChunk
from sqap_vla_ros.core.clock import stamp_ns
from sqap_vla_ros.core.errors import in_one_line
from sqap_vla_ros.core.observation import Observation
from sqap_vla_ros.perception.assembly import ObservationAssembler, Refused
from sqap_vla_ros.perception.frozen_camera import FrozenCamera
from sqap_vla_ros.perception.images import ImageError
from sqap_vla_ros.perception.transform_tree import TransformError
from sqap_vla_ros.ros.interlock import InputAges, Interlock
from sqap_vla_ros.ros.statistics import TickStatistics
from sqap_vla_ros.ros.worker import Planned, PolicyFactory, PolicyWorker, Report

# A clock that goes ahead of real time by more than this was set.
CLOCK_AHEAD_NS = 10**9
HEARTBEAT_LIMIT_S = 2.0


@dataclass(frozen=True)
class Tick:
    """What one plan led to.

    Attributes:
        observation: What was planned on.
        chunk: The plan; None when the policy raised or what it gave cannot be used.
        command: What may be sent to the arm; None when refused.
        refusal: Why there is no command; None with one.
        taken_ns: Image taken from the slot, monotonic clock.
        planned: Times of `plan`, monotonic clock.
    """

    observation: Observation
    chunk: ActionChunk | None
    command: Command | None
    refusal: Refusal | None
    taken_ns: int
    planned: Planned

    def overhead_s(self, published_ns: int) -> float:
        """The node's own share: slot taken to `plan` entered, `plan` returned to published (monotonic clock)."""
        return (self.planned.entered_ns - self.taken_ns + published_ns - self.planned.returned_ns) * 1e-9


class Pipeline:
    """State between ticks: the slot, the worker, the commander, the interlock.

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
        self.no_joint_state_reason = f"no joint states received on {configuration.topics.joint_states}"
        self.no_commander_reason = "no robot model yet: waiting for the robot description"
        self.statistics = TickStatistics()
        self.robot_description = ""
        self.interlock = Interlock(configuration)
        self._wake = wake
        self._factory = factory
        self.worker = self._start_worker()
        self.instruction = configuration.instruction
        self.epoch = 0
        self.dead = ""
        self.starting = ""
        self._has_planned = False
        self._running: tuple[int, Observation, int, int] | None = None  # ticket, observation, taken_ns, epoch
        self._last_now_ns = self._last_steady_ns = 0
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
        self.interlock.frozen = ""
        self._frozen_camera = FrozenCamera(self.configuration.freshness.frozen_motion)
        self.begin_epoch()

    def offer_image(self, message: Any) -> str:
        """Put an image into the slot; returns in words why it was refused, empty when it was not."""
        self.statistics.images_received += 1
        try:
            # Waiting is counted on the monotonic clock: it must end also while a simulated clock stands still.
            self.assembler.offer(message, time.monotonic_ns())
            self._image_stamp_ns, self._image_frame = stamp_ns(message), message.header.frame_id
            self.interlock.image_refusal = ""
        except ImageError as error:
            self.statistics.images_refused += 1
            self.interlock.image_refusal = str(error)
        return self.interlock.image_refusal

    def take_joint_state(self, state: JointState) -> None:
        """Take the arm's joints."""
        self.joint_state, self.interlock.joint_states_refusal = state, ""

    def refuse_joint_states(self, reason: str) -> None:
        """Told why joint states cannot be used; the last good ones count until they are too old."""
        self.no_joint_state_reason = self.interlock.joint_states_refusal = reason

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
        steady_ns = time.monotonic_ns()
        passed_ns, real_ns = now_ns - self._last_now_ns, steady_ns - self._last_steady_ns
        is_first = self._last_now_ns == 0
        self._last_now_ns, self._last_steady_ns = now_ns, steady_ns
        if is_first or (passed_ns >= -CLOCK_BACK_NS and passed_ns - real_ns <= CLOCK_AHEAD_NS):
            return 0
        return passed_ns - real_ns

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
            cause: What is wrong with it, in words.
        """
        if not self._has_planned:
            return False
        self.worker.kill()
        self._running, self._has_planned, self.dead = None, False, ""
        self.starting = f"{cause}; the policy is being started again"
        self.worker = self._start_worker()
        return True

    def advance(self) -> Refusal | None:
        """Start a plan if the worker is free and an image with its transforms is there.

        Returns:
            Why a waiting image was refused; None otherwise.
        """
        if self._running is not None or self.dead or self.starting:
            return None
        try:
            return self._plan_on_image()
        except Exception as error:  # a defect or a library's failure: no plan, and the node goes on
            return Refusal(f"no plan could be started: {in_one_line(error)}", Response.HOLD)

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
            raised = Refusal(f"the policy raised {planned.error}", Response.HOLD)
            return Tick(observation, None, None, raised, taken_ns, planned)
        self._has_planned = True
        try:
            guard.check_chunk(chunk)
        except guard.Refused as refused:
            return Tick(observation, None, None, Refusal(str(refused), refused.response), taken_ns, planned)
        if epoch != self.epoch:
            late = Refusal("it was planned for what was asked before (instruction, activation or time have changed)")
            return Tick(observation, None, None, late, taken_ns, planned)
        answer = self._command(chunk, now_ns)
        if isinstance(answer, Refusal):
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

    def waiting_for(self, now_ns: int) -> str:
        """In words, what is missing for the arm to move; empty: nothing."""
        if now_ns == 0:
            return "no time: use_sim_time is set and nothing is received on /clock"
        if not self.instruction:
            return "no instruction: publish one on ~/instruction or set the parameter"
        missing = self.interlock.waiting_for(self.ages_s(now_ns))
        if self.commander is None:
            missing = self.no_commander_reason
        elif self.joint_state is None:
            missing = self.no_joint_state_reason
        more = self.interlock.incompatible
        return f"{missing}; {more}" if missing and more else missing

    def halted(self, now_ns: int) -> str:
        """In words, why the arm must be at rest whatever is planned; empty: it may move."""
        return self.interlock.stopped or self.fault or self.waiting_for(now_ns)

    @property
    def fault(self) -> str:
        """In words, why nothing can be planned although the inputs may be fine; empty: no fault."""
        if self.dead or self.starting:
            return self.dead or self.starting
        limit = self.configuration.plan_timeout
        if self._running is not None and (running_s := (time.monotonic_ns() - self._running[2]) * 1e-9) > limit:
            return f"the policy has been planning for {running_s:.1f} s (plan_timeout is {limit:g} s)"
        if (age_s := self.worker.heartbeat_age_s) > HEARTBEAT_LIMIT_S:
            return f"the policy's process has not shown a sign of life for {age_s:.1f} s"
        return ""

    def _plan_on_image(self) -> Refusal | None:
        taken_ns = time.monotonic_ns()
        outcome = self.assembler.poll(taken_ns)
        if isinstance(outcome, Refused):
            if not outcome.undecodable:
                return Refusal(outcome.reason)
            self.statistics.images_refused += 1
            self.interlock.image_refusal = outcome.reason
            alone = self.statistics.refused_s is None  # cameras send a broken frame now and then
            return Refusal(outcome.reason, Response.DROP if alone else Response.HOLD)
        if isinstance(outcome, Observation):
            self.interlock.frozen = self._frozen_camera.check(outcome.image, outcome.T_base_tool)
            if self.interlock.frozen:
                return Refusal(self.interlock.frozen)
            committed = None
            if self.commander is not None:
                committed = self.commander.continuation(outcome.stamp_ns, outcome.T_base_tool)
            self._running = (self.worker.submit(outcome, committed), outcome, taken_ns, self.epoch)
        return None

    def _command(self, chunk: ActionChunk, now_ns: int) -> Command | Refusal:
        if halted := self.halted(now_ns):
            return Refusal(halted, Response.HOLD)
        assert self.commander is not None and self.joint_state is not None
        try:
            return self.commander.command(chunk, now_ns, self.joint_state)
        except Exception as error:  # a defect or a library's failure: no command, and the node goes on
            return Refusal(f"no motion could be planned: {in_one_line(error)}", Response.HOLD)

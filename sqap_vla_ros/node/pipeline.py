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

from sqap_vla_ros.action_chunk import ActionChunk
from sqap_vla_ros.config import Configuration
from sqap_vla_ros.control import guard
from sqap_vla_ros.control.commander import Command, Commander, JointState, Refusal
from sqap_vla_ros.errors import in_one_line
from sqap_vla_ros.images import ImageError
from sqap_vla_ros.node.statistics import TickStatistics
from sqap_vla_ros.node.worker import Planned, PolicyFactory, PolicyWorker, Report
from sqap_vla_ros.observation import Observation
from sqap_vla_ros.observation_assembly import ObservationAssembler, Refused
from sqap_vla_ros.stamps import stamp_ns

CLOCK_JUMP_S = 1.0
FUTURE_S = 0.1
HEARTBEAT_LIMIT_S = 2.0


@dataclass(frozen=True)
class InputAges:
    """Seconds since the stamp of each input; NaN: none received."""

    image: float
    camera_info: float
    transform: float
    joint_states: float


@dataclass(frozen=True)
class Tick:
    """What one plan led to.

    Attributes:
        observation: What was planned on.
        chunk: The plan; None when the policy raised or what it gave cannot be used.
        command: What may be sent to the arm; None when refused.
        refusal: In words, why there is no command.
        taken_ns: Image taken from the slot, monotonic clock.
        planned: Times of `plan`, monotonic clock.
    """

    observation: Observation
    chunk: ActionChunk | None
    command: Command | None
    refusal: str
    taken_ns: int
    planned: Planned

    def overhead_s(self, published_ns: int) -> float:
        """The node's own share: slot taken to `plan` entered, `plan` returned to published (monotonic clock)."""
        return (self.planned.entered_ns - self.taken_ns + published_ns - self.planned.returned_ns) * 1e-9


class Pipeline:
    """State between ticks: the slot, the worker, the commander.

    Args:
        configuration: The node's settings.
        factory: Builds the policy in the worker's process.
        wake: Called on the worker's receiving thread when there is something new in `reports`.

    Attributes:
        reports: What the worker says, in order.
    """

    def __init__(self, configuration: Configuration, factory: PolicyFactory, wake: Callable[[], None]) -> None:
        self.configuration = configuration
        self.assembler = ObservationAssembler(configuration)
        self.assembler.set_instruction(configuration.instruction)
        self.commander: Commander | None = None
        self.joint_state: JointState | None = None
        self.no_joint_state_reason = f"no joint states received on {configuration.topics.joint_states}"
        self.no_commander_reason = "no robot model yet: waiting for the robot description"
        self.statistics = TickStatistics()
        self.robot_description = ""
        self.reports: queue.SimpleQueue[Report] = queue.SimpleQueue()
        self._wake = wake
        self.worker = PolicyWorker(factory, configuration, self._receive_report)
        self.instruction = configuration.instruction
        self.epoch = 0
        self.dead = ""
        self._running: tuple[int, Observation, int, int] | None = None  # ticket, observation, taken_ns, epoch
        self._last_now_ns = 0
        self._image_stamp_ns: int | None = None
        self._image_frame = ""
        self._camera_info_stamp_ns: int | None = None

    def _receive_report(self, report: Report) -> None:
        self.reports.put(report)
        self._wake()

    def activate(self) -> None:
        """Begin anew: counts from zero, nothing planned yet."""
        self.statistics = TickStatistics()
        self.assembler.dropped = 0
        self.begin_epoch()

    def offer_image(self, message: Any) -> str:
        """Put an image into the slot; returns in words why it was refused, empty when it was not."""
        self.statistics.images_received += 1
        self._image_stamp_ns = stamp_ns(message)
        self._image_frame = message.header.frame_id
        try:
            # Waiting is counted on the monotonic clock: it must end also while a simulated clock stands still.
            self.assembler.offer(message, time.monotonic_ns())
        except ImageError as error:
            self.statistics.images_refused += 1
            return str(error)
        return ""

    def set_camera_info(self, message: Any) -> None:
        """Take the camera's calibration."""
        self._camera_info_stamp_ns = stamp_ns(message)
        self.assembler.set_camera_info(message)

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
        self.worker.reset()
        if self.commander is not None:
            self.commander.reset()

    def advance(self, now_ns: int) -> str:
        """Start a plan if the worker is free and an image with its transforms is there.

        Args:
            now_ns: ROS clock.

        Returns:
            In words, why a waiting image was refused; empty otherwise.
        """
        if now_ns < self._last_now_ns - CLOCK_JUMP_S * 1e9:
            self.assembler.reset()
            self.begin_epoch()
        self._last_now_ns = now_ns
        if self._running is not None or self.dead:
            return ""
        taken_ns = time.monotonic_ns()
        outcome = self.assembler.poll(taken_ns)
        if isinstance(outcome, Refused):
            return outcome.reason
        if isinstance(outcome, Observation):
            self._running = (self.worker.submit(outcome), outcome, taken_ns, self.epoch)
        return ""

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
            return Tick(observation, None, None, f"the policy raised {planned.error}", taken_ns, planned)
        try:
            guard.check_chunk(chunk)
        except guard.Refused as refusal:
            return Tick(observation, None, None, str(refusal), taken_ns, planned)
        if epoch != self.epoch:
            refusal_words = "it was planned for what was asked before (instruction, activation or time have changed)"
            return Tick(observation, None, None, refusal_words, taken_ns, planned)
        answer = self._command(chunk, now_ns)
        if isinstance(answer, Refusal):
            return Tick(observation, chunk, None, answer.reason, taken_ns, planned)
        return Tick(observation, chunk, answer, "", taken_ns, planned)

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
        """In words, what is missing for a command; empty: nothing."""
        configuration = self.configuration
        topics, limits, ages = configuration.topics, configuration.freshness, self.ages_s(now_ns)
        if now_ns == 0:
            return "no time: use_sim_time is set and nothing is received on /clock"
        if not self.instruction:
            return "no instruction: publish one on ~/instruction or set the parameter"
        if self.commander is None:
            return self.no_commander_reason
        if self.joint_state is None:
            return self.no_joint_state_reason
        for name, age_s, limit_s in (
            (f"image on {topics.image}", ages.image, limits.image),
            (f"transform {configuration.frames.base} -> {configuration.frames.tool}", ages.transform, limits.transform),
            (f"joint state on {topics.joint_states}", ages.joint_states, limits.joint_states),
        ):
            if math.isnan(age_s):
                return f"no {name} received yet"
            if age_s < -FUTURE_S:
                return f"the last {name} is stamped {-age_s:.2f} s in the future: are the clocks synchronised?"
            if age_s > limit_s:
                return f"the last {name} is {age_s:.2f} s old (limit {limit_s:g} s)"
        return ""

    @property
    def fault(self) -> str:
        """In words, why nothing can be planned although the inputs may be fine; empty: no fault."""
        if self.dead:
            return self.dead
        limit = self.configuration.plan_timeout
        if self._running is not None and (running_s := (time.monotonic_ns() - self._running[2]) * 1e-9) > limit:
            return f"the policy has been planning for {running_s:.1f} s (plan_timeout is {limit:g} s)"
        if (age_s := self.worker.heartbeat_age_s) > HEARTBEAT_LIMIT_S:
            return f"the policy's process has not shown a sign of life for {age_s:.1f} s"
        return ""

    def _command(self, chunk: ActionChunk, now_ns: int) -> Command | Refusal:
        if self.commander is None:
            return Refusal(self.no_commander_reason)
        if self.joint_state is None:
            return Refusal(self.no_joint_state_reason)
        try:
            return self.commander.command(chunk, now_ns, self.joint_state)
        except Exception as error:  # a defect or a library's failure: no command, and the node goes on
            return Refusal(f"no motion could be planned: {in_one_line(error)}")

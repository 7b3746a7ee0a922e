"""The node in a process of its own next to a synthetic robot, and what a fault did to both."""

import contextlib
import gc
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
import yaml
from rosgraph_msgs.msg import Clock
from sqap_vla.msg import PolicyStatus
from std_msgs.msg import Bool, String
from std_srvs.srv import Trigger
from trajectory_msgs.msg import JointTrajectory

from sqap_vla_ros.core.clock import stamp_ns
from sqap_vla_ros.core.rejection import Cause
from sqap_vla_ros.ros.conversions import time_message
from sqap_vla_ros.simulation.joint_trajectory_controller import Violation
from sqap_vla_ros.testing.synthetic_robot import SyntheticRobot, parameters

GOOD = "go round"
IMAGE_AGE_S, TRANSFORM_AGE_S, JOINT_STATES_AGE_S, PLAN_TIMEOUT_S, ENABLE_AGE_S = 0.45, 0.2, 0.2, 0.8, 0.3
SPEED_SCALING_AGE_S = 0.4
FROZEN_MOTION_M = 0.02
HORIZON_S = 1.0
SETTINGS: dict[str, object] = {
    "instruction": GOOD,
    "autostart": True,
    "freshness.image": IMAGE_AGE_S,
    "freshness.transform": TRANSFORM_AGE_S,
    "freshness.joint_states": JOINT_STATES_AGE_S,
    "freshness.enable": ENABLE_AGE_S,
    "freshness.frozen_motion": FROZEN_MOTION_M,
    "freshness.speed_scaling": SPEED_SCALING_AGE_S,
    "limits.tool_to_target": 0.06,
    "command.horizon": HORIZON_S,
    "plan_timeout": PLAN_TIMEOUT_S,
    "restart_policy": True,
    "topics.enable": "/enable",
}
# A trajectory that ends earlier than the one before by this much is a ramp to rest.
_EARLIER_NS = 200_000_000
_STATUS_DEADLINE_S = 5.0


@dataclass(frozen=True)
class Reaction:
    """What a fault led to.

    Attributes:
        hold_ms: From the moment when the fault could be known to the ramp's arrival at the controller; None without a
            ramp (the arm was at rest already, went on, or its controller is gone) or such a moment.
        rest_s: From the fault to the arm at rest; None when it went on.
        violations: Samples of the arm's motion, at 100 Hz, that a real arm would not have survived.
        reported: Whether the node's status named the cause.
        recovered: Whether the arm moved again when the fault was gone, the node not restarted.
    """

    hold_ms: float | None
    rest_s: float | None
    violations: tuple[Violation, ...]
    reported: bool
    recovered: bool = False

    def then(self, violations: list[Violation], recovered: bool) -> "Reaction":
        """The same with what came of it: more unsafe samples, and whether the arm moved again."""
        return replace(self, violations=(*self.violations, *violations), recovered=recovered)


class FaultBench:
    """One robot, and nodes that come and go next to it.

    Attributes:
        robot: The robot, with its switches for faults.
        node: The node's process.
        enabled: The state of the enabling switch.
        clock_offset_s: Between the robot's time and the one it sends on /clock.
    """

    def __init__(self) -> None:
        self.robot = SyntheticRobot(width=160, height=120)
        self.statuses: list[PolicyStatus] = []
        self.enabled = True
        self.clock_offset_s = 0.0
        self.clock_set_s = 0.0
        self.moved_s: float | None = None
        self._frozen_at: np.ndarray | None = None
        self._rests_since_s: float | None = None
        self._settings: dict[str, object] | None = None
        self._directory = tempfile.TemporaryDirectory()
        self._log = Path(self._directory.name) / "node.log"
        self.node: subprocess.Popen[bytes] | None = None
        self.robot.create_subscription(PolicyStatus, "/sqap_vla/status", self._note_status, 10)
        self.instructions = self.robot.create_publisher(String, "/sqap_vla/instruction", 1)
        self._enable = self.robot.create_publisher(Bool, "/enable", 1)
        self._clock = self.robot.create_publisher(Clock, "/clock", 1)
        self.robot.create_timer(0.05, lambda: self.enable(self.enabled))
        self.robot.create_timer(0.01, self._tick)
        self._stop = self.robot.create_client(Trigger, "/sqap_vla/stop")
        self._resume = self.robot.create_client(Trigger, "/sqap_vla/resume")

    def __enter__(self) -> Self:
        gc.disable()  # the robot keeps all commands: looking through them would hold it up ever longer
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        gc.enable()
        self.kill_node()
        self.robot.destroy_node()
        self._directory.cleanup()

    # The node

    def start_node(self, **settings: object) -> None:
        """Start a node with these settings, and wait until its policy is loaded and the arm moves.

        Once, after a node that was killed, the next one was not sent the latched robot description and waited for it
        for ever; why is not known. So a new node that does not move is started once more; one that runs already is not.
        """
        if self.node is not None and self._settings == settings:
            self.wait_for_motion()
            return
        self.kill_node()
        self._settings = settings
        self._launch(settings)
        try:
            self.wait_for_motion(30.0)
        except TimeoutError as error:
            print(f"{error}\nThe node is started once more.")
            self.kill_node()
            self._launch(settings)
            self.wait_for_motion()

    def _launch(self, settings: Mapping[str, object]) -> None:
        values = parameters(**{**SETTINGS, **settings})
        file = Path(self._directory.name) / "parameters.yaml"
        file.write_text(yaml.safe_dump({"/**": {"ros__parameters": values}}))
        program = "sqap_vla_ros.testing.fault_injecting_node"
        command = [sys.executable, "-m", program, "--ros-args", "--params-file", str(file)]
        with self._log.open("ab") as log:
            self.node = subprocess.Popen(command, env=dict(os.environ), stdout=log, stderr=log)

    def kill_node(self) -> None:
        """End the node, whatever it is doing."""
        if self.node is not None:
            self.node.kill()
            self.node.wait(10.0)
            self.node = None

    def wait_for_motion(self, deadline_s: float = 60.0) -> None:
        """Wait until commands arrive again, and the arm moves."""
        wanted = len(self.robot.commands) + 10
        try:
            self.robot.spin_until(lambda: len(self.robot.commands) >= wanted and not self.robot.rests, deadline_s)
        except TimeoutError as error:
            log = self._log.read_text(encoding="utf-8", errors="replace").splitlines()
            raise TimeoutError("\n".join([f"{error}; the node's log ends with", *log[-15:]])) from None

    def instruct(self, text: str) -> None:
        """Give an instruction."""
        self.instructions.publish(String(data=text))

    def stop(self) -> None:
        """Call ~/stop."""
        self._call(self._stop)

    def resume(self) -> None:
        """Call ~/resume."""
        self._call(self._resume)

    def enable(self, pressed: bool) -> None:
        """Hold the enabling switch, or let it go."""
        self.enabled = pressed
        self._enable.publish(Bool(data=pressed))

    # Time

    def spin(self, seconds: float) -> None:
        """Let time pass."""
        end_s = time.monotonic() + seconds
        self.robot.spin_until(lambda: time.monotonic() >= end_s, seconds + 10)

    def set_clock(self, offset_s: float) -> None:
        """Set the clock that the node lives by."""
        self.clock_offset_s, self.clock_set_s = offset_s, time.monotonic()
        self._tick()

    def watch_motion(self) -> None:
        """From now on, notice when the tool has moved as far as a frozen camera may overlook."""
        self._frozen_at, self.moved_s = self.robot.tool_m, None

    # What happened

    def meet(
        self, inject: Callable[[], None], lasts_s: float, causes: tuple[Cause, ...], known_s: Callable[[], float | None]
    ) -> Reaction:
        """Bring a fault about and watch how the node reacts.

        Args:
            inject: Brings it about.
            lasts_s: How long to watch.
            causes: Of which the status must report one from then on; empty: none.
            known_s: When it could be known, on the monotonic clock; asked afterwards.
        """
        robot, before = self.robot, self.statuses[-1] if self.statuses else PolicyStatus()
        seen, first_command, first_status = len(robot.controller.violations), len(robot.commands), len(self.statuses)
        injected_s = time.monotonic()
        inject()
        self.spin(max(0.0, injected_s + lasts_s - time.monotonic()))

        def is_reported() -> bool:
            return not causes or any(_reports(status, causes, before) for status in self.statuses[first_status:])

        with contextlib.suppress(TimeoutError):  # on a busy machine a status comes later than it should
            robot.spin_until(is_reported, _STATUS_DEADLINE_S)
        return Reaction(
            hold_ms=self._hold_ms(max(first_command - 1, 0), known_s()),
            rest_s=None if self._rests_since_s is None else max(0.0, self._rests_since_s - injected_s),
            violations=tuple(robot.controller.violations[seen:]),
            reported=is_reported(),
        )

    def _hold_ms(self, first_command: int, known_s: float | None) -> float | None:
        """Of the first ramp from a command on, as in `Reaction`."""
        if known_s is None:
            return None
        ends_ns = [_end_ns(command) for command in self.robot.commands[first_command:]]
        times_s = self.robot.command_times_s[first_command + 1 :]
        for before_ns, end_ns, at_s in zip(ends_ns[:-1], ends_ns[1:], times_s, strict=True):
            if end_ns < before_ns - _EARLIER_NS:
                return max(0.0, (at_s - known_s) * 1e3)
        return None

    def _note_status(self, status: PolicyStatus) -> None:
        self.statuses.append(status)

    def _tick(self) -> None:
        now_s = time.monotonic()
        now_ns = self.robot.get_clock().now().nanoseconds + round(self.clock_offset_s * 1e9)
        self._clock.publish(Clock(clock=time_message(now_ns)))
        if not self.robot.rests:
            self._rests_since_s = None
        elif self._rests_since_s is None:
            self._rests_since_s = now_s
        if self._frozen_at is not None and np.linalg.norm(self.robot.tool_m - self._frozen_at) > FROZEN_MOTION_M:
            self.moved_s, self._frozen_at = now_s + 0.05, None  # the next image shows it

    def _call(self, client: Any) -> None:
        self.robot.spin_until(client.service_is_ready)
        future = client.call_async(Trigger.Request())
        self.robot.spin_until(future.done)


def _end_ns(command: JointTrajectory) -> int:
    last = command.points[-1].time_from_start
    return stamp_ns(command) + last.sec * 10**9 + last.nanosec


def _reports(status: PolicyStatus, causes: tuple[Cause, ...], before: PolicyStatus) -> bool:
    """Whether a status reports one of these causes, as what it waits for or as that of a rejection since."""
    rejected = status.commands_refused > before.commands_refused and status.last_rejection_cause in causes
    return rejected or status.cause in causes

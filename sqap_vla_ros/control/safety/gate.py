"""The motion gate: whether the arm may move at all, which is asked before any single command is looked at.

An input that is missing or stale, a frozen camera, a switch that nobody holds, no controller: the arm ramps to rest,
and goes on when the cause is gone. A stop, by a person or by a check, lasts until somebody resumes.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, replace

from sqap_vla_ros.config.robot import Configuration
from sqap_vla_ros.control.safety.checks import check_age
from sqap_vla_ros.control.safety.states import MotionState
from sqap_vla_ros.core.rejection import Cause, Rejection, Response


@dataclass(frozen=True)
class InputAges:
    """Seconds since the stamp of each input; NaN: none received."""

    image: float
    camera_info: float
    transform: float
    joint_states: float


@dataclass(frozen=True)
class GateInputs:
    """All that the gate looks at, at one moment.

    Attributes:
        now_ns: ROS clock; 0: there is no time yet.
        ages: Of the inputs.
        instruction: What the policy is to do.
        image: Why the last image could not be used; None when it could.
        joint_states: Why the last joint states could not be used; None when they could.
        robot_model: Why there is no model of the arm; None when there is one.
        agreement: How the model of the arm and TF differ; None when they agree, as far as one can tell.
        camera: That the camera has frozen; None when it has not, as far as one can tell.
        further: What is missing of further cameras and of the state that the policy needs; None: nothing.
        controller: Why commands reach no controller; None when they do.
        speed_scaling: Why the controller's time is not known; None when it is.
        policy: Why nothing can be planned although the inputs may be fine; None when it can.
        unreachable: Which publishers do not reach the node, because they offer another quality of service.
    """

    now_ns: int
    ages: InputAges
    instruction: str
    image: Rejection | None = None
    joint_states: Rejection | None = None
    robot_model: Rejection | None = None
    agreement: Rejection | None = None
    camera: Rejection | None = None
    further: Rejection | None = None
    controller: Rejection | None = None
    speed_scaling: Rejection | None = None
    policy: Rejection | None = None
    unreachable: str = ""


class MotionGate:
    """Answers whether the arm may move.

    Args:
        configuration: Topics and largest ages.
        steady_s: A clock that nobody can set [s].
    """

    def __init__(self, configuration: Configuration, steady_s: Callable[[], float] = time.monotonic) -> None:
        self._configuration = configuration
        self._steady_s = steady_s
        self._enabled_s: float | None = None
        self._stopped: Rejection | None = None

    @property
    def stopped(self) -> Rejection | None:
        """Why the arm was stopped until somebody resumes; None when it was not."""
        return self._stopped

    def stop(self, rejection: Rejection) -> None:
        """Keep the arm at rest until `resume`."""
        self._stopped = rejection

    def resume(self) -> bool:
        """End a stop; returns whether there was one."""
        was_stopped, self._stopped = self._stopped is not None, None
        return was_stopped

    def enable(self, pressed: bool) -> None:
        """Take a message of the enabling switch."""
        self._enabled_s = self._steady_s() if pressed else None

    def inhibit(self, inputs: GateInputs) -> Rejection | None:
        """Why the arm must be at rest, whatever is planned; None: it may move."""
        return self._stop() or inputs.policy or self._waiting(inputs)

    def state(
        self, inputs: GateInputs, *, active: bool, unplanned: Rejection | None, standstill: Rejection | None
    ) -> tuple[MotionState, Rejection | None]:
        """The state of a configured node, and why the arm does not move; None: it does, or may.

        Args:
            inputs: Of now.
            active: Whether the node is active.
            unplanned: Why images have led to no plan for too long; None when they have not.
            standstill: Why the arm stands still although it may move; None when it does not.
        """
        if inputs.policy is not None:
            return MotionState.FAULT, inputs.policy
        if not active:
            sentence = "configured; activate to start planning"
            return MotionState.INACTIVE, Rejection(Cause.NOT_ACTIVE, Response.HOLD, sentence)
        if stop := self._stop():
            return MotionState.STOPPED, stop
        waiting = self._waiting(inputs) or unplanned
        return (MotionState.RUNNING, standstill) if waiting is None else (MotionState.WAITING, waiting)

    def _stop(self) -> Rejection | None:
        if self._stopped is None:
            return None
        return replace(self._stopped, sentence=f"{self._stopped.sentence}; call ~/resume to go on")

    def _waiting(self, inputs: GateInputs) -> Rejection | None:
        """What the arm is waiting for: the first of these, in the order in which they are mended."""
        if inputs.now_ns == 0:
            return _hold(Cause.NO_TIME, "no time: use_sim_time is set and nothing is received on /clock")
        if not inputs.instruction:
            return _hold(
                Cause.NO_INSTRUCTION,
                "no instruction: send a goal to ~/execute, publish on ~/instruction or set the parameter instruction",
            )
        rejection = (
            inputs.robot_model
            or self._old_input(inputs)
            or inputs.agreement
            or inputs.camera
            or inputs.further
            or self._not_enabled()
            or inputs.controller
            or inputs.speed_scaling
        )
        if rejection is None or not inputs.unreachable:
            return rejection
        return replace(rejection, sentence=f"{rejection.sentence}; {inputs.unreachable}")

    def _old_input(self, inputs: GateInputs) -> Rejection | None:
        topics, frames = self._configuration.topics, self._configuration.frames
        ages, limits = inputs.ages, self._configuration.freshness
        tool = f"transform {frames.base} -> {frames.tool}"
        if self._configuration.command.moves_tool:  # the tool's transforms take the place of joint states
            joints, missing, stale = tool, Cause.TRANSFORM_MISSING, Cause.TRANSFORM_STALE
        else:
            joints = f"joint state on {topics.joint_states}"
            missing, stale = Cause.JOINT_STATES_MISSING, Cause.JOINT_STATES_STALE
        image = f"image on {topics.image}"
        return (
            _with_rejected(
                check_age(image, ages.image, limits.image, Cause.IMAGE_MISSING, Cause.IMAGE_STALE), inputs.image
            )
            or check_age(tool, ages.transform, limits.transform, Cause.TRANSFORM_MISSING, Cause.TRANSFORM_STALE)
            or _with_rejected(
                check_age(joints, ages.joint_states, limits.joint_states, missing, stale), inputs.joint_states
            )
        )

    def _not_enabled(self) -> Rejection | None:
        topic, limit_s = self._configuration.topics.enable, self._configuration.freshness.enable
        if not topic or (self._enabled_s is not None and self._steady_s() - self._enabled_s <= limit_s):
            return None
        return _hold(
            Cause.NOT_ENABLED,
            f"not enabled: the arm moves only while {topic} is true, published at least every {limit_s:g} s",
        )


def _hold(cause: Cause, sentence: str) -> Rejection:
    return Rejection(cause, Response.HOLD, sentence)


def _with_rejected(old: Rejection | None, rejected: Rejection | None) -> Rejection | None:
    """An input that is missing or too old although it arrives: the cause is why it cannot be used."""
    if old is None or rejected is None:
        return old
    cause = old.cause if old.cause is Cause.STAMP_IN_FUTURE else rejected.cause
    return _hold(cause, f"{old.sentence}; the last one was rejected: {rejected.sentence}")

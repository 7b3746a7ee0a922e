# Copyright 2026 The sqap_vla maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""
The life of one goal of `~/execute`, from its acceptance until the arm is at rest again.

    followed  ->  ending: the instruction is cleared, the arm comes to rest  ->  over

What the arm waits for by itself (an image, the enabling switch) is waited for; a stop, a fault or a deactivation ends
the goal. Nothing here imports ROS.
"""

from dataclasses import dataclass
from enum import IntEnum

import numpy as np

from sqap_vla_ros.control.commands import JointState
from sqap_vla_ros.control.safety.states import MotionState
from sqap_vla_ros.core.rejection import Cause, Rejection

# A goal whose arm may not move so soon after its acceptance is aborted: nobody need wait for an answer.
START_S = 5.0
# The arm is at rest when its joints move by less than this over at least that time, after the last command has ended.
STILL = 0.002  # [rad or m]
STILL_NS = 100_000_000
# A goal does not wait longer than this for an arm that does not come to rest, or that is not measured any more.
LONGEST_REST_S = 5.0

_ENDS_A_GOAL = (MotionState.UNCONFIGURED, MotionState.INACTIVE, MotionState.FAULT, MotionState.STOPPED)


class Outcome(IntEnum):
    """How a goal ended; the values are those of `action/ExecuteInstruction.action`."""

    TIME_OVER = 1
    CANCELED = 2
    PREEMPTED = 3
    CLIENT_LOST = 4
    ABORTED = 5


@dataclass(frozen=True)
class Ending:
    """
    Why a goal is no longer followed.

    :ivar outcome: The code.
    :ivar sentence: The same for people.
    :ivar cause: Of an abortion.
    """

    outcome: Outcome
    sentence: str
    cause: Cause | None = None

    @classmethod
    def abortion(cls, why: Rejection) -> "Ending":
        """Take note that the arm could not go on."""
        return cls(Outcome.ABORTED, why.sentence, why.cause)


@dataclass(frozen=True)
class ArmReading:
    """
    What a goal needs to know of the arm, at one moment.

    :ivar state: Of the node.
    :ivar why: Why the arm may not move; None: it may.
    :ivar is_commanded: Whether a command has not ended yet.
    :ivar joints: Measured last; None: never.
    :ivar plans: Number of plans since the node was activated.
    :ivar steady_s: The moment, on the steady clock [s].
    """

    state: MotionState
    why: Rejection | None
    is_commanded: bool
    joints: JointState | None
    plans: int
    steady_s: float


class InstructionGoal:
    """
    One goal.

    :param instruction: What the policy is to do.
    :param timeout_s: How long; 0: until the goal is canceled.
    :param arm: At the goal's acceptance.
    """

    def __init__(self, instruction: str, timeout_s: float, arm: ArmReading) -> None:
        self.instruction = instruction
        self._timeout_s = timeout_s
        self._plans_before = self._plans_now = arm.plans
        self._begin_s = arm.steady_s
        self._has_started = False
        self._ending: Ending | None = None
        self._ended_s = 0.0
        self._still: JointState | None = None

    @property
    def ending(self) -> Ending | None:
        """Why the goal is no longer followed; None while it is."""
        return self._ending

    @property
    def plans(self) -> int:
        """Count the plans that were made for it."""
        return self._plans_now - self._plans_before

    def elapsed_s(self, steady_s: float) -> float:
        """Seconds since the goal's acceptance."""
        return steady_s - self._begin_s

    def end(self, ending: Ending, steady_s: float) -> None:
        """Follow it no longer; the first reason counts."""
        if self._ending is None:
            self._ending, self._ended_s = ending, steady_s

    def watch(self, arm: ArmReading, *, is_canceled: bool, has_client: bool) -> bool:
        """
        Look whether the goal is followed; returns True once, when it ends.

        :param arm: Now.
        :param is_canceled: Whether the client has canceled it.
        :param has_client: Whether the client is there.
        """
        if self._ending is not None:
            return False
        self._has_started |= arm.why is None
        ending = self._reason_to_end(arm, is_canceled, has_client)
        if arm.state is not MotionState.INACTIVE:  # counts begin anew with the next activation
            self._plans_now = arm.plans
        if ending is not None:
            self.end(ending, arm.steady_s)
        return ending is not None

    def is_over(self, arm: ArmReading) -> bool:
        """Whether it has ended and the arm is at rest, or does not come to rest."""
        if self._ending is None:
            return False
        return self._is_at_rest(arm) or arm.steady_s - self._ended_s > LONGEST_REST_S

    def _reason_to_end(self, arm: ArmReading, is_canceled: bool, has_client: bool) -> Ending | None:
        elapsed_s, why = self.elapsed_s(arm.steady_s), arm.why
        if is_canceled:
            return Ending(Outcome.CANCELED, "canceled by the client")
        if arm.state in _ENDS_A_GOAL and why is not None:
            return Ending.abortion(why)
        if not has_client:
            return Ending(Outcome.CLIENT_LOST, "the client has gone without canceling the goal")
        if self._timeout_s and elapsed_s >= self._timeout_s:
            return _abortion_after(elapsed_s, why) or Ending(
                Outcome.TIME_OVER, f"followed for {self._timeout_s:g} s; the policy does not know whether it is done"
            )
        return None if self._has_started or elapsed_s < START_S else _abortion_after(elapsed_s, why)

    def _is_at_rest(self, arm: ArmReading) -> bool:
        if arm.is_commanded:
            self._still = None
            return False
        if arm.joints is None:
            return True
        still = self._still
        if still is None or np.abs(arm.joints.positions - still.positions).max() > STILL:
            self._still = arm.joints
            return False
        return arm.joints.stamp_ns - still.stamp_ns >= STILL_NS


def _abortion_after(elapsed_s: float, why: Rejection | None) -> Ending | None:
    """For an arm that still waits for something."""
    if why is None:
        return None
    return Ending(Outcome.ABORTED, f"after {elapsed_s:.1f} s the arm was still waiting: {why.sentence}", why.cause)

# Copyright 2026 The sqap_vla maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""
Sends commands to the arm, and the ramp that brings it to rest.

A trajectory ends at rest by itself; the ramp is for not waiting until then: it is published once, and replaces the
active trajectory.
"""

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from sqap_vla_ros.control.commander import Commander
from sqap_vla_ros.control.commands import Command, PreparedCommand
from sqap_vla_ros.core.clock import Clock
from sqap_vla_ros.core.errors import in_one_line
from sqap_vla_ros.core.rejection import Cause, Rejection
from sqap_vla_ros.ros.defects import Log

LONGEST_RAMP_S = 2.0
# A ramp that was computed too late to join the motion is computed again, so often at most.
RAMP_ATTEMPTS = 3

MeasuredTool = tuple[int, NDArray[np.float64]] | None
"""Stamp and T_base_tool float64 (4, 4) of the last known tool pose."""


class ArmOutput(Protocol):
    """Where commands go: the part of `Publishers` that concerns the arm."""

    def publish_command(self, command: Command) -> bool:
        """Send a command, or begin to stream it; returns False when the gripper was not there."""

    def stream(self, now_ns: int, measured: MeasuredTool) -> bool:
        """Send what is due of a command that is streamed; returns whether anything is."""

    def clock_set(self, by_ns: int) -> None:
        """Go on in the new time: the ROS clock was set by so much."""


class CommandSender:
    """
    The only one who sends commands.

    :param output: Where commands go.
    :param clock: ROS time, and steady time for how long computing takes.
    :param log: Where it is logged why the arm is brought to rest.
    :param spacing_s: Between two messages of a command that is streamed.

    :ivar commander: Turns chunks into commands; None without a usable robot model.
    """

    def __init__(self, output: ArmOutput, clock: Clock, log: Log, spacing_s: float) -> None:
        self._output = output
        self._clock = clock
        self._log = log
        self._spacing_s = spacing_s
        self.commander: Commander | None = None
        self._is_resting = True  # as far as commands go: the ramp was sent after the last one, or none was sent
        self._is_streaming = False

    @property
    def is_streaming(self) -> bool:
        """Whether a command is being streamed at this moment."""
        return self._is_streaming

    @property
    def is_commanding(self) -> bool:
        """Whether the command that was sent last has not ended yet."""
        is_moving = self.commander is not None and self.commander.is_moving(self._clock.now_ns())
        return is_moving or self._is_streaming

    def send(self, prepared: PreparedCommand, now_ns: int, steady_ns: int) -> Rejection | None:
        """
        Send a command: the arm moves. Returns why it was not sent; None: it was.

        :param prepared: The last one.
        :param now_ns: ROS clock, as it was read for the command.
        :param steady_ns: Steady clock at that moment.
        """
        rejection = self._send(prepared, now_ns, steady_ns)
        if rejection is None:
            self._is_resting = False
        return rejection

    def hold(self, cause: Cause, sentence: str, clock_jump_ns: int = 0) -> None:
        """
        Bring the arm to rest, until the next command.

        Without a ramp (there is none within the limits, or it failed) it comes to rest at its trajectory's end.

        :param cause: Why, as a code.
        :param sentence: Why, for the log.
        :param clock_jump_ns: By how much the clock was set since the last command, whose time the ramp joins.
        """
        if self._is_resting or self.commander is None:
            return
        self._is_resting = True
        try:
            for _ in range(RAMP_ATTEMPTS):
                now_ns, steady_ns = self._clock.now_ns() - clock_jump_ns, self._clock.steady_ns()
                ramp = self.commander.prepare_stop(now_ns)
                if ramp is None:
                    return
                if self._send(ramp, now_ns, steady_ns) is None:
                    self._log.warning(f"the arm is brought to rest ({cause}): {sentence}")
                    return
            self._is_resting = False  # it is tried again while the cause lasts
            problem = "this machine is too busy to compute one in time"
        except Exception as error:
            problem = in_one_line(error)
        self._log.error(
            f"no ramp to rest, the arm goes on to the end of its trajectory: {problem}", throttle_duration_sec=1.0
        )

    def stream(self, measured: MeasuredTool) -> None:
        """Send what is due of a command that is streamed, also while the arm is being brought to rest."""
        self._is_streaming = self._output.stream(self._clock.now_ns(), measured)

    def finish_stream(self, measured: MeasuredTool) -> None:
        """
        Stream a ramp to its end: nobody calls `stream` any more when the node is being deactivated.

        In steady time: a simulated clock stands still while this thread is busy, and one twist would be sent for ever.
        """
        begin_ns, begin_steady_ns = self._clock.now_ns(), self._clock.steady_ns()
        passed_ns = 0
        while passed_ns < LONGEST_RAMP_S * 1e9:
            if not self._output.stream(begin_ns + passed_ns, measured):
                break
            self._clock.sleep(self._spacing_s)
            passed_ns = self._clock.steady_ns() - begin_steady_ns
        self._is_streaming = False

    def clock_set(self, by_ns: int) -> None:
        """Go on streaming in the new time: the ROS clock was set by so much."""
        self._output.clock_set(by_ns)

    def _send(self, prepared: PreparedCommand, now_ns: int, steady_ns: int) -> Rejection | None:
        # Steady time: a simulated clock stands still while this thread computes.
        by_now_ns = now_ns + self._clock.steady_ns() - steady_ns
        return prepared.publish_through(self._output.publish_command, by_now_ns)

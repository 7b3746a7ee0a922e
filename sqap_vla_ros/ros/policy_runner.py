# Copyright 2026 The sqap_vla maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""At most one plan at a time in the policy's process, and what is wrong with that process."""

import queue
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol

from sqap_vla_ros.core.action_chunk import CommittedActions
from sqap_vla_ros.core.clock import Clock
from sqap_vla_ros.core.observation import Observation
from sqap_vla_ros.core.rejection import Cause, Rejection, Response
from sqap_vla_ros.ros.policy_messages import Failed, Planned, Ready, Report

HEARTBEAT_LIMIT_S = 2.0


class Process(Protocol):
    """What a `PolicyProcess` offers."""

    @property
    def heartbeat_age_s(self) -> float:
        """Seconds since the process last showed that it lives."""

    def submit(self, observation: Observation, committed: CommittedActions | None = None) -> int:
        """Ask for a plan; returns the ticket that comes back with the answer."""

    def reset(self) -> None:
        """Make the policy forget what it carries between plans."""

    def close(self) -> None:
        """End the process."""

    def kill(self) -> None:
        """End a process that hangs."""


StartProcess = Callable[[Callable[[Report], None]], Process]
"""Starts the policy's process; the argument is called with each report, on any thread."""


@dataclass(frozen=True)
class RunningPlan:
    """
    A plan that the policy was asked for.

    :ivar ticket: Of the request.
    :ivar observation: What is planned on.
    :ivar taken_ns: When its image was taken from the slot, steady clock.
    :ivar generation: Of the instruction, activation and clock that it is planned for.
    """

    ticket: int
    observation: Observation
    taken_ns: int
    generation: int


class PolicyRunner:
    """
    Owner of the policy's process.

    :param start: Starts the process.
    :param wake: Called on any thread when `take_reports` has something new.
    :param clock: For how long a plan takes.
    :param plan_timeout_s: How long one may take.
    """

    def __init__(self, start: StartProcess, wake: Callable[[], None], clock: Clock, plan_timeout_s: float) -> None:
        self._start = start
        self._wake = wake
        self._clock = clock
        self._plan_timeout_s = plan_timeout_s
        self._reports: queue.SimpleQueue[Report] = queue.SimpleQueue()
        self._process = self._start_process()
        self._running: RunningPlan | None = None
        self._has_planned = False
        self._dead = self._restarting = ""

    def _start_process(self) -> Process:
        """Start a process with a queue of its own: the last report of an earlier one is not about this one."""
        reports: queue.SimpleQueue[Report] = queue.SimpleQueue()
        self._reports = reports

        def receive(report: Report) -> None:
            reports.put(report)
            self._wake()

        return self._start(receive)

    def wait_for_report(self, timeout_s: float) -> Report | None:
        """Return the next report; None when there is none within that time."""
        try:
            return self._reports.get(timeout=timeout_s)
        except queue.Empty:
            return None

    def take_reports(self) -> Iterator[Report]:
        """All reports that have come since the last call."""
        while not self._reports.empty():
            report = self._reports.get()
            if isinstance(report, Failed):
                self._dead, self._restarting = report.reason, ""
            elif isinstance(report, Ready):
                self._restarting = ""
            yield report

    @property
    def is_free(self) -> bool:
        """Whether a plan can be asked for now."""
        return self._running is None and not (self._dead or self._restarting)

    @property
    def is_restarting(self) -> bool:
        """Whether the process is being started again."""
        return bool(self._restarting)

    def submit(
        self, observation: Observation, committed: CommittedActions | None, taken_ns: int, generation: int
    ) -> None:
        """Ask for a plan."""
        ticket = self._process.submit(observation, committed)
        self._running = RunningPlan(ticket, observation, taken_ns, generation)

    def finish(self, planned: Planned) -> RunningPlan | None:
        """Find the plan that an answer belongs to; None when that plan was given up."""
        plan = self._running
        if plan is None or plan.ticket != planned.ticket:
            return None
        self._running = None
        self._has_planned |= planned.chunk is not None
        return plan

    def reset(self) -> None:
        """Make the policy forget what it carries between plans."""
        self._process.reset()

    def fault(self) -> Rejection | None:
        """Why nothing can be planned although the inputs may be fine; None: no fault."""
        if self._dead:
            return Rejection(Cause.POLICY_DEAD, Response.HOLD, self._dead)
        if self._restarting:
            return Rejection(Cause.POLICY_RESTARTING, Response.HOLD, self._restarting)
        limit_s = self._plan_timeout_s
        if self._running is not None and (self._clock.steady_ns() - self._running.taken_ns) * 1e-9 > limit_s:
            running_s = (self._clock.steady_ns() - self._running.taken_ns) * 1e-9
            sentence = f"the policy has been planning for {running_s:.1f} s (plan_timeout is {limit_s:g} s)"
            return Rejection(Cause.POLICY_TIMEOUT, Response.HOLD, sentence)
        if (age_s := self._process.heartbeat_age_s) > HEARTBEAT_LIMIT_S:
            sentence = f"the policy's process has not shown a sign of life for {age_s:.1f} s"
            return Rejection(Cause.POLICY_UNRESPONSIVE, Response.HOLD, sentence)
        return None

    def restart(self, fault: Rejection) -> bool:
        """Start the process again; returns False when that would not help, because it has planned nothing."""
        if not self._has_planned:
            return False
        self._process.kill()
        self._running, self._has_planned, self._dead = None, False, ""
        self._restarting = f"{fault.sentence}; the policy is being started again"
        self._process = self._start_process()
        return True

    def close(self) -> None:
        """End the process."""
        self._process.close()

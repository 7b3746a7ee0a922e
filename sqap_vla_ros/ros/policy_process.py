# Copyright 2026 The sqap_vla maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""
The policy in a process of its own.

Inference must never block the node: a policy that hangs, raises, dies or runs out of memory is a fault that the node
reports and survives, so it lives in a spawned process (`policy_child`). Frames are handed over in shared memory,
everything else through a pipe between this process and its own child.
"""

import contextlib
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable
from multiprocessing.shared_memory import SharedMemory

from sqap_vla_ros.config.robot import Configuration
from sqap_vla_ros.core.action_chunk import CommittedActions
from sqap_vla_ros.core.observation import Observation
from sqap_vla_ros.ros import shared_images
from sqap_vla_ros.ros.policy_child import serve
from sqap_vla_ros.ros.policy_messages import CloseRequest, Failed, PlanRequest, PolicyFactory, Report, Request


class PolicyProcess:
    """
    Owner of the policy's process, used from the node's thread.

    :param factory: Importable function that builds the policy in the child.
    :param configuration: Its settings.
    :param on_report: Called with each `Report`, on a receiving thread.
    """

    def __init__(
        self, factory: PolicyFactory, configuration: Configuration, on_report: Callable[[Report], None]
    ) -> None:
        # Threads of OpenMP that spin while they wait would take the node's core; read when torch is loaded.
        os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
        context = multiprocessing.get_context("spawn")
        self._heartbeat = context.Value("d", time.monotonic(), lock=False)
        self._pipe, child_end = context.Pipe()
        self._frame: SharedMemory | None = None
        self._on_report = on_report
        self._tickets = 0
        self._reset_wanted = False
        self._closing = False
        self._process = context.Process(
            target=serve, args=(child_end, factory, configuration, self._heartbeat), name="policy", daemon=True
        )
        self._process.start()
        child_end.close()
        self._receiver = threading.Thread(target=self._receive, name="policy reports", daemon=True)
        self._receiver.start()

    @property
    def pid(self) -> int | None:
        """Process id of the child."""
        return self._process.pid

    @property
    def heartbeat_age_s(self) -> float:
        """Seconds since the child last showed that it lives."""
        return time.monotonic() - self._heartbeat.value

    def submit(self, observation: Observation, committed: CommittedActions | None = None) -> int:
        """
        Hand over what `plan` takes; the answer comes as a `Planned` with the returned ticket.

        The caller keeps to one plan at a time: the frame lies in the one shared buffer until it is answered.
        """
        images = [view.image for view in observation.views]
        size = sum(image.nbytes for image in images)
        if self._frame is None or self._frame.size < size:
            self._release_frame()
            self._frame = SharedMemory(create=True, size=size)
        shared_images.put(images, self._frame)
        self._tickets += 1
        reset, self._reset_wanted = self._reset_wanted, False
        without, shapes = shared_images.without_images(observation), tuple(image.shape for image in images)
        self._send(PlanRequest(self._tickets, reset, without, committed, self._frame.name, shapes))
        return self._tickets

    def reset(self) -> None:
        """
        Make the policy forget what it carries between plans (new instruction or episode).

        The next request carries this: a flood of instructions must not fill the pipe of a policy that plans.
        """
        self._reset_wanted = True

    def close(self, grace_s: float = 1.0) -> None:
        """End the child: it is asked to end, then terminated, then killed."""
        self._closing = True
        self._send(CloseRequest())
        for end in (lambda: None, self._process.terminate, self._process.kill):
            end()
            self._process.join(grace_s)
            if not self._process.is_alive():
                break
        self._release()

    def kill(self) -> None:
        """End a child that hangs or has died, without waiting for it to agree."""
        self._closing = True
        self._process.kill()
        self._process.join(1.0)
        self._release()

    def _release(self) -> None:
        self._receiver.join(1.0)
        self._pipe.close()
        self._release_frame()

    def _send(self, request: Request) -> None:
        # A child that has died is reported by the receiving thread.
        with contextlib.suppress(BrokenPipeError, OSError):
            self._pipe.send(request)

    def _receive(self) -> None:
        report: Report | None = None
        while True:
            try:
                report = self._pipe.recv()
            except (EOFError, OSError):
                break
            self._on_report(report)
        if not self._closing and not isinstance(report, Failed):
            self._process.join(1.0)
            self._on_report(Failed(f"the policy's process ended unexpectedly ({_exit_text(self._process)})"))

    def _release_frame(self) -> None:
        if self._frame is not None:
            self._frame.close()
            self._frame.unlink()
            self._frame = None


def _exit_text(process: multiprocessing.process.BaseProcess) -> str:
    code = process.exitcode
    if code == -signal.SIGKILL:
        return "killed: probably out of memory"
    if code is not None and code < 0:
        return f"signal {signal.Signals(-code).name}"
    return f"exit code {code}"

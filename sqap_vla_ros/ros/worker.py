"""The policy in a process of its own.

Inference must never block the node: a policy that hangs, raises, dies or runs out of memory is a fault that the
node reports and survives, so it lives in a spawned process. Frames go over in shared memory, everything else through a
pipe between this process and its own child; a heartbeat thread in the child tells a busy policy from a dead one.
Nothing here imports rclpy: the child is torch alone.
"""

import contextlib
import logging
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection
from multiprocessing.shared_memory import SharedMemory
from typing import Any

import numpy as np

from sqap_vla_ros.config.robot import Configuration
from sqap_vla_ros.core.action_chunk import ActionChunk, CommittedActions
from sqap_vla_ros.core.errors import GpuLost, in_one_line
from sqap_vla_ros.core.observation import Observation
from sqap_vla_ros.core.policy import Policy, PolicyMetadata

HEARTBEAT_PERIOD_S = 0.05

# The first plan allocates and compiles; an image must not wait for that.
_WARM_UP = Observation(0, np.zeros((480, 640, 3), np.uint8), "warm up", np.eye(4), np.array([320.0, 240.0]))

PolicyFactory = Callable[[Configuration, Callable[[str], None]], Policy]
"""Builds the policy from the settings; the second argument takes progress in words."""


@dataclass(frozen=True)
class Progress:
    """What the child is doing while it loads, in words."""

    text: str


@dataclass(frozen=True)
class Ready:
    """The policy is loaded and has planned once."""

    metadata: PolicyMetadata


@dataclass(frozen=True)
class Failed:
    """The policy could not be loaded, or its process ended; the worker is of no more use."""

    reason: str


@dataclass(frozen=True)
class Planned:
    """Answer to one `submit`.

    Attributes:
        ticket: The number that `submit` returned.
        chunk: The plan, or None when the policy raised.
        error: What it raised, in one line; empty when it planned.
        entered_ns: `plan` entered, on the machine's monotonic clock.
        returned_ns: `plan` returned, on the same clock.
    """

    ticket: int
    chunk: ActionChunk | None
    error: str
    entered_ns: int
    returned_ns: int


Report = Progress | Ready | Failed | Planned


class PolicyWorker:
    """Owner of the policy's process, used from the node's thread.

    Args:
        factory: Importable function that builds the policy in the child.
        configuration: Its settings.
        on_report: Called with each `Report`, on the worker's receiving thread.
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
            target=_serve, args=(child_end, factory, configuration, self._heartbeat), name="policy", daemon=True
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
        """Hand over what `plan` takes; the answer comes as a `Planned` with the returned ticket.

        The caller keeps to one plan at a time: the frame lies in the one shared buffer until it is answered.
        """
        image = observation.image
        if self._frame is None or self._frame.size < image.nbytes:
            self._release_frame()
            self._frame = SharedMemory(create=True, size=image.nbytes)
        np.copyto(np.ndarray(image.shape, np.uint8, self._frame.buf), image)
        self._tickets += 1
        without_image = replace(observation, image=np.empty((0, 0, 3), np.uint8))
        reset, self._reset_wanted = self._reset_wanted, False
        self._send(("plan", self._tickets, reset, without_image, committed, self._frame.name, image.shape))
        return self._tickets

    def reset(self) -> None:
        """Make the policy forget what it carries between plans (new instruction or episode).

        It is told with the next observation: a flood of instructions must not fill the pipe of a policy that plans.
        """
        self._reset_wanted = True

    def close(self, grace_s: float = 1.0) -> None:
        """End the child: asked, then terminated, then killed."""
        self._closing = True
        self._send(("close",))
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

    def _send(self, message: tuple[Any, ...]) -> None:
        # A child that has died is reported by the receiving thread; there is nobody to tell here.
        with contextlib.suppress(BrokenPipeError, OSError):
            self._pipe.send(message)

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
            self._on_report(Failed(f"the policy's process ended unexpectedly ({_exit_in_words(self._process)})"))

    def _release_frame(self) -> None:
        if self._frame is not None:
            self._frame.close()
            self._frame.unlink()
            self._frame = None


def _exit_in_words(process: multiprocessing.process.BaseProcess) -> str:
    code = process.exitcode
    if code == -signal.SIGKILL:
        return "killed: probably out of memory"
    if code is not None and code < 0:
        return f"signal {signal.Signals(-code).name}"
    return f"exit code {code}"


def _serve(pipe: Connection, factory: PolicyFactory, configuration: Configuration, heartbeat: Any) -> None:
    """Main of the child: build the policy, then plan on request until told to close."""
    # Ctrl-C reaches the whole process group; the node decides when the policy ends.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    logging.getLogger("transformers").setLevel(logging.ERROR)
    parent = os.getppid()
    threading.Thread(target=_beat, args=(heartbeat, parent), name="heartbeat", daemon=True).start()
    try:
        policy = factory(configuration, lambda text: pipe.send(Progress(text)))
        pipe.send(Progress("planning once to warm up"))
        policy.plan(_WARM_UP)
        policy.reset()
        pipe.send(Ready(policy.metadata))
    except Exception as error:  # every cause must reach the user as one sentence, whatever it is
        pipe.send(Failed(in_one_line(error)))
        return
    frame: SharedMemory | None = None
    with contextlib.suppress(EOFError, BrokenPipeError):
        while (message := pipe.recv())[0] != "close":
            _, ticket, reset, observation, committed, frame_name, shape = message
            if reset:
                policy.reset()
            if frame is None or frame.name != frame_name:
                if frame is not None:
                    frame.close()
                frame = _attach(frame_name)
            image = np.ndarray(shape, np.uint8, frame.buf)
            answer = _plan(policy, ticket, replace(observation, image=image), committed)
            del image
            pipe.send(answer)
            if isinstance(answer, Failed):
                return


def _attach(name: str) -> SharedMemory:
    # The parent owns the block. Before Python 3.13 (`track=False`) attaching registers it with this process's
    # resource tracker too, which spawned children share with the parent: harmless, the parent unregisters it once.
    return SharedMemory(name=name)


def _plan(
    policy: Policy, ticket: int, observation: Observation, committed: CommittedActions | None
) -> Planned | Failed:
    entered = time.monotonic_ns()
    try:
        chunk, error = policy.plan(observation, committed), ""
    except GpuLost as lost:
        return Failed(str(lost))
    except Exception as raised:  # a policy that raises is a fault to report, not the end of the worker
        chunk, error = None, in_one_line(raised)
    return Planned(ticket, chunk, error, entered, time.monotonic_ns())


def _beat(heartbeat: Any, parent: int) -> None:
    while True:
        heartbeat.value = time.monotonic()
        if os.getppid() != parent:
            os._exit(1)  # the node was killed: do not stay behind holding a GPU
        time.sleep(HEARTBEAT_PERIOD_S)

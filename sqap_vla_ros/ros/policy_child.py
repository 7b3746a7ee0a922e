# Copyright 2026 The sqap_vla maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""
The process that a policy lives in: it builds the policy and answers requests for plans.

A heartbeat thread tells a busy policy from a dead one. Nothing here imports rclpy: the process loads torch alone.
"""

import contextlib
import logging
import os
import signal
import threading
import time
from multiprocessing.connection import Connection
from multiprocessing.shared_memory import SharedMemory
from typing import Any

import numpy as np

from sqap_vla_ros.config.robot import Configuration
from sqap_vla_ros.core.action_chunk import CommittedActions
from sqap_vla_ros.core.errors import GpuLost, in_one_line
from sqap_vla_ros.core.observation import Observation, View
from sqap_vla_ros.core.policy import Policy, PolicyNeeds
from sqap_vla_ros.ros import shared_images
from sqap_vla_ros.ros.policy_messages import Failed, Planned, PlanRequest, PolicyFactory, Progress, Ready

HEARTBEAT_PERIOD_S = 0.05


def warm_up(needs: PolicyNeeds) -> Observation:
    """Make the observation of the first plan, which allocates and compiles: an image must not wait for that."""
    image, tool_px = np.zeros((480, 640, 3), np.uint8), np.array([320.0, 240.0])
    further = {f"camera{number}": View(0, image, tool_px) for number in range(1, needs.cameras)}
    state = np.zeros(needs.state_size) if needs.state_size else None
    return Observation(0, image, "warm up", np.eye(4), tool_px, further=further, state=state)


def serve(pipe: Connection, factory: PolicyFactory, configuration: Configuration, heartbeat: Any) -> None:
    """Build the policy, then plan on request until a request to close comes."""
    # Ctrl-C reaches the whole process group; the node decides when the policy ends.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    logging.getLogger("transformers").setLevel(logging.ERROR)
    parent = os.getppid()
    threading.Thread(target=_beat, args=(heartbeat, parent), name="heartbeat", daemon=True).start()
    try:
        policy = factory(configuration, lambda text: pipe.send(Progress(text)))
        pipe.send(Progress("planning once to warm up"))
        policy.plan(warm_up(policy.metadata.needs))
        policy.reset()
        pipe.send(Ready(policy.metadata))
    except Exception as error:  # every cause must reach the user as one sentence
        pipe.send(Failed(in_one_line(error)))
        return
    frame: SharedMemory | None = None
    with contextlib.suppress(EOFError, BrokenPipeError):
        while isinstance(request := pipe.recv(), PlanRequest):
            if request.resets:
                policy.reset()
            if frame is None or frame.name != request.frame:
                if frame is not None:
                    frame.close()
                # The parent owns the block. Before Python 3.13 (`track=False`) attaching registers it with this
                # process's resource tracker too, which spawned children share with the parent: harmless, the parent
                # unregisters it once.
                frame = SharedMemory(name=request.frame)
            images = shared_images.look(request.shapes, frame)
            observation = shared_images.with_images(request.observation, images)
            answer = _plan(policy, request.ticket, observation, request.committed)
            del images, observation
            pipe.send(answer)
            if isinstance(answer, Failed):
                return


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

# Copyright 2026 The sqap_vla maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""
Asks the arm's controller how it joins a new trajectory to the one under way, before the arm moves.

A joint_trajectory_controller of July 2026 or later has `allow_trajectory_replacement`, on by default: commands for it
are made in another way (`control.splicing`). One that does not have it, or does not answer, is as all were before.
"""

import time
from collections.abc import Callable, Iterable
from typing import Any

from rcl_interfaces.msg import ParameterType
from rcl_interfaces.srv import GetParameters
from rclpy.node import Node

from sqap_vla_ros.core.rejection import Cause, Rejection, Response
from sqap_vla_ros.ros.controller_identity import Listener

PARAMETER = "allow_trajectory_replacement"
# A controller that has parameters answers in milliseconds.
_PATIENCE_S = 1.0


class ReplacementQuestion:
    """
    One question to each controller that appears.

    :param node: Who asks.
    :param steady_s: A clock that nobody can set [s].

    :ivar replaces: Whether any of them has said yes.
    """

    def __init__(self, node: Node, steady_s: Callable[[], float] = time.monotonic) -> None:
        self._node = node
        self._steady_s = steady_s
        self._asked: tuple[Listener, ...] = ()
        self._clients: dict[str, Any] = {}  # those that have not been called yet
        self._called: list[Any] = []
        self._open: set[str] = set()
        self._until_s = 0.0
        self.replaces = False

    def ask(self, controllers: Iterable[Listener]) -> None:
        """Ask those that are new; call often."""
        controllers = tuple(controllers)
        if controllers != self._asked:
            self.destroy()
            self._asked, self.replaces = controllers, False
            self._open = {listener.node for listener in controllers if not listener.problem}
            self._until_s = self._steady_s() + _PATIENCE_S
            for name in self._open:
                self._clients[name] = self._node.create_client(GetParameters, f"{name}/get_parameters")
        for name, client in list(self._clients.items()):
            if client.service_is_ready():
                self._called.append(self._clients.pop(name))
                future = client.call_async(GetParameters.Request(names=[PARAMETER]))
                future.add_done_callback(lambda future, name=name, asked=controllers: self._hear(name, asked, future))

    @property
    def waiting(self) -> Rejection | None:
        """Say that an answer is outstanding, for a while; None: it is known as well as it can be."""
        if not self._open or self._steady_s() > self._until_s:
            return None
        sentence = f"{' and '.join(sorted(self._open))} is being asked for {PARAMETER}"
        return Rejection(Cause.NO_CONTROLLER, Response.HOLD, sentence)

    def destroy(self) -> None:
        """End what was created on the node."""
        for client in (*self._clients.values(), *self._called):
            self._node.destroy_client(client)
        self._clients, self._called = {}, []

    def _hear(self, name: str, asked: tuple[Listener, ...], future: Any) -> None:
        if asked != self._asked:  # of a controller that has gone meanwhile
            return
        self._open.discard(name)
        answer = None if future.cancelled() or future.exception() is not None else future.result()
        values = [] if answer is None else answer.values
        says_yes = any(value.type == ParameterType.PARAMETER_BOOL and value.bool_value for value in values)
        if says_yes and not self.replaces:
            self.replaces = True
            self._node.get_logger().info(
                f"{name} has {PARAMETER}: commands begin ahead of now, and are planned with a part of the limits"
            )

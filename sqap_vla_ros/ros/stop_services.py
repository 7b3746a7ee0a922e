# Copyright 2026 The sqap_vla maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""The services `~/stop` and `~/resume`, which answer in every state of the node."""

from collections.abc import Callable

from rclpy.node import Node
from std_srvs.srv import Trigger

from sqap_vla_ros.core.clock import Clock
from sqap_vla_ros.core.rejection import Cause, Rejection, Response
from sqap_vla_ros.ros.control_loop import ControlLoop


class StopServices:
    """
    A person stops the arm, or lets it go on.

    :param node: Owner of the services.
    :param loop: Returns the control loop; None while the node is not configured.
    :param clock: For what else keeps the arm from moving.
    :param on_stop: Called after the arm was stopped.

    :ivar stopped: Why the arm was stopped until somebody resumes; it outlives the configuration that it came in.
    """

    def __init__(
        self, node: Node, loop: Callable[[], ControlLoop | None], clock: Clock, on_stop: Callable[[], None]
    ) -> None:
        self.stopped: Rejection | None = None
        self._loop = loop
        self._clock = clock
        self._on_stop = on_stop
        self._log = node.get_logger()
        handlers = {"~/stop": self._handle_stop, "~/resume": self._handle_resume}
        self._services = [node.create_service(Trigger, name, handle) for name, handle in handlers.items()]

    def serve_waiting(self) -> None:
        """Answer the calls that wait, while the executor stands still: a policy is being loaded for minutes."""
        for service in self._services:
            while True:
                with service.handle:
                    request, header = service.handle.service_take_request(Trigger.Request) or (None, None)
                if request is None:
                    break
                service.send_response(service.callback(request, Trigger.Response()), header)

    def _handle_stop(self, _: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        """Nothing moves from now on; also before the node is active, or configured."""
        self.stopped = Rejection(Cause.STOPPED_BY_USER, Response.STOP, "stopped by ~/stop")
        loop = self._loop()
        if loop is not None:
            loop.supervisor.stop(self.stopped)
        self._on_stop()
        response.success, response.message = True, f"{self.stopped.sentence}; call ~/resume to go on"
        return response

    def _handle_resume(self, _: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        """Undo a stop; the answer says what else keeps the arm from moving."""
        loop, waiting = self._loop(), None
        if loop is None:
            response.success = self.stopped is not None
        else:
            response.success, waiting = loop.supervisor.resume(), loop.supervisor.inhibit(self._clock.now_ns())
        self.stopped = None
        response.message = "resumed" if response.success else "it was not stopped"
        if waiting is not None:
            response.message += f"; waiting: {waiting.sentence}"
        self._log.info(f"~/resume: {response.message}")
        return response

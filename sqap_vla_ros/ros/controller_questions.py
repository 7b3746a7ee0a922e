# Copyright 2026 The sqap_vla maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""Asks a controller for its settings, and its controller manager for its type and state."""

import time
from typing import Any

from rcl_interfaces.srv import GetParameters, ListParameters
from rclpy.executors import Executor
from rclpy.node import Node
from rclpy.parameter import parameter_value_to_python

from sqap_vla_ros.ros.controller_facts import ControllerFacts, asked_for

_LIST_CONTROLLERS = "controller_manager_msgs/srv/ListControllers"
# The services of a node that is there answer in milliseconds; a node that does not spin never does.
_PATIENCE_S = 2.0


class _NoAnswerError(Exception):
    """A service did not answer; the message says which."""


def ask(node: Node, executor: Executor, name: str) -> ControllerFacts:
    """
    Ask a controller.

    :param node: Who asks; it is in the executor.
    :param executor: Spun until the answers are there.
    :param name: Fully qualified name of the controller's node.
    """
    state = kind = unmanaged = silent = ""
    parameters: dict[str, Any] = {}
    try:
        kind, state = _of_manager(node, executor, name)
    except _NoAnswerError as missing:
        unmanaged = str(missing)
    try:
        parameters = _parameters(node, executor, name)
    except _NoAnswerError as missing:
        silent = str(missing)
    return ControllerFacts(name, kind, state, unmanaged, parameters, silent)


def _of_manager(node: Node, executor: Executor, name: str) -> tuple[str, str]:
    """Type and state of a controller, from the first controller manager that has one of its name."""
    managers = [service for service, types in node.get_service_names_and_types() if _LIST_CONTROLLERS in types]
    if not managers:
        raise _NoAnswerError("there is no controller manager")
    try:
        from controller_manager_msgs.srv import ListControllers
    except ImportError:
        raise _NoAnswerError(
            "its controller manager can only be asked with ros-$ROS_DISTRO-controller-manager-msgs installed"
        ) from None
    namespace, _, base = name.rpartition("/")
    # The manager of the controller's own namespace first: another arm's may have a controller of the same name.
    for manager in sorted(managers, key=lambda service: not service.startswith(f"{namespace}/")):
        answer = _call(node, executor, ListControllers, manager, ListControllers.Request())
        for controller in answer.controller:
            if controller.name == base:
                return controller.type, controller.state
    raise _NoAnswerError(f"the controller manager of {managers[0].rpartition('/')[0]} does not have it")


def _parameters(node: Node, executor: Executor, name: str) -> dict[str, Any]:
    listed = _call(node, executor, ListParameters, f"{name}/list_parameters", ListParameters.Request())
    names = asked_for(list(listed.result.names))
    values = _call(node, executor, GetParameters, f"{name}/get_parameters", GetParameters.Request(names=names)).values
    return {key: parameter_value_to_python(value) for key, value in zip(names, values, strict=False)}


def _call(node: Node, executor: Executor, kind: Any, service: str, request: Any) -> Any:
    client = node.create_client(kind, service)
    try:
        end_s = time.monotonic() + _PATIENCE_S
        while not client.service_is_ready():
            if time.monotonic() > end_s:
                raise _NoAnswerError(f"there is no service {service}")
            executor.spin_once(timeout_sec=0.05)
        future = client.call_async(request)
        executor.spin_until_future_complete(future, timeout_sec=_PATIENCE_S)
        if not future.done() or future.result() is None:
            raise _NoAnswerError(f"{service} does not answer within {_PATIENCE_S:g} s")
        return future.result()
    finally:
        node.destroy_client(client)

# Copyright 2026 The sqap_vla maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""
`Configuration` as ROS parameters: each declared with its type, range and description.

A wrong value must not stop the node from starting: it is kept as it came, and `configure` fails with a sentence that
names it. So values go through pydantic, not through rclpy's own range check, which throws in the constructor.
"""

import sys
from collections.abc import Mapping
from typing import Annotated, Any, Literal, get_args, get_origin

from pydantic import TypeAdapter, ValidationError
from pydantic.fields import FieldInfo
from rcl_interfaces.msg import FloatingPointRange, IntegerRange, ParameterDescriptor, SetParametersResult
from rclpy.node import Node
from rclpy.parameter import Parameter

from sqap_vla_ros.config.files import ConfigurationError
from sqap_vla_ros.config.robot import Configuration
from sqap_vla_ros.config.settings import flat_fields, shown, unknown_name, validate

# Parameters that rclpy or the launch system own, not this node.
_FOREIGN = ("use_sim_time", "autostart", "exit_on_failure", "start_type_description_service")
# Which inputs may be queued, lost or latched is part of how the node stays safe, and what it asks for matches any
# publisher but of latched topics: there is nothing to gain by an override.
_NO_QOS_OVERRIDES = (
    "the node has no overrides of quality of service; its own match those of every publisher (but a latched topic must "
    "be latched): remove it, or override that of the other node"
)
_ALWAYS_SETTABLE = frozenset({"instruction", "dry_run"})


class NodeParameters:
    """
    Declares all settings on a node and keeps their values, valid or not.

    :param node: The node to declare them on.
    :param on_change: Called with the name and the new value of a setting that changed while the node is configured.
    """

    def __init__(self, node: Node, on_change: Any) -> None:
        self._node = node
        self._on_change = on_change
        self._values: dict[str, Any] = {}
        self.locked = False
        # rclpy has no public way to see overrides of parameters that are not declared (checked with 7.1.6 of Jazzy).
        overrides = {name: parameter.value for name, parameter in node._parameter_overrides.items()}
        known = dict(flat_fields(Configuration))
        self._unknown = [name for name in overrides if name not in known and name not in _FOREIGN]
        for name, field in known.items():
            value = field.default
            if name in overrides:
                self._values[name] = overrides[name]
                if not _problem(overrides[name], field):
                    value = _typed(field).validate_python(overrides[name])
            kind = _parameter_type(field.annotation)
            if isinstance(value, tuple):
                value = list(value) or kind  # of an empty list rclpy cannot tell the type: it is declared without one
            node.declare_parameter(name, value, _descriptor(name, field, kind), ignore_override=True)
        node.add_on_set_parameters_callback(self._set)

    def configuration(self) -> Configuration:
        """
        Return the settings as they stand; all topics have absolute names.

        :raises ConfigurationError: A name that is no setting, a wrong type, a value out of range: one sentence each.
        """
        if self._unknown:
            known = [*_FOREIGN, *(name for name, _ in flat_fields(Configuration))]
            sentences = (
                f"'{name}': {_NO_QOS_OVERRIDES}" if name.startswith("qos_overrides.") else unknown_name(name, known)
                for name in self._unknown
            )
            raise ConfigurationError("parameters: " + "; ".join(sentences))
        configuration = validate(Configuration, self._values, "parameters")
        return configuration.in_namespace(self._node.get_namespace(), self._node.get_name())

    def _set(self, parameters: list[Parameter]) -> SetParametersResult:
        known = dict(flat_fields(Configuration))
        changes = {parameter.name: parameter.value for parameter in parameters if parameter.name in known}
        frozen = sorted(set(changes) - _ALWAYS_SETTABLE) if self.locked else []
        if frozen:
            reason = f"{', '.join(frozen)} cannot change while the node is configured: deactivate and clean up first"
            return SetParametersResult(successful=False, reason=reason)
        # Settings that belong together may come one by one: whether they fit each other is for `configure` to say.
        for name, value in changes.items():
            if problem := _problem(value, known[name]):
                return SetParametersResult(successful=False, reason=f"{name} = {shown(value)}: {problem}")
        self._values |= changes
        for name, value in changes.items():
            self._on_change(name, value)
        return SetParametersResult(successful=True)


def _parameter_type(annotation: Any) -> Parameter.Type:
    if get_origin(annotation) is tuple:
        element = _parameter_type(get_args(annotation)[0])
        return Parameter.Type.STRING_ARRAY if element is Parameter.Type.STRING else Parameter.Type.DOUBLE_ARRAY
    if get_origin(annotation) is Literal:
        annotation = type(get_args(annotation)[0])
    while get_args(annotation):  # Annotated[float, ...]
        annotation = get_args(annotation)[0]
    types = {bool: Parameter.Type.BOOL, int: Parameter.Type.INTEGER, str: Parameter.Type.STRING}
    return types.get(annotation, Parameter.Type.DOUBLE)


def _typed(field: FieldInfo) -> TypeAdapter[Any]:
    annotated: Any = Annotated[field.annotation, field]
    return TypeAdapter(annotated)


def _problem(value: Any, field: FieldInfo) -> str:
    """Why a setting cannot have this value (YAML's `5` is a fine 5.0); an empty string when it can."""
    try:
        _typed(field).validate_python(value)
    except ValidationError as error:
        return error.errors()[0]["msg"]
    return ""


def _descriptor(name: str, field: FieldInfo, kind: Parameter.Type) -> ParameterDescriptor:
    bounds: Mapping[str, float] = {
        side: getattr(constraint, side)
        for constraint in field.metadata
        for side in ("ge", "gt", "le", "lt")
        if hasattr(constraint, side)
    }
    low, high = bounds.get("ge", bounds.get("gt")), bounds.get("le", bounds.get("lt"))
    # rclpy's own check runs on later sets: it must not be stricter than pydantic's, and an open end is a huge number.
    descriptor = ParameterDescriptor(name=name, type=kind.value, description=field.description or "")
    if get_origin(field.annotation) is Literal:
        descriptor.additional_constraints = "one of: " + ", ".join(str(v) for v in get_args(field.annotation))
    elif kind == Parameter.Type.DOUBLE and (low is not None or high is not None):
        descriptor.floating_point_range = [
            FloatingPointRange(
                from_value=float(-sys.float_info.max if low is None else low),
                to_value=float(sys.float_info.max if high is None else high),
            )
        ]
    elif kind == Parameter.Type.INTEGER and (low is not None or high is not None):
        descriptor.integer_range = [
            IntegerRange(from_value=int(low or 0), to_value=int(2**31 - 1 if high is None else high))
        ]
    return descriptor

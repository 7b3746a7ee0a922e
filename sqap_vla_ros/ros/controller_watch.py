# Copyright 2026 The sqap_vla maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""Watches the ROS graph for the controller that listens on a command topic."""

import time
from collections.abc import Callable
from typing import Any

from rclpy.duration import Infinite
from rclpy.node import Node
from rclpy.qos import (
    DurabilityPolicy,
    LivelinessPolicy,
    QoSCompatibility,
    QoSProfile,
    ReliabilityPolicy,
    qos_check_compatible,
)

from sqap_vla_ros.core.rejection import Rejection
from sqap_vla_ros.ros.controller_identity import Audience, ControllerPresence, Listener, audience, publishes_its_own

# To ask the graph for endpoints takes most of a millisecond: it is done when a count has changed and for a while after
# it (the graph may be behind), and now and then (a controller that is started again at once changes no count).
_SETTLES_S = 0.5
_LOOK_PERIOD_S = 0.25
# What the node publishes commands with.
_OFFERED = QoSProfile(
    depth=1,
    reliability=ReliabilityPolicy.RELIABLE,
    durability=DurabilityPolicy.VOLATILE,
    lifespan=Infinite,
    deadline=Infinite,
    liveliness=LivelinessPolicy.AUTOMATIC,
    liveliness_lease_duration=Infinite,
)


def look(node: Node, topic: str, kind: type, named: str) -> Audience:
    """
    See who listens on a command topic, and which of them is the controller.

    :param node: Whose graph is looked at.
    :param topic: Absolute name.
    :param kind: Class of the messages that are published.
    :param named: Node of the controller, from the robot file; relative names are in its namespace. Empty: not named.
    """
    found = node.get_subscriptions_info_by_topic(topic)
    listeners = [Listener(_full_name(info), bytes(info.endpoint_gid), _problem(info, kind)) for info in found]
    absolute = named if not named or named.startswith("/") else f"{node.get_namespace().rstrip('/')}/{named}"

    def publishes(name: str) -> bool:
        namespace, _, base = name.rpartition("/")
        try:
            topics = node.get_publisher_names_and_types_by_node(base, namespace or "/")
        except Exception:  # it has just gone, or its name is not known yet
            return False
        return publishes_its_own(topic for topic, _ in topics)

    return audience(topic, listeners, absolute, publishes)


def _full_name(info: Any) -> str:
    return f"{info.node_namespace.rstrip('/')}/{info.node_name}"


def _problem(info: Any, kind: type) -> str:
    ours = f"{kind.__module__.partition('.')[0]}/msg/{kind.__name__}"
    if info.topic_type != ours:
        return f"takes {info.topic_type} and the node publishes {ours}: see command.output"
    compatibility, reason = qos_check_compatible(_OFFERED, info.qos_profile)
    if compatibility != QoSCompatibility.ERROR:  # rclpy's own enumeration, not the same object
        return ""
    reason = reason.removeprefix("ERROR: ").rstrip(";")
    return f"asks for another quality of service than reliable and volatile ({reason})"


class ControllerWatch:
    """
    The controller on one command topic.

    :param node: Owner of the publisher.
    :param publisher: Publishes the commands.
    :param kind: Class of the messages.
    :param named: Node of the controller, from the robot file; empty: it is recognised by its name.
    :param steady_s: A clock that nobody can set [s].
    """

    def __init__(
        self, node: Node, publisher: Any, kind: type, named: str, steady_s: Callable[[], float] = time.monotonic
    ) -> None:
        self._node = node
        self._publisher = publisher
        self._kind = kind
        self._named = named
        self._steady_s = steady_s
        self._presence = ControllerPresence(Audience(publisher.topic_name))
        self._counts = (0, 0)
        self._changed_s = self._looked_s = -float("inf")

    def has_lost(self) -> bool:
        """Whether a controller has gone since the last call, or was started again."""
        now_s, counts = self._steady_s(), self._count()
        if counts != self._counts:
            self._counts, self._changed_s = counts, now_s
        if now_s - self._changed_s > _SETTLES_S and now_s - self._looked_s < _LOOK_PERIOD_S:
            return False
        self._looked_s = now_s
        return self._presence.see(look(self._node, self._publisher.topic_name, self._kind, self._named))

    @property
    def no_controller(self) -> Rejection | None:
        """Why commands reach no controller; None when they do, as `has_lost` saw it last."""
        return self._presence.audience.no_controller

    @property
    def controllers(self) -> tuple[Listener, ...]:
        """Return the controller's subscriptions, as `has_lost` saw them last."""
        return self._presence.audience.controllers

    @property
    def names(self) -> str:
        """Names of the controller's node; of all that may be one where it is not known; empty: there is none."""
        return self._presence.audience.names

    def _count(self) -> tuple[int, int]:
        """Count the subscribers that the publisher is connected to, and all in the graph."""
        return self._publisher.get_subscription_count(), self._node.count_subscribers(self._publisher.topic_name)

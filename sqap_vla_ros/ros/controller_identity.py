# Copyright 2026 The sqap_vla maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""
Which of those who listen on a command topic is the controller.

Anybody may listen to commands: a recorder, Foxglove, `ros2 topic echo`. Only the controller moves anything, so whether
it is there, has gone or was started again is judged by its own endpoint, whoever else comes and goes. In this order:

    1. the node that the robot file names
    2. the node that the topic is named after, as `/arm_controller/joint_trajectory` of `/arm_controller`
    3. every node that may be one: it has no name of a tool that watches, and publishes something of its own
"""

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from sqap_vla_ros.core.rejection import Cause, Rejection, Response

_WATCHES = re.compile(
    "^_|record|rosbag|foxglove|rosbridge|rosapi|rqt|plotjuggler|rviz|rerun|mcap|(^|_)echo|logger|monitor|sqap_vla_doctor"
)
# What every node publishes, and rosbag2's recorder.
_NOT_ITS_OWN = re.compile("/(rosout|parameter_events|transition_event|events/.*)$")


@dataclass(frozen=True)
class Listener:
    """
    A subscription to a command topic.

    :ivar node: Fully qualified name of its node.
    :ivar endpoint: Its identity; that of a node which was started again is another one.
    :ivar problem: Why it cannot receive what is published, to be read after its name; empty: it receives it.
    """

    node: str
    endpoint: bytes
    problem: str = ""


def publishes_its_own(topics: Iterable[str]) -> bool:
    """Whether a node publishes more than every node does, from the names of its topics."""
    return any(_NOT_ITS_OWN.search(topic) is None for topic in topics)


@dataclass(frozen=True)
class Audience:
    """
    Those who listen on a command topic.

    :ivar topic: Absolute name.
    :ivar controllers: Subscriptions of the controller; of all that may be one where it is not known.
    :ivar others: Names of the other nodes.
    :ivar wanted: The node that would be the controller; empty where neither robot file nor topic names one.
    :ivar is_known: Whether the controller was recognised by its name.
    """

    topic: str
    controllers: tuple[Listener, ...] = ()
    others: tuple[str, ...] = ()
    wanted: str = ""
    is_known: bool = False

    @property
    def names(self) -> str:
        """Name the controllers' nodes."""
        return " and ".join(sorted({listener.node for listener in self.controllers}))

    @property
    def no_controller(self) -> Rejection | None:
        """Why commands reach no controller; None when they do."""
        if not self.controllers:
            return Rejection(Cause.NO_CONTROLLER, Response.HOLD, self._missing)
        problems = [f"{listener.node} {listener.problem}" for listener in self.controllers if listener.problem]
        if len(problems) == len(self.controllers):
            return Rejection(Cause.CONTROLLER_INCOMPATIBLE, Response.HOLD, problems[0])
        return None

    @property
    def _missing(self) -> str:
        if not self.others:
            return f"nothing listens on {self.topic}: is the controller active?"
        wanted = f"{self.wanted} does not" if self.wanted else "none of them seems to be a controller"
        return (
            f"on {self.topic} listens only {' and '.join(self.others)}, and {wanted}: start the controller, or name "
            "its node in the robot file (command.controller, command.gripper_controller)"
        )


def audience(
    topic: str, listeners: Iterable[Listener], named: str, publishes: Callable[[str], bool] = lambda node: True
) -> Audience:
    """
    Tell the controller from the others.

    :param topic: Absolute name of the command topic.
    :param listeners: All its subscriptions.
    :param named: Absolute name of the controller's node from the robot file; empty: it is to be recognised.
    :param publishes: Whether a node, by its name, publishes something of its own.
    """
    listeners = sorted(listeners, key=lambda listener: (listener.node, listener.endpoint))
    nodes = {listener.node for listener in listeners}
    namesakes = [node for node in nodes if topic.startswith(f"{node}/")]
    wanted = named or max(namesakes, key=len, default=topic.rpartition("/")[0])
    is_known = wanted in nodes
    if is_known or named:
        chosen = {wanted}
    else:
        chosen = {node for node in nodes if not _WATCHES.search(node.rpartition("/")[2]) and publishes(node)}
    controllers = tuple(listener for listener in listeners if listener.node in chosen)
    return Audience(topic, controllers, tuple(sorted(nodes - chosen)), wanted, is_known)


@dataclass
class ControllerPresence:
    """
    Notices when a controller that was there has gone, or was started again.

    :ivar audience: As seen last.
    """

    audience: Audience
    _known: dict[str, bytes] = field(default_factory=dict)  # endpoint that receives commands, by node

    def see(self, audience: Audience) -> bool:
        """Take note of who listens now; returns whether a controller's endpoint has gone since the last call."""
        self.audience = audience
        reached = [listener for listener in audience.controllers if not listener.problem]
        there = {(listener.node, listener.endpoint) for listener in reached}
        gone = [node for node, endpoint in self._known.items() if (node, endpoint) not in there]
        for node in gone:
            del self._known[node]
        for listener in reached:
            self._known.setdefault(listener.node, listener.endpoint)
        return bool(gone)

# Copyright 2026 The sqap_vla maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""The node's own subscriptions for a few seconds, without the node: what it would receive goes to a sink."""

import time
from collections import deque
from collections.abc import Callable
from dataclasses import replace
from typing import Protocol, TypeVar

from rclpy.clock import Clock, ClockType
from rclpy.context import Context
from rclpy.executors import Executor, SingleThreadedExecutor
from rclpy.node import Node
from rclpy.parameter import Parameter
from trajectory_msgs.msg import JointTrajectory

from sqap_vla_ros.config.names import absolute_name
from sqap_vla_ros.config.robot import Configuration
from sqap_vla_ros.ros.arm_publishers import ARM_TYPES, GRIPPER_ACTIONS, offered_actions
from sqap_vla_ros.ros.controller_facts import Controllers
from sqap_vla_ros.ros.controller_questions import ask
from sqap_vla_ros.ros.controller_watch import look
from sqap_vla_ros.ros.logging_directory import require_logging_directory
from sqap_vla_ros.ros.subscriptions import Receiver, Subscriptions

_NAME = "sqap_vla_doctor"
_WATCH_PERIOD_S = 0.2


class Sink(Receiver, Protocol):
    """Takes everything that the node would receive."""

    def poll(self) -> None:
        """Look again, after each message that may let a waiting image go on."""

    def take_robot_description(self, text: str) -> None:
        """Take the URDF text of the arm."""

    def take_instruction(self, text: str) -> None:
        """Take an instruction."""


AnySink = TypeVar("AnySink", bound=Sink)


def listen(
    make_sink: Callable[[Callable[[], int]], AnySink],
    seconds: float,
    use_sim_time: bool,
    namespace: str,
    on_progress: Callable[[float], None],
) -> tuple[AnySink, Controllers]:
    """
    Receive what the node would receive.

    :param make_sink: Makes the sink, from a function that returns the time of the ROS clock in nanoseconds.
    :param seconds: How long to listen.
    :param use_sim_time: Whether stamps are of a simulated clock, /clock.
    :param namespace: Of the node.
    :param on_progress: Called with the seconds that have passed.

    :returns: The sink, and the controllers of arm and gripper.
    """
    require_logging_directory()
    context = Context()
    context.init(["--ros-args", "--remap", f"{_NAME}:~/instruction:={absolute_name('~/instruction', namespace)}"])
    try:
        simulated = Parameter("use_sim_time", value=use_sim_time)
        node = Node(_NAME, namespace=namespace, context=context, parameter_overrides=[simulated])
        executor = SingleThreadedExecutor(context=context)
        executor.add_node(node)
        factors: deque[float] = deque(maxlen=1)
        sink = make_sink(lambda: node.get_clock().now().nanoseconds)
        inputs = Subscriptions(
            node,
            sink,
            on_input=sink.poll,
            on_robot_description=sink.take_robot_description,
            on_instruction=sink.take_instruction,
            on_enable=lambda enabled: None,  # nothing moves here
            on_speed_scaling=lambda factor, is_of_broadcaster: factors.append(factor),
        )
        # Steady time: a simulated clock may stand still.
        node.create_timer(_WATCH_PERIOD_S, inputs.watch_image_topic, clock=Clock(clock_type=ClockType.STEADY_TIME))
        start_s = time.monotonic()
        while (passed_s := time.monotonic() - start_s) < seconds:
            on_progress(passed_s)
            executor.spin_once(timeout_sec=0.1)
        controllers = replace(_controllers(node, executor, sink.configuration), speed_scaling=next(iter(factors), None))
        executor.shutdown()
        inputs.destroy()
        node.destroy_node()
    finally:
        context.shutdown()
    return sink, controllers


def _controllers(node: Node, executor: Executor, configuration: Configuration) -> Controllers:
    """Who moves arm and gripper, and what they say about themselves."""
    topics, command = configuration.topics, configuration.command
    arm = look(node, node.resolve_topic_name(topics.command), ARM_TYPES[command.output], command.controller)
    names = {"command": {listener.node for listener in arm.controllers}}
    gripper = actions = None
    if topics.gripper_command:
        topic = node.resolve_topic_name(topics.gripper_command)
        if command.gripper_output in GRIPPER_ACTIONS:
            actions = offered_actions(node, topic)
            names["gripper_command"] = {topic.rpartition("/")[0]} & _nodes(node)
        else:
            gripper = look(node, topic, JointTrajectory, command.gripper_controller)
            names["gripper_command"] = {listener.node for listener in gripper.controllers}
    # Where it is not known which node is the controller, none is asked: it would not be known whose answer that is.
    facts = {setting: ask(node, executor, *nodes) for setting, nodes in names.items() if len(nodes) == 1}
    return Controllers(arm, gripper, actions, facts)


def _nodes(node: Node) -> set[str]:
    """Fully qualified names of all nodes."""
    return {f"{namespace.rstrip('/')}/{name}" for name, namespace in node.get_node_names_and_namespaces()}

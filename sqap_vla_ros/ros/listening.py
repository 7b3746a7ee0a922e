"""The node's own subscriptions for a few seconds, without the node: what it would receive goes to a sink."""

import time
from collections.abc import Callable
from typing import Protocol, TypeVar

from rclpy.clock import Clock, ClockType
from rclpy.context import Context
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.parameter import Parameter

from sqap_vla_ros.config.robot import Configuration
from sqap_vla_ros.ros.subscriptions import Receiver, Subscriptions

_NAME = "sqap_vla_doctor"
_WATCH_PERIOD_S = 0.2


class Sink(Receiver, Protocol):
    """Takes everything that the node would receive."""

    def poll(self) -> None:
        """Called after each message that may let a waiting image go on."""

    def take_robot_description(self, text: str) -> None:
        """Take the URDF text of the arm."""

    def take_instruction(self, text: str) -> None:
        """Take an instruction."""


AnySink = TypeVar("AnySink", bound=Sink)


def listen(
    make_sink: Callable[[Callable[[], int]], AnySink],
    seconds: float,
    use_sim_time: bool,
    on_progress: Callable[[float], None],
) -> tuple[AnySink, dict[str, int]]:
    """Receive what the node would receive.

    Args:
        make_sink: Makes the sink, from a function that returns the time of the ROS clock in nanoseconds.
        seconds: How long to listen.
        use_sim_time: Whether stamps are of a simulated clock, /clock.
        on_progress: Called with the seconds that have passed.

    Returns:
        The sink, and the number of subscribers of arm and gripper, by the setting that names their topic.
    """
    context = Context()
    context.init(["--ros-args", "--remap", f"{_NAME}:~/instruction:=/sqap_vla/instruction"])
    try:
        node = Node(_NAME, context=context, parameter_overrides=[Parameter("use_sim_time", value=use_sim_time)])
        executor = SingleThreadedExecutor(context=context)
        executor.add_node(node)
        sink = make_sink(lambda: node.get_clock().now().nanoseconds)
        inputs = Subscriptions(
            node,
            sink,
            on_input=sink.poll,
            on_robot_description=sink.take_robot_description,
            on_instruction=sink.take_instruction,
            on_enable=lambda enabled: None,  # nothing moves here
        )
        # Steady time: a simulated clock may stand still.
        node.create_timer(_WATCH_PERIOD_S, inputs.watch_image_topic, clock=Clock(clock_type=ClockType.STEADY_TIME))
        start_s = time.monotonic()
        while (passed_s := time.monotonic() - start_s) < seconds:
            on_progress(passed_s)
            executor.spin_once(timeout_sec=0.1)
        controllers = _subscribers(node, sink.configuration)
        executor.shutdown()
        inputs.destroy()
        node.destroy_node()
    finally:
        context.shutdown()
    return sink, controllers


def _subscribers(node: Node, configuration: Configuration) -> dict[str, int]:
    """Number of subscribers of arm and gripper, by the setting that names their topic."""
    topics = configuration.topics
    found = {"command": node.count_subscribers(topics.command)}
    if topics.gripper_command and configuration.command.gripper_output == "action":
        goals = f"{topics.gripper_command}/_action/send_goal"
        found["gripper_command"] = sum(name == goals for name, _ in node.get_service_names_and_types())
    elif topics.gripper_command:
        found["gripper_command"] = node.count_subscribers(topics.gripper_command)
    return found

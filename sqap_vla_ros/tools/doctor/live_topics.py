"""A few seconds of the node's own subscriptions, without the node: what a live set-up says to the doctor."""

import time
from collections.abc import Callable
from typing import Any

from rclpy.clock import Clock, ClockType
from rclpy.context import Context
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.parameter import Parameter

from sqap_vla_ros.config.robot import Configuration
from sqap_vla_ros.control.commander import JointState
from sqap_vla_ros.control.kinematics import Kinematics
from sqap_vla_ros.core.errors import in_one_line
from sqap_vla_ros.ros.inputs import Inputs
from sqap_vla_ros.tools.doctor.evidence import Evidence

_NAME = "sqap_vla_doctor"
_WATCH_PERIOD_S = 0.2


class _Witness:
    """Hands what the subscriptions receive to the evidence, with the time of arrival on the ROS clock."""

    def __init__(self, evidence: Evidence, now_ns: Callable[[], int]) -> None:
        self.configuration = evidence.configuration
        self.joint_state: JointState | None = None
        self.no_joint_state_reason = f"no joint states received on {self.configuration.topics.joint_states}"
        self._evidence = evidence
        self._now_ns = now_ns

    def offer_image(self, message: Any) -> str:
        self._evidence.add_image(message, self._now_ns())
        return ""

    def set_camera_info(self, message: Any) -> bool:
        self._evidence.add_camera_info(message)
        return False  # its findings tell of several

    def add_transforms(self, message: Any, static: bool) -> tuple[str, ...]:
        self._evidence.add_transforms(message, static, self._now_ns())
        return ()

    def take_joint_state(self, state: JointState) -> None:
        self.joint_state = state

    def refuse_joint_states(self, reason: str) -> None:
        self.no_joint_state_reason = reason

    def measure_tool(self) -> None:
        pass  # the evidence is of the transforms themselves

    def poll(self) -> None:
        self._evidence.poll(self._now_ns())


def _listeners(node: Node, configuration: Configuration) -> dict[str, int]:
    """How many listen to arm and gripper, by the setting that names their topic."""
    topics = configuration.topics
    found = {"command": node.count_subscribers(topics.command)}
    if topics.gripper_command and configuration.command.gripper_output == "action":
        goals = f"{topics.gripper_command}/_action/send_goal"
        found["gripper_command"] = sum(name == goals for name, _ in node.get_service_names_and_types())
    elif topics.gripper_command:
        found["gripper_command"] = node.count_subscribers(topics.gripper_command)
    return found


def listen(
    configuration: Configuration, seconds: float, use_sim_time: bool, on_progress: Callable[[float], None]
) -> Evidence:
    """Receive what the node would receive.

    Args:
        configuration: Topics, frames, and where the robot's model comes from.
        seconds: How long.
        use_sim_time: Whether stamps are of a simulated clock, /clock.
        on_progress: Told the seconds that have passed.
    """
    evidence = Evidence(configuration)
    missing = f"none received on {configuration.topics.robot_description}"
    evidence.robot_problem = "" if configuration.command.moves_tool else missing

    def take_robot(model: str) -> None:
        frames = configuration.frames
        try:
            Kinematics(model, configuration.command.joints, frames.base, frames.tool)
        except Exception as error:  # whatever a robot description makes a parser do
            evidence.robot_problem = in_one_line(error)
        else:
            evidence.robot_problem = ""

    if configuration.command.robot_model:
        take_robot(configuration.command.robot_model)
    context = Context()
    context.init(["--ros-args", "--remap", f"{_NAME}:~/instruction:=/sqap_vla/instruction"])
    try:
        node = Node(_NAME, context=context, parameter_overrides=[Parameter("use_sim_time", value=use_sim_time)])
        executor = SingleThreadedExecutor(context=context)
        executor.add_node(node)
        witness = _Witness(evidence, lambda: node.get_clock().now().nanoseconds)
        inputs = Inputs(
            node,
            witness,
            on_input=witness.poll,
            on_robot_description=take_robot,
            on_instruction=evidence.add_instruction,
            on_enable=lambda enabled: None,  # whether it may move is not asked
        )
        # Steady time: a simulated clock may stand still.
        node.create_timer(_WATCH_PERIOD_S, inputs.watch_image_topic, clock=Clock(clock_type=ClockType.STEADY_TIME))
        start_s = time.monotonic()
        while (passed_s := time.monotonic() - start_s) < seconds:
            on_progress(passed_s)
            executor.spin_once(timeout_sec=0.1)
        evidence.listeners = _listeners(node, configuration)
        executor.shutdown()
        inputs.destroy()
        node.destroy_node()
    finally:
        context.shutdown()
    known = configuration.command.moves_tool or witness.joint_state is not None
    evidence.joint_problem = "" if known else witness.no_joint_state_reason
    return evidence

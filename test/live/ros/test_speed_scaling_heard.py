"""The speed scaling arrives over real topics, of UR's broadcaster and of a joint_trajectory_controller's own state."""

from collections.abc import Iterator

import pytest
import rclpy
from control_msgs.msg import JointTrajectoryControllerState
from rclpy.node import Node
from std_msgs.msg import Float64

from sqap_vla_ros.config.robot import Configuration, Topics
from sqap_vla_ros.ros.speed_scaling import subscribe

STATE = "/arm_controller/controller_state"


@pytest.fixture
def node() -> Iterator[Node]:
    rclpy.init()
    made = Node("listens_to_speed_scaling")
    yield made
    made.destroy_node()
    rclpy.shutdown()


def heard(node: Node, kind: type, topic: str, message: object, **topics: str) -> tuple[float, bool]:
    """What arrives of a message on a topic, sent until it does."""
    reports: list[tuple[float, bool]] = []
    configuration = Configuration(topics=Topics(command="/arm_controller/joint_trajectory", **topics))
    subscribe(node, configuration, lambda factor, broadcast: reports.append((factor, broadcast)))
    publisher = node.create_publisher(kind, topic, 10)
    for _ in range(200):
        publisher.publish(message)
        rclpy.spin_once(node, timeout_sec=0.05)
        if reports:
            return reports[0]
    raise TimeoutError(f"nothing arrives of {topic}")


def test_the_state_of_a_joint_trajectory_controller_is_heard(node: Node) -> None:
    message = JointTrajectoryControllerState(speed_scaling_factor=0.5)
    assert heard(node, JointTrajectoryControllerState, STATE, message) == (0.5, False)


def test_the_broadcaster_of_ur_is_heard_without_being_named(node: Node) -> None:
    assert heard(node, Float64, "/speed_scaling_state_broadcaster/speed_scaling", Float64(data=10.0)) == (0.1, True)


def test_the_topic_that_the_robot_file_names_is_heard(node: Node) -> None:
    assert heard(node, Float64, "/left/speed", Float64(data=90.0), speed_scaling="/left/speed") == (0.9, True)

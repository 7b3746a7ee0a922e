"""What the node's subscriptions receive where others publish as well, or have published once."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import rclpy
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, QoSProfile
from sensor_msgs.msg import CameraInfo, JointState
from std_msgs.msg import Bool

from sqap_vla_ros.config.robot import Configuration
from sqap_vla_ros.config.settings import validate
from sqap_vla_ros.control import commands
from sqap_vla_ros.core.policy import ONE_CAMERA
from sqap_vla_ros.ros.subscriptions import Subscriptions

LATCHED = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
ARM = ("a", "b")


class Sink:
    """Keeps what is received."""

    def __init__(self) -> None:
        settings = {"command.joints": ARM, "topics.enable": "/enable"}
        self.configuration = validate(Configuration, settings, "test")
        self.joint_state: commands.JointState | None = None
        self.infos: list[CameraInfo] = []
        self.switch: list[bool] = []
        self.needs = ONE_CAMERA
        self.reasons: list[str] = []

    def take_joint_state(self, state: commands.JointState) -> None:
        self.joint_state = state

    def set_camera_info(self, message: CameraInfo) -> bool:
        self.infos.append(message)
        return False

    def reject_joint_states(self, reason: str) -> None:
        self.reasons.append(reason)


class Bench:
    """A node's subscriptions, and another node that publishes."""

    def __init__(self) -> None:
        self.node, self.others, self.sink = Node("receiver"), Node("others"), Sink()
        self._inputs: Subscriptions | None = None

    def subscribe(self) -> None:
        receiver: Any = self.sink
        nothing: Any = lambda *_: None  # noqa: E731
        self._inputs = Subscriptions(self.node, receiver, nothing, nothing, nothing, self.sink.switch.append)

    def publisher(self, kind: type, topic: str, qos: QoSProfile | int = 100) -> Any:
        """One that the subscriptions have found."""
        publisher = self.others.create_publisher(kind, topic, qos)
        self.spin_until(lambda: self._inputs is None or publisher.get_subscription_count() > 0)
        return publisher

    def spin_until(self, condition: Any) -> None:
        for _ in range(600):
            if condition():
                return
            rclpy.spin_once(self.node, timeout_sec=0.05)
        raise AssertionError("waited in vain")

    def close(self) -> None:
        if self._inputs is not None:
            self._inputs.destroy()
        self.node.destroy_node()
        self.others.destroy_node()


@pytest.fixture
def bench(ros: None) -> Iterator[Bench]:
    bench = Bench()
    yield bench
    bench.close()


def joints(names: str, position: float, sec: int) -> JointState:
    message = JointState(name=list(names), position=[position] * len(names))
    message.header.stamp.sec = sec
    return message


def test_the_grippers_messages_do_not_displace_the_arms(bench: Bench) -> None:
    bench.subscribe()
    arm, gripper = (bench.publisher(JointState, "/joint_states") for _ in range(2))
    for sec in range(1, 4):  # the node is busy meanwhile
        arm.publish(joints("ab", float(sec), sec))
        for _ in range(20):
            gripper.publish(joints("f", 0.02, sec))
    bench.spin_until(lambda: bench.sink.joint_state is not None and bench.sink.joint_state.stamp_ns == 3 * 10**9)
    np.testing.assert_array_equal(bench.sink.joint_state.positions, 3.0)


def test_a_released_switch_counts_although_another_one_is_pressed(bench: Bench) -> None:
    bench.subscribe()
    switch = bench.publisher(Bool, "/enable")
    for pressed in (True, False, True):
        switch.publish(Bool(data=pressed))
    bench.spin_until(lambda: bench.sink.switch)
    assert False in bench.sink.switch


@pytest.mark.parametrize("qos", [LATCHED, 1], ids=["latched", "volatile"])
def test_a_calibration_is_received_latched_and_volatile(bench: Bench, qos: QoSProfile | int) -> None:
    info = CameraInfo(width=160, height=120)
    if qos is LATCHED:  # once, before there is a node
        bench.publisher(CameraInfo, "/camera/color/camera_info", LATCHED).publish(info)
        bench.subscribe()
    else:
        bench.subscribe()
        bench.publisher(CameraInfo, "/camera/color/camera_info").publish(info)
    bench.spin_until(lambda: bench.sink.infos)
    assert bench.sink.infos[0] == info

"""Two arms with the same robot file but for their frames and joints, each with a node in a namespace of its own."""

from collections.abc import Iterator

import pytest
from rclpy.executors import SingleThreadedExecutor
from rclpy.lifecycle import TransitionCallbackReturn
from rclpy.parameter import Parameter
from sqap_vla.msg import PolicyStatus
from std_srvs.srv import Trigger

from sqap_vla_ros.ros.node import PolicyNode
from sqap_vla_ros.testing.stub_policies import sleeping
from sqap_vla_ros.testing.synthetic_robot import JOINTS, SyntheticRobot, parameters


class Arm:
    """A robot and the node that drives it."""

    def __init__(self, side: str, executor: SingleThreadedExecutor) -> None:
        prefix = f"{side}_"
        values = parameters(
            instruction=f"wave with the {side} arm",
            **{
                "robot_name": side,
                "frames.base": f"{prefix}base",
                "frames.tool": f"{prefix}tool",
                "command.joints": [prefix + joint for joint in JOINTS],
            },
        )
        overrides = [Parameter(name, value=value) for name, value in values.items()]
        self.node = PolicyNode(sleeping, parameter_overrides=overrides, namespace=side)
        self.robot = SyntheticRobot(width=160, height=120, prefix=prefix, namespace=side)
        self.statuses: list[PolicyStatus] = []
        self.robot.create_subscription(PolicyStatus, "sqap_vla/status", self.statuses.append, 10)
        self.stop = self.robot.create_client(Trigger, "sqap_vla/stop")
        executor.add_node(self.node)
        executor.add_node(self.robot)

    def close(self) -> None:
        """End both nodes."""
        self.node.close()
        self.node.destroy_node()
        self.robot.destroy_node()


@pytest.fixture
def executor(ros: None) -> Iterator[SingleThreadedExecutor]:
    """What runs all nodes."""
    executor = SingleThreadedExecutor()
    yield executor
    executor.shutdown()


def test_each_node_moves_its_own_arm_and_stops_it_alone(
    executor: SingleThreadedExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Four nodes share one executor here: how promptly a trajectory arrives is not what is tested.
    monkeypatch.setattr("sqap_vla_ros.control.latency.TRANSPORT_NS", 150_000_000)
    left, right = arms = [Arm(side, executor) for side in ("left", "right")]

    def spin_until(condition: object) -> None:
        for _ in range(3000):
            if condition():  # type: ignore[operator]
                return
            executor.spin_once(timeout_sec=0.01)
        raise AssertionError([arm.statuses[-1:] for arm in arms])

    for arm in arms:
        assert arm.node.trigger_configure() == TransitionCallbackReturn.SUCCESS
        arm.node.trigger_activate()
    spin_until(lambda: all(len(arm.robot.commands) >= 5 for arm in arms))
    for arm, side in zip(arms, ("left", "right"), strict=True):
        assert {name.partition("_")[0] for command in arm.robot.commands for name in command.joint_names} == {side}
        assert arm.statuses[-1].instruction == f"wave with the {side} arm"
        assert not arm.robot.controller.rejections

    left.stop.call_async(Trigger.Request())
    spin_until(lambda: left.statuses[-1].state == PolicyStatus.STOPPED and left.robot.rests)
    commanded = len(left.robot.commands), len(right.robot.commands)
    spin_until(lambda: len(right.robot.commands) >= commanded[1] + 5)
    assert len(left.robot.commands) == commanded[0] and right.statuses[-1].state == PolicyStatus.RUNNING
    for arm in arms:
        arm.close()

"""A node under test and a synthetic robot, exchanging real messages in one executor."""

from collections.abc import Callable
from typing import Any

from rclpy.executors import SingleThreadedExecutor
from rclpy.lifecycle import TransitionCallbackReturn
from rclpy.parameter import Parameter
from rclpy.qos import DurabilityPolicy, QoSProfile
from sqap_vla.msg import ActionChunk, PolicyMetadata, PolicyStatus, TokenMask

from sqap_vla_ros.ros.node import PolicyNode
from sqap_vla_ros.testing.stub_policies import sleeping
from sqap_vla_ros.testing.synthetic_robot import SyntheticRobot, parameters

LATCHED = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)


class Cell:
    """Node, robot and what the node published.

    Args:
        factory: Builds the policy.
        settings: The node's parameters by dotted name, over those of the synthetic robot.
    """

    def __init__(self, factory: Any = sleeping, **settings: Any) -> None:
        values = parameters(**({"instruction": "pick up the can"} | settings))
        overrides = [Parameter(name, value=value) for name, value in values.items()]
        self.node = PolicyNode(factory, parameter_overrides=overrides)
        self.robot = SyntheticRobot(width=160, height=120)
        self.chunks: list[ActionChunk] = []
        self.masks: list[TokenMask] = []
        self.statuses: list[PolicyStatus] = []
        self.metadata: list[PolicyMetadata] = []
        for kind, topic, kept, qos in (
            (ActionChunk, "chunk", self.chunks, 50),
            (TokenMask, "token_mask", self.masks, 50),
            (PolicyStatus, "status", self.statuses, 50),
            (PolicyMetadata, "metadata", self.metadata, LATCHED),
        ):
            self.robot.create_subscription(kind, f"/sqap_vla/{topic}", kept.append, qos)
        self.executor = SingleThreadedExecutor()
        self.executor.add_node(self.node)
        self.executor.add_node(self.robot)

    @property
    def status(self) -> PolicyStatus:
        """The newest status."""
        self.spin_until(lambda: bool(self.statuses))
        return self.statuses[-1]

    def reports(self, state: int, cause: str) -> bool:
        """Whether the newest status has this state for this cause."""
        return self.status.state == state and self.status.cause == cause

    def forget_statuses(self) -> None:
        """Wait for a status that is stamped from now on: one on its way knows nothing of what has just happened."""
        now_ns = self.robot.get_clock().now().nanoseconds

        def is_new() -> bool:
            stamp = self.status.stamp
            return stamp.sec * 10**9 + stamp.nanosec >= now_ns

        self.spin_until(is_new)

    def configure(self) -> bool:
        """Whether configuring succeeded."""
        return self.node.trigger_configure() == TransitionCallbackReturn.SUCCESS

    def start(self) -> None:
        """Configure and activate."""
        assert self.configure()
        self.node.trigger_activate()

    def spin_until(self, condition: Callable[[], bool], deadline_s: float = 30.0) -> None:
        """Exchange messages until something is so; fails when it takes too long."""
        clock = self.robot.get_clock()
        end = clock.now().nanoseconds + deadline_s * 1e9
        while not condition():
            status = self.statuses[-1] if self.statuses else "none"
            assert clock.now().nanoseconds < end, f"waited {deadline_s} s; last status: {status}"
            self.executor.spin_once(timeout_sec=0.1)

    def spin_for_chunks(self, count: int) -> None:
        """Until so many more chunks were published."""
        wanted = len(self.chunks) + count
        self.spin_until(lambda: len(self.chunks) >= wanted and len(self.masks) >= wanted)

    def spin_for_statuses(self, count: int) -> None:
        """Until so many more statuses were published (five a second)."""
        wanted = len(self.statuses) + count
        self.spin_until(lambda: len(self.statuses) >= wanted)

    def close(self) -> None:
        """End both nodes."""
        self.node.close()
        self.executor.shutdown()
        self.node.destroy_node()
        self.robot.destroy_node()

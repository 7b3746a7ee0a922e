"""The clocks of a node."""

import time

from rclpy.node import Node


class RosClock:
    """The node's clock, and the machine's monotonic one.

    Args:
        node: Whose clock it is.
    """

    def __init__(self, node: Node) -> None:
        self._node = node

    def now_ns(self) -> int:
        """The ROS clock; 0: there is no time yet."""
        return int(self._node.get_clock().now().nanoseconds)

    def steady_ns(self) -> int:
        """A clock that nobody can set."""
        return time.monotonic_ns()

    def sleep(self, seconds: float) -> None:
        """Let steady time pass."""
        time.sleep(seconds)

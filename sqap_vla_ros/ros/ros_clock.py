# Copyright 2026 The sqap_vla maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""The clocks of a node."""

import time

from rclpy.node import Node


class RosClock:
    """
    The node's clock, and the machine's monotonic one.

    :param node: Whose clock it is.
    """

    def __init__(self, node: Node) -> None:
        self._node = node

    def now_ns(self) -> int:
        """Read the ROS clock; 0: there is no time yet."""
        return int(self._node.get_clock().now().nanoseconds)

    def steady_ns(self) -> int:
        """Read a clock that nobody can set."""
        return time.monotonic_ns()

    def sleep(self, seconds: float) -> None:
        """Let steady time pass."""
        time.sleep(seconds)

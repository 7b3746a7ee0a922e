# Copyright 2026 The sqap_vla maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""
Where the speed scaling of the arm's controller is heard: of UR's broadcaster, and in the controller's own state.

control_msgs, which the controller's state is of, does not come with the wheels of ROS: without it the broadcaster alone
is heard.
"""

from collections.abc import Callable
from typing import Any

from rclpy.node import Node
from rclpy.qos import QoSProfile, ReliabilityPolicy
from rclpy.subscription import Subscription
from std_msgs.msg import Float64

from sqap_vla_ros.config.robot import Configuration

BROADCASTER = "speed_scaling_state_broadcaster/speed_scaling"
_NEWEST = QoSProfile(depth=1, reliability=ReliabilityPolicy.BEST_EFFORT)

OnReport = Callable[[float, bool], None]
"""Takes a share of full speed, and whether it is of the broadcaster."""


def controller_state_topic(configuration: Configuration) -> str:
    """Name the topic of the controller's state, beside that of its commands."""
    return f"{configuration.topics.command.rpartition('/')[0]}/controller_state"


def subscribe(node: Node, configuration: Configuration, on_report: OnReport) -> list[Subscription]:
    """
    Listen to whoever reports the speed scaling; nobody has to.

    :param node: Owner of the subscriptions.
    :param configuration: The settings.
    :param on_report: Called with each report.
    """
    if configuration.command.moves_tool:  # the tool's controller does its own timing
        return []
    named = configuration.topics.speed_scaling

    def take(message: Float64) -> None:
        on_report(message.data / 100.0, True)

    subscriptions = [node.create_subscription(Float64, named or BROADCASTER, take, _NEWEST)]
    if not named and (kind := _state_type()) is not None:
        state = ControllerStates(on_report)
        topic = controller_state_topic(configuration)
        subscriptions.append(node.create_subscription(kind, topic, state.take, _NEWEST))
    return subscriptions


class ControllerStates:
    """
    Reads the factor from a joint_trajectory_controller's state.

    A controller without speed scaling leaves the field at 0, as a pause would. So 0 counts once another value was seen.

    :param on_report: Called with each factor.
    """

    def __init__(self, on_report: OnReport) -> None:
        self._on_report = on_report
        self._is_filled = False

    def take(self, message: Any) -> None:
        """Take a control_msgs/JointTrajectoryControllerState; one of an older release has no factor."""
        factor = getattr(message, "speed_scaling_factor", 0.0)
        self._is_filled = self._is_filled or factor != 0.0
        if self._is_filled:
            self._on_report(factor, False)


def _state_type() -> Any:
    try:
        from control_msgs.msg import JointTrajectoryControllerState
    except ImportError:
        return None
    return JointTrajectoryControllerState

# Copyright 2026 The sqap_vla maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""What a controller says about itself when it is asked; nothing here needs ROS."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from sqap_vla_ros.ros.controller_identity import Audience

# Settings of joint_trajectory_controller, UR's scaled one, Cartesian controllers and the grippers' controllers.
_OF_CONTROLLERS = (
    "joints",
    "joint",
    "command_interfaces",
    "interpolation_method",
    "interpolate_from_desired_state",
    "open_loop_control",
    "allow_trajectory_replacement",
    "allow_partial_joints_goal",
    "positions_upsampling.enable",
    "positions_upsampling.policy_frequency",
    "cmd_timeout",
    "speed_scaling.state_interface",
    "speed_scaling.initial_scaling_factor",
    "speed_scaling_interface_name",
    "constraints.goal_time",
    "constraints.stopped_velocity_tolerance",
    "robot_base_link",
    "end_effector_link",
    "max_effort_interface",
    "allow_stalling",
)
# MoveIt Servo's.
_OF_SERVO = tuple(
    f"moveit_servo.{name}"
    for name in (
        "command_in_type",
        "incoming_command_timeout",
        "apply_twist_commands_about_ee_frame",
        "scale.linear",
        "scale.rotational",
        "command_out_topic",
    )
)


@dataclass(frozen=True)
class ControllerFacts:
    """
    A controller's answers.

    :ivar node: Fully qualified name of its node.
    :ivar type: Its class, as `joint_trajectory_controller/JointTrajectoryController`; empty: no manager knows it.
    :ivar state: Of its life cycle, as "active"; empty: no manager knows it.
    :ivar unmanaged: Why no controller manager said anything about it; empty: one did.
    :ivar parameters: Its settings by dotted name; those that its release does not have are absent.
    :ivar silent: Why its parameters could not be read; empty: they could.
    """

    node: str
    type: str = ""
    state: str = ""
    unmanaged: str = ""
    parameters: Mapping[str, Any] = field(default_factory=dict)
    silent: str = ""

    @property
    def name(self) -> str:
        """Its name, as `ros2 control` knows it."""
        return self.node.rpartition("/")[2]

    def is_set(self, *names: str) -> bool | None:
        """Whether any of some switches is on; None: the controller has none of them."""
        values = [bool(self.parameters[name]) for name in names if name in self.parameters]
        return any(values) if values else None


def asked_for(offered: list[str]) -> list[str]:
    """Which of a controller's parameters matter to who sends it commands."""
    wanted = {*_OF_CONTROLLERS, *_OF_SERVO}
    return [name for name in offered if name in wanted or _is_tolerance(name)]


def _is_tolerance(name: str) -> bool:
    """Whether it is a joint's tolerance, as `constraints.elbow_joint.trajectory`."""
    return name.startswith("constraints.") and name.endswith((".trajectory", ".goal"))


@dataclass(frozen=True)
class Controllers:
    """
    The controllers of arm and gripper, as a live set-up has them.

    :ivar arm: Who listens on the arm's command topic.
    :ivar gripper: Likewise for the gripper's topic; None for a robot without one, or one that is moved by an action.
    :ivar gripper_actions: Types of the action servers under the gripper's name; None where it is moved otherwise.
    :ivar facts: What each controller says about itself, by "command" and "gripper_command".
    :ivar speed_scaling: The factor that was reported last; None: none was.
    """

    arm: Audience
    gripper: Audience | None = None
    gripper_actions: tuple[str, ...] | None = None
    facts: Mapping[str, ControllerFacts] = field(default_factory=dict)
    speed_scaling: float | None = None

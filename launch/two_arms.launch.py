# Copyright 2026 The sqap_vla maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""
Drive two arms at once: a policy node for each, in a namespace of its own.

ros2 launch sqap_vla two_arms.launch.py left:=left.yaml right:=right.yaml checkpoint:=/path/to/run

An example to copy: each arm has a robot file, whose frames and joints are that arm's; topics that do not begin with /
are in its namespace, /left/joint_states for example. The arms know nothing of each other: keep their workspaces apart.
"""

from launch import LaunchDescription
from launch.actions import DeclareLaunchArgument, GroupAction, IncludeLaunchDescription
from launch.launch_description_sources import PythonLaunchDescriptionSource
from launch.substitutions import LaunchConfiguration, PathJoinSubstitution
from launch_ros.substitutions import FindPackageShare

ARMS = ("left", "right")
SHARED = ("policy", "checkpoint", "device", "dry_run")
ARGUMENTS = [
    DeclareLaunchArgument("left", description="Robot file of the left arm"),
    DeclareLaunchArgument("right", description="Robot file of the right arm"),
    DeclareLaunchArgument(
        "left_instruction", default_value="", description="What the left arm shall do, as a sentence"
    ),
    DeclareLaunchArgument(
        "right_instruction", default_value="", description="What the right arm shall do, as a sentence"
    ),
    DeclareLaunchArgument(
        "policy", default_value="sqap", description="Name of a file in config/policies (sqap, fp16), or a path to one"
    ),
    DeclareLaunchArgument("checkpoint", description="CogACT run directory, .pt file or Hub id"),
    DeclareLaunchArgument(
        "device", default_value="", choices=["", "auto", "cpu", "cuda"], description="Where both policies run"
    ),
    DeclareLaunchArgument(
        "dry_run",
        default_value="",
        choices=["", "true", "false"],
        description="true: plan and publish everything except commands to the robots; empty: as each robot's file says",
    ),
]


def arm_node(arm):
    """Start the node of one arm; the group keeps its launch arguments from those of the other."""
    arguments = {
        "robot": LaunchConfiguration(arm),
        "namespace": arm,
        "instruction": LaunchConfiguration(f"{arm}_instruction"),
    }
    source = PythonLaunchDescriptionSource(
        PathJoinSubstitution([FindPackageShare("sqap_vla"), "launch", "sqap_vla.launch.py"])
    )
    shared = {name: LaunchConfiguration(name) for name in SHARED}
    return GroupAction([IncludeLaunchDescription(source, launch_arguments=(arguments | shared).items())])


def generate_launch_description():
    """Describe the launch of two arms."""
    return LaunchDescription([*ARGUMENTS, *map(arm_node, ARMS)])

# Copyright 2026 The sqap_vla maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""
Drive a robot: the policy node with one robot's settings and one policy.

ros2 launch sqap_vla sqap_vla.launch.py robot:=widowx_bridge policy:=sqap checkpoint:=/path/to/CogACT-Base
"""

from launch import LaunchDescription
from launch.actions import DeclareLaunchArgument, LogInfo, OpaqueFunction
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import Node

from sqap_vla_ros.config.files import named_file, read_yaml, robot_file

ARGUMENTS = [
    DeclareLaunchArgument("robot", description="Name of a file in config/robots, or a path to one"),
    DeclareLaunchArgument(
        "policy", default_value="sqap", description="Name of a file in config/policies (sqap, fp16), or a path to one"
    ),
    DeclareLaunchArgument("checkpoint", description="CogACT run directory, .pt file or Hub id"),
    DeclareLaunchArgument(
        "tokenizer", default_value="", description="Directory of the Llama-2 tokenizer; empty: next to the checkpoint"
    ),
    DeclareLaunchArgument(
        "instruction", default_value="", description="What to do, as a sentence; ~/instruction replaces it"
    ),
    DeclareLaunchArgument(
        "device", default_value="", choices=["", "auto", "cpu", "cuda"], description="Where the policy runs"
    ),
    DeclareLaunchArgument(
        "dry_run",
        default_value="",
        choices=["", "true", "false"],
        description="true: plan and publish everything except commands to the robot; empty: as the robot's file says",
    ),
    DeclareLaunchArgument(
        "autostart",
        default_value="true",
        choices=["true", "false"],
        description="false: leave configuring and activating to a lifecycle manager",
    ),
    DeclareLaunchArgument(
        "exit_on_failure",
        default_value="false",
        choices=["true", "false"],
        description="true: a node that cannot be started, or dies, ends the whole launch with an error",
    ),
    DeclareLaunchArgument(
        "use_sim_time", default_value="false", choices=["true", "false"], description="Take the time from /clock"
    ),
    DeclareLaunchArgument(
        "namespace",
        default_value="",
        description="Namespace of the node, and of the topics in the robot's file that do not begin with /",
    ),
    DeclareLaunchArgument("log_level", default_value="info", description="debug, info, warn or error"),
]


def policy_node(context):
    """Start the node with the robot's parameter file and, over it, the launch arguments that are not empty."""

    def value(name):
        return LaunchConfiguration(name).perform(context)

    # A wrong file ends the launch here: ROS would start the node on defaults.
    settings = robot_file(value("robot"))
    read_yaml(named_file("policies", value("policy") or "sqap"))
    texts = {
        name: value(name) for name in ("policy", "checkpoint", "tokenizer", "instruction", "device") if value(name)
    }
    flags = {
        name: value(name) == "true"
        for name in ("dry_run", "autostart", "exit_on_failure", "use_sim_time")
        if value(name)
    }

    def end(event, context):
        if flags["exit_on_failure"] and event.returncode and not context.is_shutdown:
            raise RuntimeError(f"{event.process_name} ended with {event.returncode}: its last lines say why")

    return [
        LogInfo(msg=f"settings of the robot: {settings}"),
        Node(
            package="sqap_vla",
            executable="sqap_vla_node",
            name="sqap_vla",
            namespace=value("namespace"),
            output="screen",
            emulate_tty=True,
            parameters=[str(settings), texts | flags],
            arguments=["--ros-args", "--log-level", value("log_level")],
            # The node ramps the arm to rest before it ends.
            sigterm_timeout="5",
            sigkill_timeout="5",
            on_exit=end,
        ),
    ]


def generate_launch_description():
    """Describe the launch of the robot workstation."""
    return LaunchDescription([*ARGUMENTS, OpaqueFunction(function=policy_node)])

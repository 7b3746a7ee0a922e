# Copyright 2026 The sqap_vla maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""
Play a recorded bag into the live node, on the bag's clock; nothing is sent to a robot.

ros2 launch sqap_vla replay.launch.py bag:=/path/to/bag robot:=libero_panda checkpoint:=/path/to/CogACT-Base

Only what the node reads is played, commands are off, and all of it runs on this machine in a ROS domain of its own: a
recorded /tf or /joint_states must not reach an arm. For evaluation without ROS, faster than real time and with tables,
use `sqap-vla replay`.
"""

from pathlib import Path

from launch import LaunchDescription
from launch.actions import (
    DeclareLaunchArgument,
    EmitEvent,
    ExecuteProcess,
    IncludeLaunchDescription,
    OpaqueFunction,
    SetEnvironmentVariable,
)
from launch.events import Shutdown
from launch.launch_description_sources import PythonLaunchDescriptionSource
from launch.substitutions import LaunchConfiguration, PathJoinSubstitution
from launch_ros.substitutions import FindPackageShare

from sqap_vla_ros.config.files import flatten, robot_file, robot_parameters
from sqap_vla_ros.config.names import absolute_name

ARGUMENTS = [
    DeclareLaunchArgument("bag", description="rosbag2 directory to play"),
    DeclareLaunchArgument("robot", description="Name of a file in config/robots, or a path to one"),
    DeclareLaunchArgument(
        "policy", default_value="sqap", description="Name of a file in config/policies (sqap, fp16), or a path to one"
    ),
    DeclareLaunchArgument("checkpoint", description="CogACT run directory, .pt file or Hub id"),
    DeclareLaunchArgument(
        "instruction", default_value="", description="What to do, as a sentence; empty: the bag's own instruction"
    ),
    DeclareLaunchArgument(
        "namespace", default_value="", description="Namespace in which the node was recorded, and runs here"
    ),
    DeclareLaunchArgument("rate", default_value="1.0", description="Speed of the playback"),
    DeclareLaunchArgument(
        "delay", default_value="2.0", description="Seconds from the loaded policy to the beginning of the bag"
    ),
    DeclareLaunchArgument("domain_id", default_value="77", description="ROS domain; look at it with the same one"),
]
# The inputs that the node subscribes to, besides transforms and its instruction, with their default topics.
INPUTS = {
    "image": "camera/color/image_raw",
    "camera_info": "camera/color/camera_info",
    "joint_states": "joint_states",
    "robot_description": "robot_description",
    "enable": "",
}
# The node is inactive once its policy is loaded. The trap: without it, bash would go on after an interrupt.
UNTIL_LOADED = (
    "trap 'exit 0' INT TERM; "
    'until ros2 lifecycle get --no-daemon "$0" 2>/dev/null | grep -q active; do sleep 1; done; sleep "$1"'
)


def played_topics(robot, namespace):
    """Name the topics of the node's inputs, by a robot's file."""
    settings = flatten(robot_parameters(robot_file(robot)))
    names = [settings.get(f"topics.{name}", default) for name, default in INPUTS.items()]
    return [absolute_name(name, namespace) for name in names if name]


def number(name, text, lowest):
    """Read an argument that is a number, and not below the lowest."""
    try:
        value = float(text)
    except ValueError:
        value = float("nan")
    if not lowest <= value < float("inf"):
        raise ValueError(f"{name}:={text}: expected a number, at least {lowest:g}")
    return value


def play_bag(context):
    """Play the topics that the robot's file names, once the policy is loaded; the launch ends with the player."""

    def value(name):
        return LaunchConfiguration(name).perform(context)

    bag, namespace = Path(value("bag")).expanduser(), value("namespace")
    if not bag.exists():
        raise FileNotFoundError(f"bag:={bag}: no bag there")
    rate, delay = number("rate", value("rate"), 0.01), number("delay", value("delay"), 0.0)
    topics = ["/tf", "/tf_static", *played_topics(value("robot"), namespace)]
    if not value("instruction"):
        topics.append(absolute_name("~/instruction", namespace))

    def begin(event, context):
        return None if context.is_shutdown else [play]

    def end(event, context):
        if event.returncode and not context.is_shutdown:
            raise RuntimeError(f"the player of {bag} ended with {event.returncode}: its last lines say why")
        return [EmitEvent(event=Shutdown(reason="the bag has ended"))]

    play = ExecuteProcess(
        cmd=["ros2", "bag", "play", str(bag), "--clock", "100", "--rate", f"{rate:g}", "--topics", *topics],
        output="screen",
        on_exit=end,
    )
    node = absolute_name("~", namespace)
    return [ExecuteProcess(cmd=["bash", "-c", UNTIL_LOADED, node, f"{delay:g}"], on_exit=begin)]


def generate_launch_description():
    """Describe the launch of a bag played into the node."""
    node = IncludeLaunchDescription(
        PythonLaunchDescriptionSource(
            PathJoinSubstitution([FindPackageShare("sqap_vla"), "launch", "sqap_vla.launch.py"])
        ),
        launch_arguments={
            "robot": LaunchConfiguration("robot"),
            "policy": LaunchConfiguration("policy"),
            "checkpoint": LaunchConfiguration("checkpoint"),
            "instruction": LaunchConfiguration("instruction"),
            "namespace": LaunchConfiguration("namespace"),
            "use_sim_time": "true",
            "dry_run": "true",
            "exit_on_failure": "true",
        }.items(),
    )
    return LaunchDescription(
        [
            *ARGUMENTS,
            SetEnvironmentVariable("ROS_AUTOMATIC_DISCOVERY_RANGE", "LOCALHOST"),
            SetEnvironmentVariable("ROS_DOMAIN_ID", LaunchConfiguration("domain_id")),
            OpaqueFunction(function=play_bag),
            node,
        ]
    )

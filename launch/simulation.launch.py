# Copyright 2026 The sqap_vla maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""
Drive a simulated Panda on a LIBERO table: the cell and the policy node, on simulated time.

ros2 launch sqap_vla simulation.launch.py checkpoint:=/path/to/run

On this machine and in a ROS domain of its own: the simulated arm's commands must not reach a real one.
"""

from launch import LaunchDescription
from launch.actions import DeclareLaunchArgument, EmitEvent, IncludeLaunchDescription, SetEnvironmentVariable
from launch.events import Shutdown
from launch.launch_description_sources import PythonLaunchDescriptionSource
from launch.substitutions import LaunchConfiguration, PathJoinSubstitution
from launch_ros.actions import Node
from launch_ros.parameter_descriptions import ParameterValue
from launch_ros.substitutions import FindPackageShare

ARGUMENTS = [
    DeclareLaunchArgument("suite", default_value="libero_object", description="LIBERO suite"),
    DeclareLaunchArgument("task", default_value="0", description="Index of the task in its suite"),
    DeclareLaunchArgument(
        "policy", default_value="sqap", description="Name of a file in config/policies (sqap, fp16), or a path to one"
    ),
    DeclareLaunchArgument("checkpoint", description="CogACT run directory, .pt file or Hub id"),
    DeclareLaunchArgument("domain_id", default_value="78", description="ROS domain; look at it with the same one"),
]


def end(event, context):
    """End the launch with the cell: with an error where the cell has failed."""
    if event.returncode and not context.is_shutdown:
        raise RuntimeError(f"the simulated cell ended with {event.returncode}: its last lines say why")
    return [EmitEvent(event=Shutdown(reason="the episode has ended"))]


def generate_launch_description():
    """Describe the launch of the simulated cell with the policy."""
    cell = Node(
        package="sqap_vla",
        executable="simulated_cell",
        name="simulated_cell",
        output="screen",
        parameters=[
            {
                "suite": LaunchConfiguration("suite"),
                "task": ParameterValue(LaunchConfiguration("task"), value_type=int),
                "publish_clock": True,
            }
        ],
        on_exit=end,
    )
    policy = IncludeLaunchDescription(
        PythonLaunchDescriptionSource(
            PathJoinSubstitution([FindPackageShare("sqap_vla"), "launch", "sqap_vla.launch.py"])
        ),
        launch_arguments={
            "robot": "libero_panda",
            "policy": LaunchConfiguration("policy"),
            "checkpoint": LaunchConfiguration("checkpoint"),
            "use_sim_time": "true",
            "exit_on_failure": "true",
        }.items(),
    )
    return LaunchDescription(
        [
            *ARGUMENTS,
            SetEnvironmentVariable("ROS_AUTOMATIC_DISCOVERY_RANGE", "LOCALHOST"),
            SetEnvironmentVariable("ROS_DOMAIN_ID", LaunchConfiguration("domain_id")),
            cell,
            policy,
        ]
    )

"""Play a recorded bag into the live node, on the bag's clock; nothing is sent to a robot.

ros2 launch sqap_vla replay.launch.py bag:=/path/to/bag robot:=libero_panda checkpoint:=/path/to/CogACT-Base

For evaluation without ROS, faster than real time and with a report, use `sqap-vla replay`.
"""

from launch import LaunchDescription
from launch.actions import (
    DeclareLaunchArgument,
    EmitEvent,
    ExecuteProcess,
    IncludeLaunchDescription,
    RegisterEventHandler,
    TimerAction,
)
from launch.event_handlers import OnProcessExit
from launch.events import Shutdown
from launch.launch_description_sources import PythonLaunchDescriptionSource
from launch.substitutions import LaunchConfiguration, PathJoinSubstitution
from launch_ros.substitutions import FindPackageShare

ARGUMENTS = [
    DeclareLaunchArgument("bag", description="rosbag2 directory to play"),
    DeclareLaunchArgument("robot", description="Name of a file in config/robots, or a path to one"),
    DeclareLaunchArgument(
        "policy", default_value="sqap", description="Name of a file in config/policies (sqap, fp16), or a path to one"
    ),
    DeclareLaunchArgument("checkpoint", description="CogACT run directory, .pt file or Hub id"),
    DeclareLaunchArgument(
        "instruction", default_value="", description="What to do, in plain words; empty: the bag's own instruction"
    ),
    DeclareLaunchArgument("rate", default_value="1.0", description="Speed of the playback"),
    DeclareLaunchArgument(
        "delay", default_value="20.0", description="Seconds for the policy to load before the bag starts"
    ),
]


def generate_launch_description():
    """Launch description of a bag played into the node."""
    play = ExecuteProcess(
        cmd=["ros2", "bag", "play", LaunchConfiguration("bag"), "--clock", "100", "--rate", LaunchConfiguration("rate")]
        # What the bag recorded of a node, this node publishes itself; its commands must reach no controller.
        + ["--exclude-regex", "/sqap_vla/(chunk|token_mask|status|metadata)|.*/joint_trajectory"],
        output="screen",
    )
    node = IncludeLaunchDescription(
        PythonLaunchDescriptionSource(
            PathJoinSubstitution([FindPackageShare("sqap_vla"), "launch", "sqap_vla.launch.py"])
        ),
        launch_arguments={
            **{name: LaunchConfiguration(name) for name in ("robot", "policy", "checkpoint", "instruction")},
            "use_sim_time": "true",
            "dry_run": "true",
        }.items(),
    )
    end = RegisterEventHandler(
        OnProcessExit(target_action=play, on_exit=[EmitEvent(event=Shutdown(reason="the bag has ended"))])
    )
    return LaunchDescription([*ARGUMENTS, node, end, TimerAction(period=LaunchConfiguration("delay"), actions=[play])])

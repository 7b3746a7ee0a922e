"""Play a recorded bag into the live node, on the bag's clock; nothing is sent to a robot.

ros2 launch sqap_vla replay.launch.py bag:=/path/to/bag robot:=libero_panda checkpoint:=/path/to/CogACT-Base

Only what the node reads is played, commands are off, and all of it runs on this machine in a ROS domain of its own: a
recorded /tf or /joint_states must not reach an arm. For evaluation without ROS, faster than real time and with tables,
use `sqap-vla replay`.
"""

from launch import LaunchDescription
from launch.actions import (
    DeclareLaunchArgument,
    EmitEvent,
    ExecuteProcess,
    IncludeLaunchDescription,
    OpaqueFunction,
    RegisterEventHandler,
    SetEnvironmentVariable,
)
from launch.event_handlers import OnProcessExit
from launch.events import Shutdown
from launch.launch_description_sources import PythonLaunchDescriptionSource
from launch.substitutions import LaunchConfiguration, PathJoinSubstitution
from launch_ros.substitutions import FindPackageShare

from sqap_vla_ros.config.files import flatten, named_file, robot_parameters

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
    DeclareLaunchArgument("rate", default_value="1.0", description="Speed of the playback"),
    DeclareLaunchArgument(
        "delay", default_value="2.0", description="Seconds from the loaded policy to the beginning of the bag"
    ),
    DeclareLaunchArgument("domain_id", default_value="77", description="ROS domain; look at it with the same one"),
]
# The inputs that the node subscribes to, besides transforms and its instruction, with their default topics.
INPUTS = {
    "image": "/camera/color/image_raw",
    "camera_info": "/camera/color/camera_info",
    "joint_states": "/joint_states",
    "robot_description": "/robot_description",
}
# The node is inactive once its policy is loaded.
UNTIL_LOADED = "until ros2 lifecycle get /sqap_vla 2>/dev/null | grep -q active; do sleep 1; done; sleep "


def played_topics(robot):
    """The topics of the node's inputs, by a robot's file."""
    settings = flatten(robot_parameters(named_file("robots", robot)))
    return [settings.get(f"topics.{name}", default) for name, default in INPUTS.items()]


def play_bag(context):
    """The player, for the topics that the robot's file names, once the policy is loaded; the launch ends with it."""

    def value(name):
        return LaunchConfiguration(name).perform(context)

    instruction = [] if value("instruction") else ["/sqap_vla/instruction"]
    play = ExecuteProcess(
        cmd=["ros2", "bag", "play", value("bag"), "--clock", "100", "--rate", value("rate")]
        + ["--topics", "/tf", "/tf_static", *instruction, *played_topics(value("robot"))],
        output="screen",
    )
    wait = ExecuteProcess(cmd=["bash", "-c", f"{UNTIL_LOADED}{float(value('delay'))}"])
    begin = OnProcessExit(target_action=wait, on_exit=[play])
    end = OnProcessExit(target_action=play, on_exit=[EmitEvent(event=Shutdown(reason="the bag has ended"))])
    return [RegisterEventHandler(begin), RegisterEventHandler(end), wait]


def generate_launch_description():
    """Launch description of a bag played into the node."""
    node = IncludeLaunchDescription(
        PythonLaunchDescriptionSource(
            PathJoinSubstitution([FindPackageShare("sqap_vla"), "launch", "sqap_vla.launch.py"])
        ),
        launch_arguments={
            "robot": LaunchConfiguration("robot"),
            "policy": LaunchConfiguration("policy"),
            "checkpoint": LaunchConfiguration("checkpoint"),
            "instruction": LaunchConfiguration("instruction"),
            "use_sim_time": "true",
            "dry_run": "true",
        }.items(),
    )
    return LaunchDescription(
        [
            *ARGUMENTS,
            SetEnvironmentVariable("ROS_AUTOMATIC_DISCOVERY_RANGE", "LOCALHOST"),
            SetEnvironmentVariable("ROS_DOMAIN_ID", LaunchConfiguration("domain_id")),
            node,
            OpaqueFunction(function=play_bag),
        ]
    )

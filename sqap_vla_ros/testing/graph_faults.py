"""Faults of who is there: publishers and listeners that come and go, and a robot model of another arm."""

import rclpy
from std_msgs.msg import String
from trajectory_msgs.msg import JointTrajectory

from sqap_vla_ros.core.rejection import Cause
from sqap_vla_ros.testing.fault import Fault
from sqap_vla_ros.testing.fault_actions import robot
from sqap_vla_ros.testing.fault_bench import FaultBench
from sqap_vla_ros.testing.fault_moments import at_once, not_timed, when_joint_states_are_old
from sqap_vla_ros.testing.synthetic_robot import COMMAND_TOPIC, COMMANDS, arm_urdf

_RECORDER = "rosbag2_recorder"


def _recorder_comes_and_goes(bench: FaultBench) -> None:
    recorder = rclpy.create_node(_RECORDER)
    recorder.create_subscription(JointTrajectory, COMMAND_TOPIC, lambda message: None, COMMANDS)
    bench.spin(1.0)
    recorder.destroy_node()


def _controller_goes_and_a_recorder_stays(bench: FaultBench) -> None:
    recorder = rclpy.create_node(_RECORDER)
    recorder.create_subscription(JointTrajectory, COMMAND_TOPIC, lambda message: None, COMMANDS)
    bench.spin(1.0)
    bench.robot.restart_controller()
    bench.spin(1.0)
    recorder.destroy_node()


GRAPH_FAULTS = (
    Fault(
        "joint state publisher gone",
        robot(publishes_joint_states=False),
        robot(publishes_joint_states=True),
        (Cause.JOINT_STATES_STALE,),
        when_joint_states_are_old,
        is_tested=False,
    ),
    Fault(
        "robot model of another arm",
        lambda bench: bench.robot.description.publish(String(data=arm_urdf().replace("0 0 0.35", "0 0 0.45"))),
        lambda bench: bench.robot.description.publish(String(data=arm_urdf())),
        (Cause.ROBOT_MODEL_DISAGREES,),
        at_once,
        is_tested=False,
    ),
    Fault(
        "recorder leaves the command topic",
        _recorder_comes_and_goes,
        lambda bench: None,
        (),
        not_timed,
        "goes on",
        2.5,
        is_tested=False,
    ),
    Fault(
        "controller gone, a recorder stays",
        _controller_goes_and_a_recorder_stays,
        lambda bench: bench.robot.connect(COMMANDS),
        (Cause.NO_CONTROLLER,),
        not_timed,
        "hold",
        2.5,
        is_tested=False,
    ),
)

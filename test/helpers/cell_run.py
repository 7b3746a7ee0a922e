"""A run of the cell's executable, and what a subscriber saw of it."""

import json
import os
import signal
import subprocess
import sys
import time
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import rclpy
from builtin_interfaces.msg import Duration
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.qos import QoSProfile, qos_profile_sensor_data
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import CameraInfo, Image, JointState
from sqap_vla.msg import ActionChunk, TokenMask
from std_msgs.msg import Header, String
from tf2_msgs.msg import TFMessage
from trajectory_msgs.msg import JointTrajectory, JointTrajectoryPoint

from sqap_vla_ros.simulation.cell import LATCHED
from sqap_vla_ros.simulation.libero import ARM_JOINTS, FINGER_JOINTS

DEADLINE_S = 60.0
IMAGES = 30
MOVED_JOINT = 3
MOVE_RAD = 0.1


@dataclass(frozen=True)
class CellRun:
    """What a subscriber saw of a run, and what the run left."""

    received: dict[str, list[Any]]
    bag: Path
    report: dict[str, Any]
    output: str
    returncode: int


class _Peer(Node):
    """Stands in for the policy node: subscribes to everything, answers the first images with commands."""

    def __init__(self, context: rclpy.Context) -> None:
        super().__init__("sqap_vla", context=context)
        self.received: dict[str, list[Any]] = defaultdict(list)
        for topic, kind, qos in (
            ("/camera/color/image_raw", Image, qos_profile_sensor_data),
            ("/camera/color/camera_info", CameraInfo, qos_profile_sensor_data),
            ("/tf", TFMessage, QoSProfile(depth=100)),
            ("/tf_static", TFMessage, LATCHED),
            ("/joint_states", JointState, QoSProfile(depth=100)),
            ("/robot_description", String, LATCHED),
            ("/sqap_vla/instruction", String, LATCHED),
            ("/clock", Clock, QoSProfile(depth=100)),
        ):
            self.create_subscription(kind, topic, lambda message, topic=topic: self._receive(topic, message), qos)
        self._arm = self.create_publisher(JointTrajectory, "/joint_trajectory_controller/joint_trajectory", 10)
        self._gripper = self.create_publisher(JointTrajectory, "/gripper_controller/joint_trajectory", 10)
        self._chunk = self.create_publisher(ActionChunk, "/sqap_vla/chunk", 10)
        self._mask = self.create_publisher(TokenMask, "/sqap_vla/token_mask", 10)

    def _receive(self, topic: str, message: Any) -> None:
        self.received[topic].append(message)
        states = self.received["/joint_states"]
        if topic == "/camera/color/image_raw" and states and len(self.received[topic]) <= 3:
            self._command(states[0], message.header)

    def _command(self, start: JointState, image: Header) -> None:
        target = list(start.position[: len(ARM_JOINTS)])
        target[MOVED_JOINT] += MOVE_RAD
        self._arm.publish(_trajectory(ARM_JOINTS, target, seconds=0.8))
        self._gripper.publish(_trajectory(FINGER_JOINTS[:1], [0.0], seconds=0.3))
        approach = [0.005, 0.0, -0.005, 0.0, 0.0, 0.0, 1.0]
        self._chunk.publish(ActionChunk(header=image, horizon=16, time_step=0.05, data=approach * 16))
        self._mask.publish(TokenMask(header=image, rows=16, columns=16, reason=[TokenMask.SPATIAL] * 256))


def _trajectory(joints: tuple[str, ...], positions: list[float], seconds: float) -> JointTrajectory:
    reached = Duration(nanosec=round(seconds * 1e9))
    point = JointTrajectoryPoint(positions=positions, velocities=[0.0] * len(positions), time_from_start=reached)
    return JointTrajectory(joint_names=list(joints), points=[point])


def run_cell(folder: Path) -> CellRun:
    """The executable, watched for some images, commanded, and ended by SIGTERM."""
    parameters = {
        "publish_clock": "true",
        "wait_for_subscriber": "true",
        "bag": str(folder / "bag"),
        "report": str(folder / "report.json"),
    }
    command = [sys.executable, "-m", "sqap_vla_ros.simulation.main", "--ros-args"]
    command += [word for name, value in parameters.items() for word in ("-p", f"{name}:={value}")]
    log = folder / "cell.log"
    with log.open("wb") as output:
        process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT, env=dict(os.environ))
    context = rclpy.Context()
    rclpy.init(context=context)
    executor = SingleThreadedExecutor(context=context)
    try:
        peer = _Peer(context)
        executor.add_node(peer)
        deadline = time.monotonic() + DEADLINE_S
        while len(peer.received["/camera/color/image_raw"]) < IMAGES and process.poll() is None:
            assert time.monotonic() < deadline, f"only {len(peer.received)} topics heard; {log.read_text()}"
            executor.spin_once(timeout_sec=0.1)
        process.send_signal(signal.SIGTERM)
        while process.poll() is None:
            assert time.monotonic() < deadline, f"SIGTERM did not end the cell; {log.read_text()}"
            executor.spin_once(timeout_sec=0.05)
        peer.destroy_node()
    finally:
        process.kill()
        process.wait()
        executor.shutdown()
        rclpy.shutdown(context=context)
    report = json.loads((folder / "report.json").read_text())
    return CellRun(dict(peer.received), folder / "bag", report, log.read_text(), process.returncode)

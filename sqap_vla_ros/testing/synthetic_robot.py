"""A robot cell without a simulator: an arm that does what its controller commands, and a camera of any size.

It publishes what a real cell does (images, camera_info, transforms, joint states, robot description) from one process,
at steady rates and with hardly any load, so that what is measured next to it is the node. Faults are switched on by its
attributes.
"""

import gc
import time
from collections import deque
from collections.abc import Callable
from typing import Any

import numpy as np
import rclpy
import tyro
from numpy.typing import NDArray
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from rclpy.signals import SignalHandlerOptions
from rclpy.subscription import Subscription
from sensor_msgs.msg import CameraInfo, Image, JointState
from std_msgs.msg import Float64, String
from tf2_msgs.msg import TFMessage
from trajectory_msgs.msg import JointTrajectory

from sqap_vla_ros.control.kinematics import Kinematics
from sqap_vla_ros.control.trajectory import JointLimits
from sqap_vla_ros.ros.speed_scaling import BROADCASTER
from sqap_vla_ros.ros.subscriptions import take_waiting
from sqap_vla_ros.simulation.joint_trajectory_controller import State
from sqap_vla_ros.simulation.messages import camera_info_message, image_message, joint_state_message, transform_message
from sqap_vla_ros.testing.ideal_controller import IdealController

BASE, TOOL, CAMERA = "base", "tool", "camera_optical"
JOINTS = tuple(f"joint{number}" for number in range(1, 7))
HOME = np.array([0.0, -0.6, 1.2, 0.0, 0.9, 0.0])
COMMAND_TOPIC = "joint_trajectory_controller/joint_trajectory"
LATCHED = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
# A real controller takes each command as it comes. This one may be kept from running, and must then not lose any.
COMMANDS = QoSProfile(depth=100)
LIMITS = {"joint_velocity": [2.0], "joint_acceleration": [8.0], "joint_jerk": [200.0]}


def arm_urdf(prefix: str = "") -> str:
    """A six-joint arm of about human reach, as URDF text; names of its links and joints begin with the prefix."""
    axes = ("0 0 1", "0 1 0", "0 1 0", "1 0 0", "0 1 0", "1 0 0")
    offsets = ("0 0 0.2", "0 0 0.1", "0 0 0.35", "0.1 0 0", "0.25 0 0", "0.1 0 0")
    links = [prefix + name for name in (BASE, *(f"link{number}" for number in range(1, 6)), TOOL)]
    parts = [f'<link name="{link}"/>' for link in links]
    for number, (axis, offset) in enumerate(zip(axes, offsets, strict=True)):
        parts.append(
            f'<joint name="{prefix}{JOINTS[number]}" type="revolute"><parent link="{links[number]}"/>'
            f'<child link="{links[number + 1]}"/><origin xyz="{offset}"/><axis xyz="{axis}"/>'
            '<limit lower="-2.9" upper="2.9" velocity="3.0" effort="50"/></joint>'
        )
    return f'<?xml version="1.0"?><robot name="synthetic">{"".join(parts)}</robot>'


def parameters(**more: object) -> dict[str, object]:
    """The node's parameters for this robot, by dotted name."""
    return {
        "robot_name": "synthetic",
        "frames.base": BASE,
        "frames.tool": TOOL,
        "command.joints": list(JOINTS),
        "action.rate_hz": 20.0,
        "freshness.image": 1.0,
        "dry_run": False,
        **{f"limits.{name}": value for name, value in LIMITS.items()},
        **more,
    }


class SyntheticRobot(Node):
    """The cell.

    Args:
        width: Image width (px).
        height: Image height (px).
        rate_hz: Images per second.
        prefix: Of its frames and joints: two arms share /tf.
        **node_arguments: For rclpy's node, as namespace.

    Attributes:
        publishes_images: False stops the camera.
        publishes_transforms: False stops /tf.
        publishes_joint_states: False stops /joint_states.
        is_frozen: True sends the same image again and again, with fresh stamps.
        image_age_s: How old the images are when they are sent.
        transform_age_s: How old the tool's transforms are when they are sent.
        T_error: float64 (4, 4), by which the tool's transform is wrong.
        tool_frame: Under which the tool's transform is sent.
        reports_positions: False sends NaN instead of the joints' positions.
        is_blocked: True keeps the measured arm where it is.
        pace: Share of the wanted speed with which the measured arm goes.
        reports_speed_scaling: True publishes the factor of the controller's speed scaling, as UR's broadcaster does.
        image: uint8 (height, width, 3), what the camera sees.
        images: Publisher of the images.
        camera_info: Published instead of the right one.
        reported_velocity: Published instead of the right one.
        commands: Trajectories received.
        command_times_s: When they were received, monotonic clock.
        image_times_s: When images were sent, monotonic clock.
        transform_times_s: When transforms were sent, monotonic clock.
        position_times_s: When positions of the joints were sent, monotonic clock.
        speed_scaling_times_s: When the speed scaling was reported, monotonic clock.
        controller: The arm's controller; its `violations` tell what a real arm would not have survived.
    """

    def __init__(
        self, width: int = 640, height: int = 480, rate_hz: float = 20.0, prefix: str = "", **node_arguments: Any
    ) -> None:
        super().__init__("synthetic_robot", **node_arguments)
        self._prefix = prefix
        self._joints = tuple(prefix + joint for joint in JOINTS)
        self.publishes_images = True
        self.publishes_transforms = self.publishes_joint_states = True
        self.is_frozen = False
        self.image_age_s = 0.0
        self.transform_age_s = 0.0
        self.T_error = np.eye(4)
        self.tool_frame = prefix + TOOL
        self.reports_positions = True
        self.is_blocked = False
        self.pace = 1.0
        self.reports_speed_scaling = False
        self.image = np.random.default_rng(0).integers(0, 255, (height, width, 3), np.uint8)
        self.camera_info: CameraInfo | None = None
        self.reported_velocity: list[float] | None = None
        self.commands: list[JointTrajectory] = []
        self.command_times_s: list[float] = []
        self.image_times_s: deque[float] = deque(maxlen=1000)
        self.transform_times_s: deque[float] = deque(maxlen=1000)
        self.position_times_s: deque[float] = deque(maxlen=1000)
        self.speed_scaling_times_s: deque[float] = deque(maxlen=1000)
        self._slider = np.zeros(1), np.ones(1)  # times (ns, ROS clock) and factors; straight lines in between
        self._kinematics = Kinematics(arm_urdf(prefix), self._joints, prefix + BASE, prefix + TOOL)
        self._measured = HOME, np.zeros(len(JOINTS))
        self._wanted = HOME
        shape = np.ones(len(JOINTS))
        bounds = (LIMITS[name][0] * shape for name in ("joint_velocity", "joint_acceleration", "joint_jerk"))
        limits = JointLimits(self._kinematics.lower, self._kinematics.upper, *bounds)
        self.controller = IdealController(self._joints, HOME, limits, self._now_ns())
        sensors = QoSProfile(depth=5, reliability=ReliabilityPolicy.BEST_EFFORT)
        self.images = self.create_publisher(Image, "camera/color/image_raw", sensors)
        self._camera_infos = self.create_publisher(CameraInfo, "camera/color/camera_info", sensors)
        self.joint_states = self.create_publisher(JointState, "joint_states", 10)
        self.transforms = self.create_publisher(TFMessage, "/tf", 100)
        self.static_transforms = self.create_publisher(TFMessage, "/tf_static", LATCHED)
        self._speed_scaling = self.create_publisher(Float64, BROADCASTER, 10)
        self.description = self.create_publisher(String, "robot_description", LATCHED)
        self.description.publish(String(data=arm_urdf(prefix)))
        self.connect(COMMANDS)
        focal = 0.8 * width
        self._camera_matrix = np.array([[focal, 0, width / 2], [0, focal, height / 2], [0, 0, 1.0]])
        self.publish_camera_pose()
        self.create_timer(0.01, self._publish_state)
        self.create_timer(1 / rate_hz, self.publish_image)

    def publish_camera_pose(self) -> None:
        """Latch base -> camera: 1.5 m in front of the arm, looking back at it."""
        T_base_camera = np.eye(4)
        T_base_camera[:3, :3] = np.array([[0, 0, -1], [1, 0, 0], [0, -1, 0]])
        T_base_camera[:3, 3] = 1.8, 0.0, 0.5
        message = TFMessage(
            transforms=[transform_message(T_base_camera, self._prefix + BASE, self._prefix + CAMERA, self._now_ns())]
        )
        self.static_transforms.publish(message)

    def connect(self, qos: QoSProfile) -> None:
        """Let the controller listen to commands."""
        # rclpy hands a callback of two arguments when the message was received; its type hints do not know.
        receive: Any = self._receive_command
        self._commands_in: Subscription | None = self.create_subscription(JointTrajectory, COMMAND_TOPIC, receive, qos)

    def disconnect(self) -> None:
        """The controller hears nothing any more; the arm ends its trajectory."""
        if self._commands_in is not None:
            self.destroy_subscription(self._commands_in)
            self._commands_in = None

    def restart_controller(self) -> None:
        """As `disconnect`, and what it did is forgotten: it holds the arm where it is."""
        self._take_commands()
        self.disconnect()
        self.controller.restart(self._now_ns(), self._measured[0])

    def move_slider(self, *steps: tuple[float, float]) -> None:
        """Move the slider of the controller's speed scaling steadily from where it is to each place in turn.

        Args:
            *steps: Seconds from now, and share of full speed.
        """
        now_ns = self._now_ns()
        places = [(now_ns, self.factor_at(now_ns)), *((now_ns + at_s * 1e9, factor) for at_s, factor in steps)]
        self._slider = np.array([at for at, _ in places]), np.array([factor for _, factor in places])
        self.controller.factor_at = self.factor_at

    def factor_at(self, at_ns: int) -> float:
        """The factor of the controller's speed scaling at a moment of the ROS clock."""
        return float(np.interp(at_ns, *self._slider))

    @property
    def tool_m(self) -> NDArray[np.float64]:
        """Where the tool is, float64 (3,), in the base frame [m]."""
        position: NDArray[np.float64] = self._kinematics.forward(self._measured[0])[:3, 3]
        return position

    @property
    def rests(self) -> bool:
        """Whether the arm stands still, and is meant to."""
        _, v, a = self._desired()
        return not (v.any() or a.any())

    def spin_until(self, condition: Callable[[], bool], deadline_s: float = 30.0) -> None:
        """Run on its own until something is so.

        Raises:
            TimeoutError: It took too long.
        """
        end_s = time.monotonic() + deadline_s
        while not condition():
            if time.monotonic() > end_s:
                raise TimeoutError(f"waited {deadline_s:g} s; {len(self.commands)} commands received")
            rclpy.spin_once(self, timeout_sec=0.1)

    def _now_ns(self) -> int:
        return self.get_clock().now().nanoseconds

    def _publish_state(self) -> None:
        desired = self._desired()
        now_ns = self._now_ns()
        if not self.is_blocked:
            lags = self.pace < 1.0
            moved = desired[0] - self._wanted
            self._measured = self._measured[0] + self.pace * moved if lags else desired[0], self.pace * desired[1]
        self._wanted = desired[0]
        if self.reports_speed_scaling:
            self._speed_scaling.publish(Float64(data=100.0 * self.factor_at(now_ns)))
            self.speed_scaling_times_s.append(time.monotonic())
        q, v = self._measured
        velocity = v.tolist() if self.reported_velocity is None else self.reported_velocity
        position = q if self.reports_positions else np.full(len(q), np.nan)
        if self.publishes_joint_states:
            self.joint_states.publish(joint_state_message(self._joints, position.tolist(), velocity, now_ns))
        if self.reports_positions and self.publishes_joint_states:
            self.position_times_s.append(time.monotonic())
        if self.publishes_transforms:
            T_base_tool = self.T_error @ self._kinematics.forward(q)
            transform = transform_message(
                T_base_tool, self._prefix + BASE, self.tool_frame, now_ns - round(self.transform_age_s * 1e9)
            )
            self.transforms.publish(TFMessage(transforms=[transform]))
            self.transform_times_s.append(time.monotonic())

    def publish_image(self) -> None:
        """Send an image, unless the camera is stopped."""
        if not self.publishes_images:
            return
        height, width, _ = self.image.shape
        if not self.is_frozen:
            self.image[0, 0] += 1  # as noise does: no two images are the same
        now_ns = self._now_ns() - round(self.image_age_s * 1e9)
        info = self.camera_info or camera_info_message(
            self._camera_matrix, width, height, self._prefix + CAMERA, now_ns
        )
        self._camera_infos.publish(info)
        self.images.publish(image_message(self.image, self._prefix + CAMERA, now_ns))
        self.image_times_s.append(time.monotonic())

    def _desired(self) -> State:
        now_ns = self._now_ns()
        self._take_commands()
        return self.controller.follow(now_ns)

    def _take_commands(self) -> None:
        """Those that wait for the executor: after a pause it would run timers first."""
        if self._commands_in is not None:
            for message, info in take_waiting(self._commands_in):
                self._receive_command(message, info)

    def _receive_command(self, message: JointTrajectory, info: dict[str, int]) -> None:
        received_ns = info["received_timestamp"]
        self.commands.append(message)
        self.command_times_s.append(time.monotonic() - (self._now_ns() - received_ns) * 1e-9)
        self.controller.receive(received_ns, message)


def main(width: int = 640, height: int = 480, rate_hz: float = 20.0) -> None:
    """Publish until interrupted."""
    gc.disable()  # all commands are kept: looking through them would hold the robot up ever longer
    # Signals end the process as they do by default: there is nothing to put in order.
    rclpy.init(signal_handler_options=SignalHandlerOptions.NO)
    rclpy.spin(SyntheticRobot(width, height, rate_hz))


if __name__ == "__main__":
    tyro.cli(main)

"""The simulated robot cell as a ROS node, with the topics of a camera, an arm's drivers and its controllers.

The simulation runs on the thread that calls `advance`; messages arrive on the executor's thread. They are queued and
handled between simulation steps, as in a controller's update loop.
"""

import queue
import time
from concurrent.futures import Future
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, QoSProfile, qos_profile_sensor_data
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import CameraInfo, Image, JointState
from sqap_vla.msg import ActionChunk
from std_msgs.msg import String
from tf2_msgs.msg import TFMessage
from trajectory_msgs.msg import JointTrajectory

from sqap_vla_ros.config.robot import load_configuration
from sqap_vla_ros.core.clock import stamp_ns
from sqap_vla_ros.ros.conversions import time_message
from sqap_vla_ros.simulation import messages
from sqap_vla_ros.simulation.cell_report import EpisodeLog, EpisodeReport
from sqap_vla_ros.simulation.joint_trajectory_controller import JointTrajectoryController, arm_limits
from sqap_vla_ros.simulation.libero import ARM_JOINTS, BASE_BODY, FINGER_JOINTS, LiberoScene
from sqap_vla_ros.simulation.parameters import CellParameters
from sqap_vla_ros.simulation.recorder import RECORDER_NODE
from sqap_vla_ros.simulation.urdf import urdf_from_mujoco

ROBOT = "libero_panda"
INSTRUCTION_TOPIC = "/sqap_vla/instruction"
CHUNK_TOPIC = "/sqap_vla/chunk"
LATCHED = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
_FIRST_NS = 10**9  # zero would mean that there is no clock
_STATE_PERIOD_NS = 10_000_000  # transforms and joint states: 100 Hz


class SimulatedCell(Node):
    """A LIBERO task behind ROS topics.

    Time starts at one second; for wall time, the first `advance` lets it slip there.

    Args:
        **node_arguments: Arguments of rclpy's node.

    Raises:
        ValueError: A parameter names something that does not exist.
    """

    def __init__(self, **node_arguments: Any) -> None:
        super().__init__("simulated_cell", **node_arguments)
        self.parameters = CellParameters.declare(self)
        self.configuration = load_configuration(ROBOT)
        self.log = EpisodeLog()
        self.success = False
        self.scene = LiberoScene(
            self.parameters.suite,
            self.parameters.task,
            initial_state=self.parameters.initial_state,
            seed=self.parameters.seed,
            camera=self.parameters.camera,
            width=self.parameters.image_width,
            height=self.parameters.image_height,
        )
        self._arm = JointTrajectoryController(
            ARM_JOINTS, self.scene.joint_positions, arm_limits(self.scene.joint_ranges, self.configuration.limits)
        )
        self._gripper = JointTrajectoryController(FINGER_JOINTS[:1], self.scene.finger_positions[:1])
        self._start_ns = self._now_ns = _FIRST_NS
        self._exposure: tuple[int, Future[NDArray[np.uint8]]] | None = None  # stamp and image being rendered
        self._violated = False
        self._next_state_ns = self._next_image_ns = _FIRST_NS
        self._image_period_ns = round(1e9 / self.parameters.rate_hz)
        self._step_ns = round(self.scene.model.opt.timestep * 1e9)
        self._commands: queue.SimpleQueue[tuple[JointTrajectoryController, JointTrajectory]] = queue.SimpleQueue()
        self._create_publishers()
        self._create_subscriptions()
        self._publish_latched()

    def _create_publishers(self) -> None:
        topics = self.configuration.topics
        self._image_publisher = self.create_publisher(Image, topics.image, qos_profile_sensor_data)
        self._camera_info_publisher = self.create_publisher(CameraInfo, topics.camera_info, qos_profile_sensor_data)
        self._transform_publisher = self.create_publisher(TFMessage, "/tf", 100)
        self._static_transform_publisher = self.create_publisher(TFMessage, "/tf_static", LATCHED)
        self._joint_state_publisher = self.create_publisher(JointState, topics.joint_states, 10)
        self._robot_description_publisher = self.create_publisher(String, topics.robot_description, LATCHED)
        self._instruction_publisher = self.create_publisher(String, INSTRUCTION_TOPIC, LATCHED)
        self._clock_publisher = self.create_publisher(Clock, "/clock", 1) if self.parameters.publish_clock else None

    def _create_subscriptions(self) -> None:
        topics = self.configuration.topics
        # rclpy hands a callback of two arguments when the message was sent and received; its type hints do not know.
        arm: Any = self._receive_arm_command
        chunk: Any = self._receive_chunk
        self.create_subscription(JointTrajectory, topics.command, arm, 10)
        self.create_subscription(
            JointTrajectory, topics.gripper_command, lambda message: self._commands.put((self._gripper, message)), 10
        )
        self.create_subscription(ActionChunk, CHUNK_TOPIC, chunk, 10)

    def _publish_latched(self) -> None:
        self._robot_description_publisher.publish(String(data=urdf_from_mujoco(self.scene.model, BASE_BODY)))
        self._instruction_publisher.publish(String(data=self.scene.instruction))
        if self.scene.camera.is_fixed:
            self._static_transform_publisher.publish(TFMessage(transforms=[self._camera_transform()]))

    @property
    def now_ns(self) -> int:
        """The ROS clock as the simulation has it (ns)."""
        return self._now_ns

    @property
    def is_watched(self) -> bool:
        """Whether a node other than the recorder subscribes to the images."""
        watchers = self.get_subscriptions_info_by_topic(self.configuration.topics.image)
        return any(watcher.node_name != RECORDER_NODE for watcher in watchers)

    @property
    def simulated_s(self) -> float:
        """Simulated time since the start (s)."""
        return (self._now_ns - self._start_ns) * 1e-9

    @property
    def is_over(self) -> bool:
        """Whether an episode of limited length has ended: by success or by its time."""
        limit_s = self.parameters.episode_s
        return limit_s > 0 and (self.success or self.simulated_s >= limit_s)

    def report(self, wall_s: float) -> EpisodeReport:
        """The episode's figures so far."""
        return self.log.report(self.scene.instruction, self.success, self.simulated_s, wall_s)

    def publish_clock(self) -> None:
        """Publish simulated time, if the parameters ask for it."""
        if self._clock_publisher is not None:
            self._clock_publisher.publish(Clock(clock=time_message(self._now_ns)))

    def advance(self, slip_ns: int = 0) -> None:
        """Simulate to the next moment at which something is published, and publish it.

        Args:
            slip_ns: Time that has passed on the ROS clock without being simulated, as when a control loop overruns.
        """
        self._start_ns += slip_ns
        self._now_ns += slip_ns
        self._next_state_ns += slip_ns
        self._next_image_ns += slip_ns
        self._take_commands()
        self._publish_state()
        is_due = self._now_ns >= self._next_image_ns
        if self._exposure is not None and (is_due or self._exposure[1].done()):
            self._publish_image()  # waits when the next one is due already: rendering sets the pace then
        if is_due:
            self._exposure = self._now_ns, self.scene.camera.start_rendering()
            self._next_image_ns += self._image_period_ns
        if self._now_ns >= self._next_state_ns:
            self._next_state_ns += _STATE_PERIOD_NS
        self._simulate(min(self._next_state_ns, self._next_image_ns))

    def _simulate(self, until_ns: int) -> None:
        steps = -(-(until_ns - self._now_ns) // self._step_ns)  # rounded up: never short of the moment asked for
        self._now_ns += steps * self._step_ns
        start_s = self._start_ns * 1e-9
        finger_m = float(self._gripper.desired(self._now_ns * 1e-9)[0][0])
        self.scene.step(lambda time_s: self._arm.desired(start_s + time_s), self.simulated_s, finger_m)
        self._note_violations()
        if not self.success and self.scene.success():
            self.success = True
            self.get_logger().info(f"success after {self.simulated_s:.1f} s: {self.scene.instruction}")

    def _note_violations(self) -> None:
        """Count violations, at which a real arm would stop, and log the first of a series; here the arm continues."""
        violations = self._arm.violations
        if violations and not self._violated:
            first = violations[0]
            self.get_logger().warning(
                f"a real arm would stop: {first.kind} of {first.joint} {first.value:.4g}, limit {first.limit:.4g}",
                throttle_duration_sec=1.0,
            )
        self.log.violations += len(violations)
        self._violated = bool(violations)
        violations.clear()

    def _take_commands(self) -> None:
        while not self._commands.empty():
            controller, trajectory = self._commands.get()
            rejection = controller.accept(trajectory, self._now_ns * 1e-9)
            if rejection:
                self.get_logger().warning(f"trajectory rejected: {rejection}", throttle_duration_sec=1.0)
            elif controller is self._arm:
                self.log.command_times_s.append(self.simulated_s)

    def _publish_state(self) -> None:
        scene, frames, now_ns = self.scene, self.configuration.frames, self._now_ns
        self.publish_clock()
        transforms = [messages.transform_message(scene.T_base_tool, frames.base, frames.tool, now_ns)]
        if not scene.camera.is_fixed:
            transforms.append(self._camera_transform())
        self._transform_publisher.publish(TFMessage(transforms=transforms))
        joint_state = messages.joint_state_message(
            (*ARM_JOINTS, *FINGER_JOINTS),
            [*scene.joint_positions, *scene.finger_positions],
            [*scene.joint_velocities, *scene.finger_velocities],
            now_ns,
        )
        self._joint_state_publisher.publish(joint_state)

    def _publish_image(self) -> None:
        """Publish the last image; it arrives late, as from a real camera."""
        assert self._exposure is not None
        (at_ns, image), self._exposure = self._exposure, None
        scene, frame = self.scene, self.configuration.frames.camera
        message = messages.image_message(image.result(), frame, at_ns)
        self._camera_info_publisher.publish(
            messages.camera_info_message(scene.camera.matrix, scene.camera.width, scene.camera.height, frame, at_ns)
        )
        self.log.images.append((at_ns, time.time_ns()))
        self._image_publisher.publish(message)

    def _camera_transform(self) -> Any:
        frames = self.configuration.frames
        return messages.transform_message(self.scene.T_base_camera, frames.base, frames.camera, self._now_ns)

    def _receive_arm_command(self, message: JointTrajectory, info: dict[str, int]) -> None:
        self.log.trajectories.append((info["source_timestamp"], info["received_timestamp"]))
        self._commands.put((self._arm, message))

    def _receive_chunk(self, message: ActionChunk, info: dict[str, int]) -> None:
        self.log.chunks.append((info["source_timestamp"], stamp_ns(message)))

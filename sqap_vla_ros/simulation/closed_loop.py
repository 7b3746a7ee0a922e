"""The simulated arm behind the node's own observation and control, in one process and on simulated time.

Everything between the images and the arm's joints is the node's own: the assembler of observations, the commander, the
rules of the controllers. They exchange ROS messages as they do in the node, but there is no node, topic or middleware,
so that an episode takes only as long as its computing.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from tf2_msgs.msg import TFMessage

from sqap_vla_ros.config.robot import Configuration
from sqap_vla_ros.control.commander import Commander
from sqap_vla_ros.control.commands import Command, JointState
from sqap_vla_ros.control.kinematics import Kinematics
from sqap_vla_ros.core.action_chunk import ActionChunk, CommittedActions
from sqap_vla_ros.core.observation import Observation
from sqap_vla_ros.core.rejection import Cause, RejectedError, Rejection, Response
from sqap_vla_ros.perception.assembly import ObservationAssembler
from sqap_vla_ros.ros.conversions import gripper_message, trajectory_message
from sqap_vla_ros.simulation import messages
from sqap_vla_ros.simulation.joint_trajectory_controller import JointTrajectoryController, arm_limits
from sqap_vla_ros.simulation.libero import ARM_JOINTS, BASE_BODY, FINGER_JOINTS, LiberoScene
from sqap_vla_ros.simulation.urdf import urdf_from_mujoco

_FINGER_PERIOD_NS = 10_000_000
# Between the clocks of two episodes: stamps seed the noise, and each episode is to have its own.
_APART_NS = 10**12


@dataclass(frozen=True)
class Disturbance:
    """An imperfection of real cells that a simulated one does not have by itself.

    Attributes:
        camera_rotation_deg: Angle by which the camera has turned since it was calibrated, about a random axis.
        camera_translation_m: Distance by which it has moved, in a random direction.
        tf_offset_m: Error of the camera's transform, in a random direction; the images are right, so that this moves
            the protected ring alone.
        image_noise: Standard deviation of the noise of each pixel (grey levels of 255).
        drop_frames: Share of the images that never arrive.
    """

    camera_rotation_deg: float = 0.0
    camera_translation_m: float = 0.0
    tf_offset_m: float = 0.0
    image_noise: float = 0.0
    drop_frames: float = 0.0


class ClosedLoop:
    """The arm of a scene behind observation and control, from the scene's present state on.

    Args:
        scene: The scene after its reset, at which its time starts.
        configuration: The robot's settings.
        disturbance: What is not as it should be.
        seed: Seed of what the disturbance draws, and of the clock, whose stamps seed the policy's noise.

    Attributes:
        scene: The scene.
        configuration: The robot's settings.
    """

    def __init__(
        self,
        scene: LiberoScene,
        configuration: Configuration,
        disturbance: Disturbance = Disturbance(),  # noqa: B008 - frozen
        seed: int = 0,
    ) -> None:
        command, frames = configuration.command, configuration.frames
        self.scene = scene
        self.configuration = configuration
        kinematics = Kinematics(urdf_from_mujoco(scene.model, BASE_BODY), command.joints, frames.base, frames.tool)
        self._commander = Commander(configuration, kinematics)
        self._arm = JointTrajectoryController(
            ARM_JOINTS, scene.joint_positions, arm_limits(scene.joint_ranges, configuration.limits)
        )
        self._gripper = JointTrajectoryController(FINGER_JOINTS[:1], scene.finger_positions[:1])
        self._assembler = ObservationAssembler(configuration)
        self._assembler.set_instruction(scene.instruction)
        self._image_noise = disturbance.image_noise
        self._seed = seed
        self._first_ns = (1 + seed) * _APART_NS
        self._draw = np.random.default_rng(seed)
        self._observation: Observation | None = None  # the last one
        self._calibrate(disturbance)

    def _calibrate(self, disturbance: Disturbance) -> None:
        """Give the assembler the camera's calibration and pose as they once were, and then disturb them."""
        scene, frames = self.scene, self.configuration.frames
        T_base_camera = scene.T_base_camera.copy()
        T_base_camera[:3, 3] += disturbance.tf_offset_m * self._direction()
        camera = messages.transform_message(T_base_camera, frames.base, frames.camera, self._first_ns)
        self._assembler.add_transforms(TFMessage(transforms=[camera]), static=True)
        self._assembler.set_camera_info(
            messages.camera_info_message(
                scene.camera.matrix, scene.camera.width, scene.camera.height, frames.camera, self._first_ns
            )
        )
        rotation = np.deg2rad(disturbance.camera_rotation_deg) * self._direction()
        scene.camera.displace(rotation, disturbance.camera_translation_m * self._direction())

    def _direction(self) -> NDArray[np.float64]:
        vector = self._draw.standard_normal(3)
        direction: NDArray[np.float64] = vector / np.linalg.norm(vector)
        return direction

    @property
    def now_ns(self) -> int:
        """The ROS clock as the simulation has it (ns)."""
        return self._first_ns + round(self.scene.time_s * 1e9)

    @property
    def violations(self) -> int:
        """Simulation steps and joints in which the arm was asked for more than its limits."""
        return len(self._arm.violations)

    @property
    def finger_m(self) -> float:
        """Commanded position of the fingers [m]."""
        return float(self._gripper.desired(self.now_ns * 1e-9)[0][0])

    def observe(self) -> Observation:
        """The observation that a policy gets now.

        Raises:
            RuntimeError: There is no observation; the message says why.
        """
        if self._observation is not None and self._observation.stamp_ns == self.now_ns:
            return self._observation
        frames, now_ns = self.configuration.frames, self.now_ns
        tool = messages.transform_message(self.scene.T_base_tool, frames.base, frames.tool, now_ns)
        self._assembler.add_transforms(TFMessage(transforms=[tool]))
        self._assembler.offer(messages.image_message(self._picture(), frames.camera, now_ns), now_ns)
        observation = self._assembler.poll(now_ns)
        if not isinstance(observation, Observation):
            raise RuntimeError(f"no observation: {observation}")
        self._observation = observation
        return observation

    def _picture(self) -> NDArray[np.uint8]:
        image = self.scene.camera.render()
        if not self._image_noise:
            return image
        # Seeded by the stamp, so that an episode that is watched sees the same noise as one that is not.
        draw = np.random.default_rng((self._seed, self.now_ns))
        noisy = image + draw.normal(0.0, self._image_noise, image.shape)
        return np.clip(np.rint(noisy), 0, 255).astype(np.uint8)

    def continuation(self, observation: Observation) -> CommittedActions | None:
        """The part of the running chunk that a new one continues from, as the commander has it."""
        return self._commander.continuation(observation.stamp_ns, observation.T_base_tool)

    def command(self, chunk: ActionChunk) -> Rejection | None:
        """Send the command that a chunk leads to; returns why there is none, or None."""
        now_ns = self.now_ns
        state = JointState(self.scene.joint_positions.copy(), self.scene.joint_velocities.copy(), now_ns)
        prepared = self._commander.prepare(chunk, now_ns, state)
        return prepared if isinstance(prepared, Rejection) else prepared.publish_through(self._send, now_ns)

    def _send(self, command: Command) -> bool:
        now_s, settings = self.now_ns * 1e-9, self.configuration
        joints = settings.command.joints
        message = trajectory_message(command.trajectory, joints, command.start_ns, settings.frames.base)
        if rejection := self._arm.accept(message, now_s):
            raise RejectedError(Cause.CONTROLLER_REJECTED, Response.DROP, rejection)
        if command.gripper is not None:
            self._gripper.accept(gripper_message(FINGER_JOINTS[0], command.gripper), now_s)
        return True

    def advance(self, until_ns: int) -> None:
        """Simulate until a time of the ROS clock (ns); the fingers' command is updated every 10 ms."""
        first_s = self._first_ns * 1e-9
        while (now_ns := self.now_ns) < until_ns:
            at_ns = min(now_ns + _FINGER_PERIOD_NS, until_ns)
            finger_m = float(self._gripper.desired(at_ns * 1e-9)[0][0])
            until_s = (at_ns - self._first_ns) * 1e-9
            self.scene.step(lambda time_s: self._arm.desired(first_s + time_s), until_s, finger_m)

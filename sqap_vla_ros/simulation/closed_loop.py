"""A policy in closed loop with the simulated arm, in one process and on simulated time.

Everything between the images and the arm's joints is the node's own: the assembler of observations, the commander,
the rules of the controllers. Only the topics are missing, so that an episode takes as long as its computing.
"""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from tf2_msgs.msg import TFMessage

from sqap_vla_ros.config.robot import Configuration
from sqap_vla_ros.control.commander import Commander, JointState
from sqap_vla_ros.control.kinematics import Kinematics
from sqap_vla_ros.core.action_chunk import ActionChunk, CommittedActions
from sqap_vla_ros.core.observation import Observation
from sqap_vla_ros.core.policy import Policy
from sqap_vla_ros.core.rejection import Rejection
from sqap_vla_ros.perception.assembly import ObservationAssembler
from sqap_vla_ros.ros.conversions import gripper_message, trajectory_message
from sqap_vla_ros.simulation import messages
from sqap_vla_ros.simulation.joint_trajectory_controller import JointTrajectoryController, arm_limits
from sqap_vla_ros.simulation.libero import ARM_JOINTS, BASE_BODY, FINGER_JOINTS, LiberoScene
from sqap_vla_ros.simulation.urdf import urdf_from_mujoco

FRAME_NS = 50_000_000  # images: 20 Hz, LIBERO's control rate
_FINGER_PERIOD_NS = 10_000_000
# Between the clocks of episodes: noise is drawn by the stamp, and each is to have its own.
_APART_NS = 10**12


@dataclass(frozen=True)
class Disturbance:
    """What a real cell has and a simulated one has not.

    Attributes:
        camera_rotation_deg: The camera has turned by so much since it was calibrated, about a drawn axis.
        camera_translation_m: It has moved by so much, in a drawn direction.
        tf_offset_m: The transform of the camera is wrong by so much, in a drawn direction; the images are right. What
            it moves is the protected ring.
        image_noise: Standard deviation of the noise of each pixel (grey levels of 255).
        drop_frames: Share of images that never arrive.
    """

    camera_rotation_deg: float = 0.0
    camera_translation_m: float = 0.0
    tf_offset_m: float = 0.0
    image_noise: float = 0.0
    drop_frames: float = 0.0


@dataclass(frozen=True)
class LoopSettings:
    """How an episode is run.

    Attributes:
        limit_s: Simulated time after which it has failed (s).
        plan_period_s: From plan to plan (s); a whole number of images at 20 Hz.
        delay_s: From an image to the command that follows from it (s).
        disturbance: What is not as it should be.
    """

    limit_s: float = 20.0
    plan_period_s: float = 0.2
    delay_s: float = 0.0
    disturbance: Disturbance = field(default_factory=Disturbance)


@dataclass(frozen=True)
class Frame:
    """One camera image.

    Attributes:
        at_ns: Its stamp.
        image: uint8 (height, width, 3), RGB.
        chunk: The plan that was made on it; None: none was.
    """

    at_ns: int
    image: NDArray[np.uint8]
    chunk: ActionChunk | None


@dataclass(frozen=True)
class EpisodeTrace:
    """What happened in an episode; states at the images' rate, N of them.

    Attributes:
        success: By LIBERO's own predicate.
        simulated_s: How long it took (s).
        tool_poses: float64 (N, 4, 4), T_base_tool [m].
        joint_positions: float64 (N, 7) [rad].
        gripper: float64 (N,), the fingers' commanded position [m].
        plans: How many plans were made.
        refusals: Why plans led to no command, and how often.
        planning_s: Wall time of each plan (s).
        violations: Simulation steps in which the arm was asked for more than its limits.
    """

    success: bool
    simulated_s: float
    tool_poses: NDArray[np.float64]
    joint_positions: NDArray[np.float64]
    gripper: NDArray[np.float64]
    plans: int
    refusals: Counter[str]
    planning_s: tuple[float, ...]
    violations: int


class ClosedLoop:
    """The arm of a scene behind observation and control, from the scene's present state on.

    Args:
        scene: After its reset, whose time counts.
        configuration: The robot's settings.
        disturbance: What is not as it should be.
        seed: Of what the disturbance draws, and of the clock, which the policy's noise is drawn by.
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
        self._calibrate(disturbance)

    def _calibrate(self, disturbance: Disturbance) -> None:
        """Tell the camera's calibration and pose as they once were, and then disturb them."""
        scene, frames = self.scene, self.configuration.frames
        T_base_camera = scene.T_base_camera.copy()
        T_base_camera[:3, 3] += disturbance.tf_offset_m * self._direction()
        camera = messages.transform_message(T_base_camera, frames.base, frames.camera, self._first_ns)
        self._assembler.add_transforms(TFMessage(transforms=[camera]), static=True)
        self._assembler.set_camera_info(
            messages.camera_info_message(scene.camera_matrix, scene.width, scene.height, frames.camera, self._first_ns)
        )
        rotation = np.deg2rad(disturbance.camera_rotation_deg) * self._direction()
        scene.displace_camera(rotation, disturbance.camera_translation_m * self._direction())

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
        """What the policy would be given now.

        Raises:
            RuntimeError: The observation was refused; the message says why.
        """
        frames, now_ns = self.configuration.frames, self.now_ns
        tool = messages.transform_message(self.scene.T_base_tool, frames.base, frames.tool, now_ns)
        self._assembler.add_transforms(TFMessage(transforms=[tool]))
        self._assembler.offer(messages.image_message(self._picture(), frames.camera, now_ns), now_ns)
        observation = self._assembler.poll(now_ns)
        if not isinstance(observation, Observation):
            raise RuntimeError(f"no observation: {observation}")
        return observation

    def _picture(self) -> NDArray[np.uint8]:
        image = self.scene.render()
        if not self._image_noise:
            return image
        # By the stamp, so that an episode that is watched sees the same noise as one that is not.
        draw = np.random.default_rng((self._seed, self.now_ns))
        noisy = image + draw.normal(0.0, self._image_noise, image.shape)
        return np.clip(np.rint(noisy), 0, 255).astype(np.uint8)

    def continuation(self, observation: Observation) -> CommittedActions | None:
        """What the policy is to plan on from."""
        return self._commander.continuation(observation.stamp_ns, observation.T_base_tool)

    def command(self, chunk: ActionChunk) -> str:
        """Send the command that a chunk leads to; returns in words why there is none, empty otherwise."""
        now_ns, settings = self.now_ns, self.configuration
        state = JointState(self.scene.joint_positions.copy(), self.scene.joint_velocities.copy(), now_ns)
        command = self._commander.command(chunk, now_ns, state)
        if isinstance(command, Rejection):
            return command.sentence
        joints = settings.command.joints
        message = trajectory_message(command.trajectory, joints, command.start_ns, settings.frames.base)
        rejection = self._arm.accept(message, now_ns * 1e-9)
        if rejection:
            return rejection
        if command.gripper is not None:
            self._gripper.accept(gripper_message(FINGER_JOINTS[0], command.gripper), now_ns * 1e-9)
        self._commander.published(command)
        return ""

    def advance(self, until_ns: int) -> None:
        """Simulate; the fingers' command is updated every 10 ms."""
        first_s = self._first_ns * 1e-9
        while (now_ns := self.now_ns) < until_ns:
            at_ns = min(now_ns + _FINGER_PERIOD_NS, until_ns)
            finger_m = float(self._gripper.desired(at_ns * 1e-9)[0][0])
            until_s = (at_ns - self._first_ns) * 1e-9
            self.scene.step(lambda time_s: self._arm.desired(first_s + time_s), until_s, finger_m)


def run_episode(
    scene: LiberoScene,
    policy: Policy,
    configuration: Configuration,
    settings: LoopSettings,
    *,
    seed: int,
    on_frame: Callable[[Frame], None] | None = None,
) -> EpisodeTrace:
    """Let a policy try the task of a scene that was just reset.

    At most one plan is under way: with a delay longer than the period, plans follow each other as the delay allows.

    Args:
        scene: After its reset.
        policy: Reset here.
        configuration: The robot's settings.
        settings: Of the loop.
        seed: Of what the disturbance draws, and of the policy's noise.
        on_frame: Given every image, at 20 Hz; without it only those that are planned on are rendered.
    """
    loop = ClosedLoop(scene, configuration, settings.disturbance, seed)
    policy.reset()
    dropped = np.random.default_rng((seed, 1))
    begin_ns = now_ns = next_plan_ns = loop.now_ns
    pending: tuple[int, ActionChunk] | None = None  # when it is commanded
    poses, joints, gripper = [], [], []
    planning_s: list[float] = []
    refusals: Counter[str] = Counter()
    success = False

    def send(chunk: ActionChunk) -> None:
        reason = loop.command(chunk)
        if reason:
            refusals[reason.split(":")[0]] += 1

    while not success and now_ns - begin_ns < settings.limit_s * 1e9:
        poses.append(scene.T_base_tool)
        joints.append(scene.joint_positions.copy())
        gripper.append(loop.finger_m)
        chunk = None
        if pending is not None and pending[0] <= now_ns:
            send(pending[1])
            pending = None
        is_due = pending is None and now_ns >= next_plan_ns
        if is_due and dropped.random() < settings.disturbance.drop_frames:
            is_due = False
        if is_due or on_frame is not None:
            observation = loop.observe()
            if is_due:
                next_plan_ns = now_ns + round(settings.plan_period_s * 1e9)
                chunk = policy.plan(observation, loop.continuation(observation))
                planning_s.append(sum(chunk.timings_s.values()))
                pending = now_ns + round(settings.delay_s * 1e9), chunk
            if on_frame is not None:
                on_frame(Frame(now_ns, observation.image, chunk))
        now_ns += FRAME_NS
        if pending is not None and pending[0] < now_ns:
            loop.advance(pending[0])
            send(pending[1])
            pending = None
        loop.advance(now_ns)
        success = scene.success()
    return EpisodeTrace(
        success=success,
        simulated_s=(now_ns - begin_ns) * 1e-9,
        tool_poses=np.array(poses),
        joint_positions=np.array(joints),
        gripper=np.array(gripper),
        plans=len(planning_s),
        refusals=refusals,
        planning_s=tuple(planning_s),
        violations=loop.violations,
    )

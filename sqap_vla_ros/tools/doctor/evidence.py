"""Evidence from the messages of a bag, or of a few live seconds: their times, and what the node would make of them.

Of every message only its times are kept, so that a long bag needs little memory. If the clock is set back (a bag played
in a loop), earlier evidence is dropped and the last stretch is judged.
"""

from collections import Counter, deque
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from sqap_vla_ros.bags.model_comparison import ModelComparison
from sqap_vla_ros.config.robot import Configuration
from sqap_vla_ros.core import clock as stamps
from sqap_vla_ros.core.observation import Observation
from sqap_vla_ros.core.policy import ONE_CAMERA, PolicyNeeds
from sqap_vla_ros.core.reasons import ReasonCounter
from sqap_vla_ros.perception.assembly import ObservationAssembler, RejectedImage
from sqap_vla_ros.perception.camera import CameraError, CameraModel
from sqap_vla_ros.perception.images import ImageError
from sqap_vla_ros.perception.transform_tree import TransformError
from sqap_vla_ros.perception.transforms import Array, transform_from_message, vector_from_rotation
from sqap_vla_ros.ros.controller_facts import Controllers
from sqap_vla_ros.tools.doctor.times import Times

# The instruction is examined separately: images are judged, and plans timed, also without one.
_ANY_INSTRUCTION = "pick up the object and put it down"
KEPT_OBSERVATIONS = 4

# Faster than any arm that a policy at a few hertz can drive, and farther than the noise of a calibration.
_JUMP_M_S, _JUMP_M = 5.0, 0.02
_JUMP_RAD_S, _JUMP_RAD = 20.0, 0.2


@dataclass
class Edge:
    """The transforms of one child frame.

    Attributes:
        parents: Parent frames and how often each was sent; more than one is a conflict.
        static: Whether it came on /tf_static.
        times: Times of its messages.
        jumps: Number of moves that are faster than any arm.
        farthest_jump_m: Length of the longest of these moves.
    """

    parents: Counter[str] = field(default_factory=Counter)
    static: bool = False
    times: Times = field(default_factory=Times)
    jumps: int = 0
    farthest_jump_m: float = 0.0
    _last: tuple[int, Array] | None = None

    def add(self, message: Any, static: bool, received_ns: int) -> None:
        """Add a geometry_msgs TransformStamped."""
        at_ns = stamps.stamp_ns(message)
        self.parents[message.header.frame_id.lstrip("/")] += 1
        self.static = static
        self.times.add(at_ns, received_ns)
        try:
            T_parent_child = transform_from_message(message.transform)
        except ValueError:  # the tree rejects it, and it is counted there
            return
        if self._last is not None and at_ns > self._last[0]:
            seconds = (at_ns - self._last[0]) * 1e-9
            distance_m = float(np.linalg.norm(T_parent_child[:3, 3] - self._last[1][:3, 3]))
            angle = float(np.linalg.norm(vector_from_rotation(self._last[1][:3, :3].T @ T_parent_child[:3, :3])))
            if distance_m > max(_JUMP_M, _JUMP_M_S * seconds) or angle > max(_JUMP_RAD, _JUMP_RAD_S * seconds):
                self.jumps += 1
                self.farthest_jump_m = max(self.farthest_jump_m, distance_m)
        self._last = at_ns, T_parent_child


@dataclass(frozen=True)
class PlannedMotion:
    """A recorded action chunk: the motion that was planned.

    Attributes:
        stamp_ns: Stamp of its observation.
        time_step_s: Time between two actions.
        actions: float64 (horizon, 7).
        T_base_tool: float64 (4, 4), the tool pose at which it starts.
    """

    stamp_ns: int
    time_step_s: float
    actions: Array
    T_base_tool: Array


class Evidence:
    """Collects messages and what follows from them.

    Args:
        configuration: Topics, frames and limits by which the evidence is judged.
        needs: Cameras and state that the policy needs.

    Attributes:
        images: Times of the first camera's images.
        further_images: Times of the other cameras' images, by their names.
        further_frames: Number of these images by frame_id.
        further_problem: Bag: which further camera or joints it lacks; empty: none.
        formats: Number of images by (encoding or format, width, height); the size of compressed ones is 0.
        image_frames: Number of images by frame_id.
        rejected_images: Reasons why images were rejected.
        camera_infos: Number of CameraInfo messages.
        camera: Camera model of the newest CameraInfo, or the reason why it cannot be used.
        camera_info: The newest CameraInfo message.
        edges: Transforms by child frame.
        rejected_transforms: Reasons why transforms were rejected.
        observations: The newest observations that the node would have planned on.
        planned: Number of images that the node could have planned on.
        rejections: Reasons why the node would not have planned on the others.
        no_ring: Reasons why the ring would have been left out.
        tool_path: Stamps int64 (ns) and positions float64 (x, y, z in the base frame, metres) at the images.
        T_camera_base: float64 (4, 4), base in the camera's frame at the newest observation; None if unknown.
        instructions: Instructions to the policy, in order.
        motions: Recorded chunks.
        clock_jumps: Number of times that the clock was set back.
        damage: Message about the damage at which reading a bag ended; empty if there is none.
        joint_problem: Live: reason why there are no joint states of the arm; empty if there are. None: not examined.
        robot_problem: Live: reason why the robot's model cannot be used; empty if it can. None: not examined.
        model: The robot model, compared with the transforms.
        poses: Bag: how the arm's poses are computed, where there are no transforms of it.
        other_topics: Bag: settings with another topic than the one that was read, and the topic that they name.
        bag_topics: Names of all topics of the bag; None: live.
        controllers: Live: the controllers of arm and gripper. None: not examined.
    """

    def __init__(self, configuration: Configuration, needs: PolicyNeeds = ONE_CAMERA) -> None:
        self.configuration = configuration
        self.needs = needs
        self.further_problem = ""
        self.clock_jumps = 0
        self.instructions: list[str] = []
        self.camera: CameraModel | str = ""
        self.camera_info: Any = None
        self.camera_infos = 0
        self.edges: dict[str, Edge] = {}
        self.damage = ""
        self.joint_problem: str | None = None
        self.robot_problem: str | None = None
        self.model = ModelComparison(configuration)
        self.poses = ""
        self.other_topics: dict[str, str] = {}
        self.bag_topics: frozenset[str] | None = None
        self.controllers: Controllers | None = None
        self._assembler = ObservationAssembler(configuration, needs)
        self._assembler.set_instruction(_ANY_INSTRUCTION)
        self.tree = self._assembler.tree
        self._image_stamps = stamps.JumpDetector(stamps.STAMP_BACK_NS)
        self._forget()

    def _forget(self) -> None:
        self.images = Times()
        self.formats: Counter[tuple[str, int, int]] = Counter()
        self.image_frames: Counter[str] = Counter()
        self.rejected_images = ReasonCounter()
        self.further_images = {name: Times() for name in self._assembler.further}
        self.further_frames: dict[str, Counter[str]] = {name: Counter() for name in self._assembler.further}
        self.rejected_transforms = ReasonCounter()
        self.edges = {child: edge for child, edge in self.edges.items() if edge.static}
        self.observations: deque[Observation] = deque(maxlen=KEPT_OBSERVATIONS)
        self.planned = 0
        self.rejections = ReasonCounter()
        self.no_ring = ReasonCounter()
        self.tool_path: list[tuple[int, Array]] = []
        self.T_camera_base: Array | None = None
        self.motions: list[PlannedMotion] = []

    def add_image(self, message: Any, received_ns: int) -> None:
        """Add an Image or CompressedImage."""
        at_ns = stamps.stamp_ns(message)
        if self._image_stamps.jump_ns(at_ns):
            self.clock_jumps += 1
            self._forget()
            self._assembler.reset()
        self.images.add(at_ns, received_ns)
        if hasattr(message, "format"):
            self.formats[message.format, 0, 0] += 1
        else:
            self.formats[message.encoding, int(message.width), int(message.height)] += 1
        self.image_frames[message.header.frame_id] += 1
        try:
            self._assembler.offer(message, received_ns)
        except ImageError as error:
            self.rejected_images.add(str(error))

    def add_further_image(self, name: str, message: Any, received_ns: int) -> None:
        """Add an image of another camera than the first."""
        self.further_images[name].add(stamps.stamp_ns(message), received_ns)
        self.further_frames[name][message.header.frame_id] += 1
        try:
            self._assembler.further[name].offer(message)
        except ImageError as error:
            self.rejected_images.add(f"camera {name}: {error}")

    def add_further_camera_info(self, name: str, message: Any) -> None:
        """Add the CameraInfo of another camera than the first."""
        self._assembler.further[name].calibration.set(message)

    def add_joint_states(self, message: Any) -> None:
        """Add a JointState."""
        self._assembler.state.add(message)

    def add_camera_info(self, message: Any) -> None:
        """Add a CameraInfo."""
        # Live, what is latched is received by both subscriptions.
        is_repeated = self.camera_info is not None and stamps.stamp_ns(message) == stamps.stamp_ns(self.camera_info)
        self.camera_infos += not is_repeated
        self.camera_info = message
        self._assembler.set_camera_info(message)
        try:
            self.camera = CameraModel.from_camera_info(message)
        except CameraError as error:
            self.camera = str(error)

    def add_transforms(self, message: Any, static: bool, received_ns: int) -> None:
        """Add a TFMessage."""
        for transform in message.transforms:
            self.edges.setdefault(transform.child_frame_id.lstrip("/"), Edge()).add(transform, static, received_ns)
        for sentence in self._assembler.add_transforms(message, static):
            self.rejected_transforms.add(sentence)

    def add_extrinsic(self, parent: str, child: str, T_parent_child: Array) -> None:
        """Add the pose of a camera that nothing publishes, float64 (4, 4), metres."""
        self.edges[child] = Edge(Counter([parent]), static=True)
        self.tree.add(parent, child, 0, T_parent_child, static=True)

    def add_instruction(self, text: str) -> None:
        """Add an instruction; one that is repeated is added once."""
        if text.strip() and text.strip() not in self.instructions[-1:]:
            self.instructions.append(text.strip())

    def add_chunk(self, message: Any) -> None:
        """Add a recorded ActionChunk."""
        self.add_instruction(message.instruction)
        actions = np.asarray(message.data, np.float64)
        try:
            T_base_tool = transform_from_message(message.tool_pose)
        except ValueError:
            return
        whole = actions.size and actions.size == 7 * message.horizon and np.isfinite(actions).all()
        if whole and 0 < message.time_step < np.inf:
            motion = PlannedMotion(stamps.stamp_ns(message), message.time_step, actions.reshape(-1, 7), T_base_tool)
            self.motions.append(motion)

    def poll(self, now_ns: int) -> None:
        """Let the observation assembly take the waiting image, if it is ready; to be called after every message."""
        outcome = self._assembler.poll(now_ns)
        if isinstance(outcome, RejectedImage):
            self.rejections.add(outcome.rejection.sentence)
        elif isinstance(outcome, Observation):
            self.planned += 1
            self.model.compare(self.tree)
            if outcome.no_ring_reason:
                self.no_ring.add(outcome.no_ring_reason)
            self.observations.append(outcome)
            self.tool_path.append((outcome.stamp_ns, outcome.T_base_tool[:3, 3]))
            try:
                self.T_camera_base = self.tree.lookup(
                    self.camera_frame, self.configuration.frames.base, outcome.stamp_ns
                )
            except TransformError:
                self.T_camera_base = None

    @property
    def camera_frame(self) -> str:
        """The camera's optical frame: the configured one, or the frame_id of most images."""
        return self.configuration.frames.camera or next(iter(dict(self.image_frames.most_common(1))), "")

    def frame_of_images(self, name: str) -> str:
        """Frame_id of most images of a camera; empty: there are none, or they carry none."""
        first = self.configuration.cameras[0].name
        frames = self.image_frames if name == first else self.further_frames.get(name, Counter())
        return next((frame.lstrip("/") for frame, _ in frames.most_common(1)), "")

"""What the messages of a bag, or of a few live seconds, say: their times, and what the node would have made of them.

Only times are kept of every message, so that a long bag needs little memory. When the clock was set back (a bag played
over again), what came before is forgotten: the last stretch is judged.
"""

from array import array
from collections import Counter, deque
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sqap_vla_ros.config.robot import Configuration
from sqap_vla_ros.core import clock as stamps
from sqap_vla_ros.core.observation import Observation
from sqap_vla_ros.core.reasons import ReasonCounter
from sqap_vla_ros.perception.assembly import ObservationAssembler, RejectedImage
from sqap_vla_ros.perception.camera import CameraError, CameraModel
from sqap_vla_ros.perception.images import ImageError
from sqap_vla_ros.perception.transform_tree import TransformError
from sqap_vla_ros.perception.transforms import Array, transform_from_message, vector_from_rotation

# The instruction is examined on its own: an image is to be judged, and a plan's time measured, also without one.
_ANY_INSTRUCTION = "pick up the object and put it down"
KEPT_OBSERVATIONS = 4

# Faster than any arm that a policy at a few hertz can drive; and by more than what noise of a calibration does.
_JUMP_M_S, _JUMP_M = 5.0, 0.02
_JUMP_RAD_S, _JUMP_RAD = 20.0, 0.2


class Times:
    """When messages were stamped and received, nanoseconds."""

    def __init__(self) -> None:
        self._stamps = array("q")
        self._received = array("q")

    def __len__(self) -> int:
        return len(self._stamps)

    def add(self, stamp_ns: int, received_ns: int) -> None:
        """Note one message."""
        self._stamps.append(stamp_ns)
        self._received.append(received_ns)

    @property
    def stamps_ns(self) -> NDArray[np.int64]:
        """int64 (n,), in the order in which they were received."""
        return np.array(self._stamps, np.int64)

    @property
    def received_ns(self) -> NDArray[np.int64]:
        """int64 (n,)."""
        return np.array(self._received, np.int64)


@dataclass
class Edge:
    """The transforms of one child frame.

    Attributes:
        parents: Frames that it was said to hang below; more than one is a conflict.
        static: Whether it came on /tf_static.
        times: Of its messages.
        jumps: How often it moved faster than any arm does.
        farthest_jump_m: The longest of these moves.
    """

    parents: Counter[str] = field(default_factory=Counter)
    static: bool = False
    times: Times = field(default_factory=Times)
    jumps: int = 0
    farthest_jump_m: float = 0.0
    _last: tuple[int, Array] | None = None

    def add(self, message: Any, static: bool, received_ns: int) -> None:
        """Take a geometry_msgs TransformStamped."""
        at_ns = stamps.stamp_ns(message)
        self.parents[message.header.frame_id.lstrip("/")] += 1
        self.static = static
        self.times.add(at_ns, received_ns)
        try:
            T_parent_child = transform_from_message(message.transform)
        except ValueError:  # refused by the tree, which counts it
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
    """A recorded action chunk: what was to happen.

    Attributes:
        stamp_ns: Of its observation.
        time_step_s: Between two actions.
        actions: float64 (horizon, 7).
        T_base_tool: float64 (4, 4), where it starts.
    """

    stamp_ns: int
    time_step_s: float
    actions: Array
    T_base_tool: Array


class Evidence:
    """Collects messages.

    Args:
        configuration: Topics, frames and limits that they are judged by.

    Attributes:
        images: Times of the images.
        formats: How many images of each (encoding or format, width, height); no size of compressed ones.
        image_frames: How many images with each frame_id.
        refused_images: Why images could not be taken.
        camera_infos: How many came.
        camera: Of the newest usable CameraInfo, or in words why there is none.
        camera_info: The newest CameraInfo message.
        edges: By child frame.
        refused_transforms: Why transforms could not be taken.
        observations: The newest ones, as the node would have had them.
        planned: How many images the node could have planned on.
        refusals: Why the node would have refused images.
        no_ring: Why the ring would have been left out.
        tool_path: Stamps int64 (ns) and positions float64 (x, y, z in the base frame, metres) at the images.
        T_camera_base: float64 (4, 4), base in the camera's frame at the newest observation; None when unknown.
        instructions: What the policy was told, in order.
        motions: Recorded chunks.
        clock_jumps: How often the clock was set back.
        damage: Where reading a bag had to end, in words; empty: nowhere.
        joint_problem: Live: in words, why there are no joint states of the arm; empty when there are. None: not looked.
        robot_problem: Live: in words, why the robot's model cannot be used; empty when it can. None: not looked.
        other_topics: Of a bag: settings that name another topic than was read, with the name that they have.
        bag_topics: Names of all topics of a bag; None: it is none.
        listeners: Live: how many listen to arm and gripper, by the setting that names their topic. None: not looked.
    """

    def __init__(self, configuration: Configuration) -> None:
        self.configuration = configuration
        self.clock_jumps = 0
        self.instructions: list[str] = []
        self.camera: CameraModel | str = ""
        self.camera_info: Any = None
        self.camera_infos = 0
        self.edges: dict[str, Edge] = {}
        self.damage = ""
        self.joint_problem: str | None = None
        self.robot_problem: str | None = None
        self.other_topics: dict[str, str] = {}
        self.bag_topics: frozenset[str] | None = None
        self.listeners: dict[str, int] | None = None
        self._assembler = ObservationAssembler(configuration)
        self._assembler.set_instruction(_ANY_INSTRUCTION)
        self.tree = self._assembler.tree
        self._image_stamps = stamps.JumpDetector(stamps.STAMP_BACK_NS)
        self._forget()

    def _forget(self) -> None:
        self.images = Times()
        self.formats: Counter[tuple[str, int, int]] = Counter()
        self.image_frames: Counter[str] = Counter()
        self.refused_images = ReasonCounter()
        self.refused_transforms = ReasonCounter()
        self.edges = {child: edge for child, edge in self.edges.items() if edge.static}
        self.observations: deque[Observation] = deque(maxlen=KEPT_OBSERVATIONS)
        self.planned = 0
        self.refusals = ReasonCounter()
        self.no_ring = ReasonCounter()
        self.tool_path: list[tuple[int, Array]] = []
        self.T_camera_base: Array | None = None
        self.motions: list[PlannedMotion] = []

    def add_image(self, message: Any, received_ns: int) -> None:
        """Take an Image or CompressedImage."""
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
            self.refused_images.add(str(error))

    def add_camera_info(self, message: Any) -> None:
        """Take a CameraInfo."""
        self.camera_infos += 1
        self.camera_info = message
        self._assembler.set_camera_info(message)
        try:
            self.camera = CameraModel.from_camera_info(message)
        except CameraError as error:
            self.camera = str(error)

    def add_transforms(self, message: Any, static: bool, received_ns: int) -> None:
        """Take a TFMessage."""
        for transform in message.transforms:
            self.edges.setdefault(transform.child_frame_id.lstrip("/"), Edge()).add(transform, static, received_ns)
        for refusal in self._assembler.add_transforms(message, static):
            self.refused_transforms.add(refusal)

    def add_extrinsic(self, parent: str, child: str, T_parent_child: Array) -> None:
        """Place a camera that nobody publishes, float64 (4, 4), metres."""
        self.edges[child] = Edge(Counter([parent]), static=True)
        self.tree.add(parent, child, 0, T_parent_child, static=True)

    def add_instruction(self, text: str) -> None:
        """Take what the policy was told; the same again is no news."""
        if text.strip() and text.strip() not in self.instructions[-1:]:
            self.instructions.append(text.strip())

    def add_chunk(self, message: Any) -> None:
        """Take a recorded ActionChunk."""
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
        """Let the node's own assembly take the image that waits, if it is ready; after every message."""
        outcome = self._assembler.poll(now_ns)
        if isinstance(outcome, RejectedImage):
            self.refusals.add(outcome.rejection.sentence)
        elif isinstance(outcome, Observation):
            self.planned += 1
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
        """The camera's optical frame: as set, or as most images say."""
        return self.configuration.frames.camera or next(iter(dict(self.image_frames.most_common(1))), "")

"""Observations of a bag: what the node would have planned on, at every camera frame or as often as it could have.

The bag's images, calibration, transforms and instructions pass through the observation assembly as in the live node, in
the order in which they were recorded. Recording time is the clock: an image waits for its transforms as long as in the
node.
"""

from collections.abc import Callable, Collection, Iterator
from math import pi
from pathlib import Path
from typing import Any

from pydantic import Field, model_validator

from sqap_vla_ros.bags.further_topics import find_further
from sqap_vla_ros.bags.model_comparison import ModelComparison
from sqap_vla_ros.bags.reader import Bag
from sqap_vla_ros.bags.robot_bag import RobotBag
from sqap_vla_ros.bags.topics import BagTopics, first_instruction
from sqap_vla_ros.config.files import ConfigurationError, read_yaml
from sqap_vla_ros.config.robot import Configuration
from sqap_vla_ros.config.settings import Group, Point, validate
from sqap_vla_ros.core.clock import STAMP_BACK_NS, stamp_ns
from sqap_vla_ros.core.observation import Observation
from sqap_vla_ros.core.policy import ONE_CAMERA, PolicyNeeds
from sqap_vla_ros.perception.assembly import ObservationAssembler, RejectedImage, Waiting
from sqap_vla_ros.perception.calibration import other_camera_frame
from sqap_vla_ros.perception.images import ImageError
from sqap_vla_ros.perception.transforms import (
    Array,
    rotation_from_quaternion,
    rotation_from_rpy,
    transform_from,
    unit_quaternion,
)


class Extrinsic(Group):
    """Pose of the camera for a bag without it: one static transform, the result of a hand-eye calibration."""

    parent: str = Field(min_length=1, description="Frame of the bag that the camera is fixed to, for example base_link")
    child: str = Field(min_length=1, description="Optical frame of the camera")
    xyz: Point = Field(description="Origin of the camera's frame in the parent [m]")
    rpy: Point | None = Field(
        None, description="Roll, pitch and yaw of the camera's frame about the parent's x, y and z axes [rad]"
    )
    quaternion: tuple[float, float, float, float] | None = Field(
        None, description="Rotation of the camera's frame as a quaternion (x, y, z, w)"
    )

    @model_validator(mode="after")
    def _one_rotation(self) -> "Extrinsic":
        if (self.rpy is None) == (self.quaternion is None):
            raise ValueError("give the rotation either as rpy or as quaternion")
        if self.rpy is not None and max(map(abs, self.rpy)) > 2 * pi:
            raise ValueError(
                f"rpy = {list(self.rpy)} is in radians, and these are more than a turn; were degrees meant?"
            )
        if self.quaternion is not None:
            unit_quaternion(self.quaternion)
        return self

    @property
    def T_parent_child(self) -> Array:
        """Float64 (4, 4), pose of the camera in the parent frame, metres."""
        if self.rpy is not None:
            return transform_from(self.xyz, rotation_from_rpy(self.rpy))
        assert self.quaternion is not None
        return transform_from(self.xyz, rotation_from_quaternion(unit_quaternion(self.quaternion)))


def read_extrinsic(path: Path) -> Extrinsic:
    """Read a YAML file with parent, child, xyz, and rpy or quaternion.

    Raises:
        ConfigurationError: The file is missing, or it has other content.
    """
    content = read_yaml(path)
    if missing := [name for name in ("parent", "child", "xyz") if name not in content]:
        raise ConfigurationError(
            f"{path}: {', '.join(missing)} missing; expected parent, child, xyz [m], and rpy [rad] or quaternion "
            f"(x, y, z, w), found {', '.join(map(str, content))}"
        )
    return validate(Extrinsic, content, str(path))


class Rate:
    """Lets images through at most so many times per second of their stamps.

    Args:
        rate_hz: Largest rate; 0 lets all images through.
    """

    def __init__(self, rate_hz: float) -> None:
        self._period_ns = round(1e9 / rate_hz) if rate_hz else 0
        self._due_ns: int | None = None

    def is_due(self, at_ns: int) -> bool:
        """Whether the image with this stamp is let through."""
        if not self._period_ns:
            return True
        if self._due_ns is None or at_ns < self._due_ns - self._period_ns - STAMP_BACK_NS:
            self._due_ns = at_ns
        if at_ns < self._due_ns:
            return False
        # Due times form a grid, so that a camera with jitter does not lose every other frame. A pause restarts it.
        late_ns = at_ns - self._due_ns
        self._due_ns = (self._due_ns if late_ns < self._period_ns else at_ns) + self._period_ns
        return True


def observations(
    bag: Bag,
    topics: BagTopics,
    configuration: Configuration,
    *,
    rate_hz: float = 0.0,
    delay: Callable[[], float] | None = None,
    extrinsic: Extrinsic | None = None,
    needs: PolicyNeeds = ONE_CAMERA,
    on_progress: Callable[[int], None],
    on_note: Callable[[str], None] = lambda sentence: None,
    on_message: Callable[[str, int, Any], None] = lambda topic, recorded_ns, message: None,
    further_topics: Collection[str] = (),
) -> Iterator[Observation | tuple[int, str]]:
    """Yield what the node would have planned on.

    Args:
        bag: The recording.
        topics: The topics to read.
        configuration: Frames, the time that images wait, and an instruction that replaces the bag's.
        rate_hz: Largest number of images per second of the bag; 0: every image.
        delay: Returns the time that the plan of the last observation took [s]; called when the next observation is
            wanted. All images but the newest that arrive in that time are lost, as on the robot. None: no time.
        extrinsic: Pose of the camera, if the bag does not have it.
        needs: Cameras and state that the policy needs.
        on_progress: Called with the recording time of each message, nanoseconds.
        on_note: Called at the end with what is to be known about the recording: that the robot model disagrees with
            its transforms, or that a setting takes the place of the images' frame.
        on_message: Called with topic, recording time and message of each message, before it is used here.
        further_topics: Topics of messages that are wanted for `on_message` alone.

    Yields:
        An observation, or (stamp_ns, reason) for a rejected image.

    Raises:
        BagError: The bag has no instruction, and the configuration none either; or it lacks what the policy needs.
        BagDamage: The recording is damaged; what was yielded before is good.
    """
    further = find_further(bag, configuration, needs)
    assembler = ObservationAssembler(configuration, needs)
    assembler.set_instruction(configuration.instruction or first_instruction(bag))
    if extrinsic:
        assembler.tree.add(extrinsic.parent, extrinsic.child, 0, extrinsic.T_parent_child, static=True)
    model, joint_states = ModelComparison(configuration), ""
    if isinstance(bag, RobotBag) and bag.model and not bag.computes_poses and not configuration.command.moves_tool:
        joint_states = bag.joint_states
        model.set_model(bag.model)
    image_frame = ""
    rate = Rate(rate_hz)
    planned_until_ns = last_ns = 0
    wake_ns: int | None = None  # next time at which something is due without a message

    def ready(now_ns: int) -> Iterator[Observation | tuple[int, str]]:
        nonlocal planned_until_ns, wake_ns
        wake_ns = None
        while wake_ns is None:
            if now_ns < planned_until_ns:
                wake_ns = planned_until_ns
                return
            outcome = assembler.poll(now_ns)
            if outcome is None:
                return
            if isinstance(outcome, Waiting):
                wake_ns = outcome.until_ns
            elif isinstance(outcome, RejectedImage):
                yield outcome.stamp_ns, outcome.rejection.sentence
            else:
                model.compare(assembler.tree)
                yield outcome
                if delay:
                    planned_until_ns = now_ns + round(delay() * 1e9)

    wanted = topics.names | {joint_states, *further_topics} | further.names
    for topic, recorded_ns, message in bag.messages(wanted):
        on_progress(recorded_ns)
        on_message(topic, recorded_ns, message)
        if recorded_ns < last_ns - STAMP_BACK_NS:
            planned_until_ns, wake_ns = 0, None
        last_ns = recorded_ns
        # A plan or a wait ended before this message: only what was there by then counts.
        while wake_ns is not None and wake_ns <= recorded_ns:
            yield from ready(wake_ns)
        if topic in further.names and (problem := further.feed(assembler, topic, message)):
            yield stamp_ns(message), problem
        if topic == topics.image:
            at_ns = stamp_ns(message)
            image_frame = image_frame or message.header.frame_id
            try:
                if rate.is_due(at_ns):
                    assembler.offer(message, recorded_ns)
            except ImageError as error:
                yield at_ns, str(error)
        elif topic == topics.camera_info:
            assembler.set_camera_info(message)
        elif topic == topics.instruction:
            if not configuration.instruction:
                assembler.set_instruction(message.data)
        elif topic in topics.transforms:
            assembler.add_transforms(message, static=topic.endswith("tf_static"))
        elif joint_states and topic == joint_states:
            model.add_joint_states(message)
        yield from ready(recorded_ns)
    while wake_ns is not None:  # the last images may still wait for transforms, or for the end of a plan
        yield from ready(wake_ns)
    for note in (model.problem(), other_camera_frame(configuration.frames, image_frame)):
        if note:
            on_note(note)

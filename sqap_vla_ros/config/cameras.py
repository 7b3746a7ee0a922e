"""The cameras of a robot file, and the state that a policy is told."""

from dataclasses import dataclass
from typing import Annotated

from pydantic import Field, model_validator

from sqap_vla_ros.config.names import NODE, OPTIONAL_TOPIC, TOPIC, absolute_name
from sqap_vla_ros.config.settings import Group, Point

CAMERA_NAME = r"^[A-Za-z_][A-Za-z0-9_]*$"
CameraName = Annotated[str, Field(pattern=CAMERA_NAME)]
TopicName = Annotated[str, Field(pattern=TOPIC)]
OptionalTopicName = Annotated[str, Field(pattern=OPTIONAL_TOPIC)]


@dataclass(frozen=True)
class Camera:
    """One camera.

    Attributes:
        name: For messages and reports.
        image: Topic of its images.
        camera_info: Topic of its calibration; empty: none, and its images have no ring.
        frame: Its optical frame; empty: the frame_id of its images.
    """

    name: str
    image: str
    camera_info: str
    frame: str


class Cameras(Group):
    """Several cameras, in the order in which policies see them; the first one gives observations their stamps.

    A policy that needs fewer takes the first ones.
    """

    names: tuple[CameraName, ...] = Field((), description="Their names. Empty: one camera, topics.image")
    images: tuple[TopicName, ...] = Field((), description="Images: sensor_msgs/Image or CompressedImage")
    camera_infos: tuple[OptionalTopicName, ...] = Field(
        (), description="Calibrations: sensor_msgs/CameraInfo; an empty name for a camera without one"
    )
    frames: tuple[str, ...] = Field((), description="Optical frames; an empty name for the frame_id of the images")

    @model_validator(mode="after")
    def _belong_together(self) -> "Cameras":
        count = len(self.names)
        for setting, values in (("images", self.images), ("camera_infos", self.camera_infos), ("frames", self.frames)):
            if len(values) != count:
                raise ValueError(f"topics.cameras.{setting} has {len(values)} entries for {count} names: one for each")
        for setting, values in (("names", self.names), ("images", self.images)):
            if len(set(values)) != count:
                raise ValueError(f"topics.cameras.{setting} names one twice: {', '.join(values)}")
        return self

    def in_namespace(self, namespace: str, node: str = NODE) -> "Cameras":
        """The same cameras with absolute names, as the node resolves them in a namespace."""
        images, infos = (
            tuple(absolute_name(topic, namespace, node) for topic in topics)
            for topics in (self.images, self.camera_infos)
        )
        return self.model_copy(update={"images": images, "camera_infos": infos})

    def listed(self, first: Camera) -> tuple[Camera, ...]:
        """All cameras; the first one's topics and frame are those of the old, single form."""
        if not self.names:
            return (first,)
        entries = zip(self.names, self.images, self.camera_infos, self.frames, strict=True)
        further = [Camera(*entry) for entry in entries][1:]
        return Camera(self.names[0], first.image, first.camera_info, first.frame), *further


class StateConvention(Group):
    """What the numbers of the robot's state are, for policies that are told it: a property of their training data.

    A tool state is the position of a point [m], a rotation vector [rad] and the joints listed here (the gripper's); a
    joint state is the joints alone.
    """

    frame: str = Field("", description="Frame that the tool's pose is expressed in. Empty: frames.base")
    xyz: Point = Field((0.0, 0.0, 0.0), description="The point whose position is told, in the tool frame [m]")
    rpy: Point = Field(
        (0.0, 0.0, 0.0),
        description="Fixed-axis roll, pitch, yaw, in the tool frame, of the axes whose rotation is told [rad]",
    )
    near_rpy: Point = Field(
        (0.0, 0.0, 0.0),
        description="Of the two rotation vectors of an orientation, the one that is nearer to this one is told. LIBERO "
        "(gripper downwards): 3.14159, 0.0, 0.0; zeros: the shorter one [rad]",
    )
    joints: tuple[str, ...] = Field((), description="Joints of the state, in order, as joint_states names them")
    factors: tuple[float, ...] = Field(
        (), description="Factor on each joint's position, after its offset is added. Empty: 1 [-]"
    )
    offsets: tuple[float, ...] = Field((), description="Added to each joint's position. Empty: 0 [rad or m]")

    @model_validator(mode="after")
    def _one_for_each_joint(self) -> "StateConvention":
        for setting, values in (("factors", self.factors), ("offsets", self.offsets)):
            if values and len(values) != len(self.joints):
                raise ValueError(f"state.{setting} has {len(values)} values for the {len(self.joints)} state.joints")
        if len(set(self.joints)) != len(self.joints):
            raise ValueError(f"state.joints names one twice: {', '.join(self.joints)}")
        return self

"""The topics of a bag that a policy of several cameras, or with a state, needs besides those of one camera."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from sqap_vla_ros.bags.reader import Bag, BagError
from sqap_vla_ros.bags.topics import CAMERA_INFO_TYPE, IMAGE_TYPES
from sqap_vla_ros.config.robot import Configuration
from sqap_vla_ros.core.policy import PolicyNeeds
from sqap_vla_ros.perception.assembly import ObservationAssembler
from sqap_vla_ros.perception.images import ImageError


@dataclass(frozen=True)
class FurtherTopics:
    """What is read besides the first camera.

    Attributes:
        images: Names of the cameras, by the topic of their images.
        camera_infos: Names of the cameras, by the topic of their calibration.
        joint_states: Joint states for the policy's state; empty: it needs none.
    """

    images: Mapping[str, str] = field(default_factory=dict)
    camera_infos: Mapping[str, str] = field(default_factory=dict)
    joint_states: str = ""

    @property
    def names(self) -> frozenset[str]:
        """All topics, for `Bag.messages`."""
        return frozenset((*self.images, *self.camera_infos, *filter(None, (self.joint_states,))))

    def feed(self, assembler: ObservationAssembler, topic: str, message: Any) -> str:
        """Give a message of one of the topics to the assembly; returns why it was rejected, or an empty string."""
        if topic in self.images:
            name = self.images[topic]
            try:
                assembler.further[name].offer(message)
            except ImageError as error:
                return f"camera {name}: {error}"
        elif topic in self.camera_infos:
            assembler.further[self.camera_infos[topic]].calibration.set(message)
        elif topic == self.joint_states:
            assembler.state.add(message)
        return ""


def find_further(bag: Bag, configuration: Configuration, needs: PolicyNeeds) -> FurtherTopics:
    """Choose the topics as the robot file names them.

    Raises:
        BagError: The bag lacks the images of a camera that the policy needs, or joint states.
    """
    cameras = configuration.cameras[1 : needs.cameras]
    for camera in cameras:
        if bag.topic_types.get(camera.image) not in IMAGE_TYPES or not bag.count(camera.image):
            raise BagError(
                f"{bag.path}: holds no images of camera {camera.name} on {camera.image}, which the policy needs; "
                "record them, or correct topics.cameras.images in the robot file"
            )
    joint_states = configuration.topics.joint_states if needs.state != "none" and configuration.state.joints else ""
    if joint_states and not (joint_states in bag.topic_types and bag.count(joint_states)):
        raise BagError(
            f"{bag.path}: holds no joint states on {joint_states}, which the policy's state needs (state.joints)"
        )
    infos = {camera.camera_info: camera.name for camera in cameras}
    return FurtherTopics(
        images={camera.image: camera.name for camera in cameras},
        camera_infos={info: name for info, name in infos.items() if bag.topic_types.get(info) == CAMERA_INFO_TYPE},
        joint_states=joint_states,
    )

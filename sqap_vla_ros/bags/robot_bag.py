"""A recording of a robot: where it holds joint states but no transforms of the arm, its poses follow from the URDF.

The transforms then come out of `messages` as if they had been recorded, so that everything that reads a bag works on
them: the replay, the recorded motion, the pictures, the examination.
"""

from collections.abc import Collection, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from sqap_vla_ros.bags.messages import transforms_message
from sqap_vla_ros.bags.reader import Bag, BagDamage
from sqap_vla_ros.bags.topics import STRING_TYPE, TRANSFORM_TYPE
from sqap_vla_ros.config.robot import Configuration
from sqap_vla_ros.control.robot_model import KinematicsError
from sqap_vla_ros.control.urdf_transforms import UrdfTransforms
from sqap_vla_ros.core.clock import stamp_ns
from sqap_vla_ros.perception.transform_tree import TransformError, TransformTree

JOINT_STATE_TYPE = "sensor_msgs/msg/JointState"


class RobotBag(Bag):
    """A rosbag2 recording with the transforms of the arm, recorded or computed.

    Args:
        path: See `Bag`.
        configuration: Frames, topics, and the robot model.

    Attributes:
        model: The robot model: URDF text of the bag, or the configured file; empty: there is none.
        joint_states: Topic of the joint states; empty: there is none.
        poses: How the arm's poses are computed, or could be, as a sentence; empty where they were recorded.

    Raises:
        BagError: See `Bag`.
    """

    def __init__(self, path: Path, configuration: Configuration) -> None:
        super().__init__(path, configuration.frames)
        self._arm: UrdfTransforms | None = None
        self.joint_states = self._joint_topic(configuration)
        self.model, source = configuration.command.robot_model, "the robot file's command.robot_model"
        if not self.model:
            source = self._topic(STRING_TYPE, configuration.topics.robot_description, "robot_description")
            self.model = self._first_text(source)
        self.poses = ""
        frames = configuration.frames
        if not self.joint_states:
            return
        namespaces = {topic.rpartition("/")[0] for topic in self._of_type(TRANSFORM_TYPE)}
        self._namespace = namespaces.pop() if len(namespaces) == 1 else ""
        known = self._known_children(frames.base, frames.tool)
        if known is None:
            return
        lacks = f"the recording has no transforms '{frames.base}' -> '{frames.tool}'"
        if not self.model:
            self.poses = f"{lacks}; give --urdf, and the poses follow from the joint states on {self.joint_states}"
            return
        try:
            self._arm = UrdfTransforms(self.model, frames.base, frames.tool, known)
        except KinematicsError as error:
            self.poses = f"{lacks}, and they cannot be computed from the joint states on {self.joint_states}: {error}"
            return
        self.poses = (
            f"{lacks}: poses by forward kinematics, from the joint states on {self.joint_states} and the URDF of "
            f"{source}"
        )

    @property
    def computes_poses(self) -> bool:
        """Whether the arm's transforms are computed."""
        return self._arm is not None

    @property
    def topic_types(self) -> dict[str, str]:
        """Message type of every topic, those with computed transforms included."""
        computed = {} if self._arm is None else dict.fromkeys((self._tf, self._tf_static), TRANSFORM_TYPE)
        return computed | super().topic_types

    def count(self, topic: str) -> int:
        """Number of messages of a topic."""
        if topic in super().topic_types:
            return super().count(topic)
        return super().count(self.joint_states) if topic == self._tf else 1

    def messages(self, topics: Collection[str]) -> Iterator[tuple[str, int, Any]]:
        """See `Bag.messages`; computed transforms come in place of the joint states that they follow from."""
        if self._arm is None or not {self._tf, self._tf_static} & set(topics):
            yield from super().messages(topics)
            return
        if self._tf_static in topics:
            yield self._tf_static, self.start_ns, transforms_message(self._arm.fixed(), self.start_ns)
        for topic, recorded_ns, message in super().messages({*topics, self.joint_states}):
            if topic in topics:
                yield topic, recorded_ns, message
            if topic == self.joint_states and self._tf in topics:
                positions = dict(zip(message.name, message.position, strict=False))
                if moved := self._arm.moved(positions):
                    yield self._tf, recorded_ns, transforms_message(moved, stamp_ns(message))

    @property
    def _tf(self) -> str:
        return f"{self._namespace}/tf"

    @property
    def _tf_static(self) -> str:
        return f"{self._namespace}/tf_static"

    def _known_children(self, base: str, tool: str) -> set[str] | None:
        """The children of all transforms that were recorded; None when they join base and tool."""
        tree, known = TransformTree(), set[str]()
        with suppress(BagDamage):
            for topic, _, message in super().messages(self._of_type(TRANSFORM_TYPE)):
                tree.add_message(message, static=topic.endswith("tf_static"))
                children = {transform.child_frame_id.lstrip("/") for transform in message.transforms}
                if children <= known:
                    continue
                known |= children
                with suppress(TransformError):
                    tree.children_between(base, tool)
                    return None
        return known

    def _first_text(self, topic: str) -> str:
        with suppress(BagDamage):
            for _, _, message in super().messages({topic} - {""}):
                return str(message.data)
        return ""

    def _joint_topic(self, configuration: Configuration) -> str:
        """The configured topic of joint states, or the only one, unless another one alone has the arm's joints."""
        topics, joints = self._of_type(JOINT_STATE_TYPE), set(configuration.command.joints)
        chosen = self._topic(JOINT_STATE_TYPE, configuration.topics.joint_states)
        with_joints = [topic for topic in topics if len(topics) > 1 and joints & self._first_joints(topic)]
        return chosen if chosen in with_joints or len(with_joints) != 1 else with_joints[0]

    def _first_joints(self, topic: str) -> set[str]:
        with suppress(BagDamage):
            for _, _, message in super().messages({topic}):
                return set(message.name)
        return set()

    def _topic(self, kind: str, configured: str, ending: str = "") -> str:
        """The configured topic, or the only one of its type; empty if there is neither."""
        topics = [
            topic for topic in self._of_type(kind) if topic.endswith(ending) and super(RobotBag, self).count(topic)
        ]
        return configured if configured in topics else topics[0] if len(topics) == 1 else ""

    def _of_type(self, kind: str) -> list[str]:
        return [topic for topic, found in super().topic_types.items() if found == kind]

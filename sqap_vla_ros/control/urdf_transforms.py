"""The transforms of a URDF's links by joint positions, as robot_state_publisher sends them.

It needs no library of kinematics, only the text; where a recording has joint states and no transforms, poses follow.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from xml.etree.ElementTree import Element

import numpy as np

from sqap_vla_ros.control.robot_model import KinematicsError, link_name, no_such, open_model
from sqap_vla_ros.control.urdf_checks import Mimic, mimics
from sqap_vla_ros.core.types import Array
from sqap_vla_ros.perception.transforms import rotation_from_rpy, rotation_from_vector, transform_from

LinkTransform = tuple[str, str, Array]
"""Parent, child, T_parent_child float64 (4, 4)."""


@dataclass(frozen=True)
class _Joint:
    """A joint of one degree of freedom, or none: `axis` is None for a fixed one."""

    parent: str
    child: str
    T_parent_joint: Array
    axis: Array | None
    is_slide: bool

    def at(self, position: float) -> LinkTransform:
        if self.axis is None:
            return self.parent, self.child, self.T_parent_joint
        if self.is_slide:
            T_joint_child = transform_from(position * self.axis, np.eye(3))
        else:
            T_joint_child = transform_from(np.zeros(3), rotation_from_vector(position * self.axis))
        return self.parent, self.child, self.T_parent_joint @ T_joint_child


class UrdfTransforms:
    """Transforms between the links of a URDF.

    Args:
        model: URDF text, or the path of a URDF file.
        base: Base frame in TF; what stands before the link's name (`frame_prefix`) stands before all others as well.
        tool: Tool frame in TF.
        known: Children of transforms that are there already, which are left out.

    Raises:
        KinematicsError: It is no usable URDF, or it lacks one of the frames.
    """

    def __init__(self, model: str, base: str, tool: str, known: Iterable[str] = ()) -> None:
        source = open_model(model)
        if not source.is_urdf:
            raise KinematicsError(f"{source.name} is no URDF: poses from joint states need one; give it with --urdf")
        links = [link.get("name", "") for link in source.root.findall("link")]
        for frame in (base, tool):
            if link_name(frame, links) is None:
                raise KinematicsError(no_such("frame", frame, links))
        base = base.lstrip("/")
        prefix = base.removesuffix(str(link_name(base, links)))
        without = set(known)
        self._joints = {
            joint.get("name", ""): read
            for joint in source.root.findall("joint")
            if joint.get("type") not in ("floating", "planar")
            and (read := _read_joint(joint, prefix)).child not in without
        }
        self._mimics: dict[str, Mimic] = mimics(source.root)

    def fixed(self) -> list[LinkTransform]:
        """The transforms that no joint moves."""
        return [joint.at(0.0) for joint in self._joints.values() if joint.axis is None]

    def moved(self, positions: Mapping[str, float]) -> list[LinkTransform]:
        """The transforms of the joints that are given, and of those that mimic them.

        Args:
            positions: By the joint's name [rad or m]; those that are not finite are left out.
        """
        transforms = []
        for name, joint in self._joints.items():
            mimic = self._mimics.get(name)
            position = positions.get(name if mimic is None else mimic.leader)
            if joint.axis is None or position is None or not np.isfinite(position):
                continue
            transforms.append(joint.at(position if mimic is None else mimic.multiplier * position + mimic.offset))
        return transforms


def _read_joint(joint: Element, prefix: str) -> _Joint:
    def numbers(tag: str, attribute: str, default: str) -> Array:
        element = joint.find(tag)
        text = default if element is None else element.get(attribute, default)
        return np.array([float(word) for word in text.split()])

    def link(end: str) -> str:
        element = joint.find(end)
        assert element is not None  # `urdf_problem` found none
        return prefix + element.get("link", "")

    origin = transform_from(numbers("origin", "xyz", "0 0 0"), rotation_from_rpy(numbers("origin", "rpy", "0 0 0")))
    axis = None
    if joint.get("type") != "fixed":
        axis = numbers("axis", "xyz", "1 0 0")
        axis = axis / np.linalg.norm(axis)
    return _Joint(link("parent"), link("child"), origin, axis, joint.get("type") == "prismatic")

"""Reads the robot model, URDF or MJCF, for Pinocchio."""

import difflib
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np

from sqap_vla_ros.control.urdf_checks import urdf_problem


class KinematicsError(ValueError):
    """The robot model cannot be used; the message says what is wrong with it."""


def urdf_text(text: str) -> str:
    """Check a robot description as it may come in a message: URDF text, nothing that names a file.

    Raises:
        KinematicsError: It is a path, MJCF (which can include files), or no XML.
    """
    text = text.strip().lstrip("\ufeff")  # XML may begin with a byte order mark; what does not begin with < is a path
    try:
        root = ElementTree.fromstring(text)
    except ElementTree.ParseError as error:
        raise KinematicsError(f"the robot description is not URDF text: {error}") from None
    if root.tag != "robot":
        raise KinematicsError(
            f"the robot description's root element is <{root.tag}>; expected <robot> (URDF). command.robot_model may "
            "name an MJCF file"
        )
    return text


def no_such(kind: str, name: str, known: list[str]) -> str:
    """The sentence about a joint or frame that the model lacks, with the nearest names."""
    near = difflib.get_close_matches(name, known, 3, cutoff=0.4)
    hint = f"did you mean {' or '.join(repr(match) for match in near)}?" if near else f"there are: {', '.join(known)}"
    return f"the robot model has no {kind} '{name}'; {hint}"


@dataclass(frozen=True)
class ModelSource:
    """A robot model as it was given.

    Attributes:
        name: The file, or "the robot description".
        text: XML.
        root: The same, parsed; `<robot>` (URDF) or `<mujoco>` (MJCF).
    """

    name: str
    text: str
    root: ElementTree.Element

    @property
    def is_urdf(self) -> bool:
        """Whether it is URDF."""
        return self.root.tag == "robot"


def open_model(model: str | Path) -> ModelSource:
    """Read URDF text, or a URDF or MJCF file.

    Raises:
        KinematicsError: No such file, neither URDF nor MJCF, or URDF that has a fault.
    """
    text, name = str(model), "the robot description"
    if not text.lstrip().startswith("<"):
        name = text
        try:
            text = Path(model).expanduser().read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise KinematicsError(
                f"robot model {name!r}: {error}; expected URDF text, or the path of a URDF or MJCF file"
            ) from None
    try:
        source = ModelSource(name, text.strip(), ElementTree.fromstring(text.strip()))
    except ElementTree.ParseError as error:
        raise KinematicsError(f"{name} is not a valid robot model: {error}") from None
    if source.is_urdf and (problem := urdf_problem(source.root)):
        raise KinematicsError(f"{name} is not a valid robot model: {problem}")
    return source


def build_model(pin: Any, source: ModelSource, mimicking: Collection[str] = ()) -> Any:
    """The whole model, every joint with its limits.

    Args:
        pin: Pinocchio.
        source: URDF or MJCF.
        mimicking: Joints of a URDF that follow another one; all others move freely, whatever they mimic.

    Raises:
        KinematicsError: Pinocchio does not take it.
    """
    if source.is_urdf and mimicking:
        try:
            return pin.buildModelFromXML(_with_mimics(source.text, mimicking), mimic=True)
        except (ValueError, RuntimeError) as error:
            names = ", ".join(f"'{name}'" for name in mimicking)
            reason = str(error).strip().splitlines()[-1]
            raise KinematicsError(
                f"{source.name}: between base and tool {names} mimics another joint in a way that cannot be computed "
                f"({reason}); make it a fixed joint, or command the tool itself (command.output)"
            ) from None
    try:
        if source.is_urdf:
            return pin.buildModelFromXML(source.text)
        if source.root.tag == "mujoco":
            # From the file, when there is one: MJCF may include others by relative path.
            full = pin.buildModelFromMJCF(source.name if source.name != "the robot description" else source.text)
            _correct_mjcf_limits(pin, full, source.root)
            return full
    except (ValueError, RuntimeError) as error:
        raise KinematicsError(f"{source.name} is not a valid robot model: {error}") from None
    raise KinematicsError(
        f"{source.name}: the root element is <{source.root.tag}>; expected <robot> (URDF) or <mujoco> (MJCF)"
    )


def _with_mimics(text: str, mimicking: Collection[str]) -> str:
    """URDF text in which only these joints mimic others, each as limited, or as continuous, as its leader is."""
    root = ElementTree.fromstring(text)
    joints = {joint.get("name"): joint for joint in root.findall("joint")}
    for name, joint in joints.items():
        if (mimic := joint.find("mimic")) is None:
            continue
        if name not in mimicking:
            joint.remove(mimic)
            continue
        leader = joints[mimic.get("joint")].get("type", "")
        if {joint.get("type"), leader} == {"revolute", "continuous"}:
            joint.set("type", leader)
            if joint.find("limit") is None:
                ElementTree.SubElement(joint, "limit", lower="-1e6", upper="1e6", effort="0", velocity="0")
    return ElementTree.tostring(root, encoding="unicode")


def link_name(frame: str, links: Collection[str]) -> str | None:
    """The link of a model that a TF frame is; None when the model has none.

    robot_state_publisher puts its `frame_prefix` before the names of links, and old nodes a slash.
    """
    frame = frame.lstrip("/")
    while frame not in links:
        _, slash, frame = frame.partition("/")
        if not slash:
            return None
    return frame


def _correct_mjcf_limits(pin: Any, model: Any, root: ElementTree.Element) -> None:
    """Undo wrong conversions of position limits from degrees.

    MJCF angles are degrees unless `<compiler angle="radian"/>`; Pinocchio then converts slides, which are lengths, as
    well. And robosuite's robot files are fragments: the element that says radian is in the scene that includes them.
    Such a file is recognised by hinges that could all turn by less than a full turn *in degrees*.
    """
    compiler = root.find("compiler")
    angle = None if compiler is None else compiler.get("angle")
    if angle == "radian":
        return
    joints = [joint for joint in model.joints[1:] if joint.nq == 1]
    limits = model.lowerPositionLimit, model.upperPositionLimit
    slides = [joint.idx_q for joint in joints if "JointModelP" in joint.shortname()]
    hinges = [joint.idx_q for joint in joints if joint.idx_q not in slides]
    ranges = np.abs([limit[index] for limit in limits for index in hinges])
    fragment = angle is None and np.all(ranges[np.isfinite(ranges)] <= np.deg2rad(2 * np.pi))
    for limit in limits:
        limit[slides + (hinges if fragment else [])] *= 180 / np.pi

"""Reads the robot model, URDF or MJCF, for Pinocchio."""

import difflib
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np


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


def read_model(pin: Any, model: str | Path) -> Any:
    """Read the whole model, every joint with its limits.

    Raises:
        KinematicsError: No such file, or neither URDF nor MJCF.
    """
    text = str(model)
    source = "the robot description"
    if not text.lstrip().startswith("<"):
        source = text
        try:
            text = Path(model).expanduser().read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise KinematicsError(
                f"robot model {source!r}: {error}; expected URDF text, or the path of a URDF or MJCF file"
            ) from None
    try:
        root = ElementTree.fromstring(text.strip())
        if root.tag == "robot":
            return pin.buildModelFromXML(text.strip())
        if root.tag == "mujoco":
            # From the file, when there is one: MJCF may include others by relative path.
            full = pin.buildModelFromMJCF(source if source != "the robot description" else text)
            _correct_mjcf_limits(pin, full, root)
            return full
    except (ElementTree.ParseError, ValueError, RuntimeError) as error:
        raise KinematicsError(f"{source} is not a valid robot model: {error}") from None
    raise KinematicsError(f"{source}: the root element is <{root.tag}>; expected <robot> (URDF) or <mujoco> (MJCF)")


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

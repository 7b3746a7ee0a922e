"""What makes a URDF unusable, as a sentence: the URDF parser writes its reasons to the process's stderr only."""

import math
from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from xml.etree.ElementTree import Element

_LIMITED = ("revolute", "prismatic")
_JOINT_TYPES = (*_LIMITED, "continuous", "fixed", "floating", "planar")


def urdf_problem(robot: Element) -> str:
    """Why a `<robot>` element is no usable URDF; empty when nothing is found.

    It looks for what people get wrong by hand, by xacro and by exporters, so that the sentence names the joint. What is
    left is found by the parser.
    """
    return next(_problems(robot), "")


def _problems(robot: Element) -> Iterator[str]:
    joints = robot.findall("joint")
    values = (value for joint in joints for element in joint.iter() for value in element.attrib.values())
    if any("xacro}" in element.tag for element in robot.iter()) or any("${" in value for value in values):
        yield "it is xacro that was not processed: run `xacro` on it and give the result"
    links = [link.get("name", "") for link in robot.findall("link")]
    for kind, names in (("link", links), ("joint", [joint.get("name", "") for joint in joints])):
        for name, count in Counter(names).items():
            if not name:
                yield f"a <{kind}> has no name"
            if count > 1:
                yield f"{count} {kind}s are called '{name}'"
    for joint in joints:
        yield from _joint_problems(joint, set(links))
    yield from _tree_problems(joints, links)


def _joint_problems(joint: Element, links: set[str]) -> Iterator[str]:
    name, kind = joint.get("name"), joint.get("type", "")
    if kind not in _JOINT_TYPES:
        yield f"joint '{name}' is of type '{kind}'; there are: {', '.join(_JOINT_TYPES)}"
    for end in ("parent", "child"):
        link = _attribute(joint, end, "link")
        if link not in links:
            yield f"joint '{name}' has the {end} link '{link}', which is not defined"
    for tag, attribute in (("origin", "xyz"), ("origin", "rpy"), ("axis", "xyz")):
        if (text := _attribute(joint, tag, attribute)) is not None and len(numbers := _numbers(text)) != 3:
            yield f"joint '{name}': <{tag} {attribute}=\"{text}\"> must be three finite numbers, has {len(numbers)}"
    for attribute in ("multiplier", "offset"):
        text = _attribute(joint, "mimic", attribute)
        if text is not None and len(_numbers(text)) != 1:
            yield f"joint '{name}': <mimic {attribute}=\"{text}\"> must be a finite number"
    axis = _attribute(joint, "axis", "xyz")
    if axis is not None and kind in (*_LIMITED, "continuous") and not any(_numbers(axis)):
        yield f"joint '{name}' has the axis 0 0 0"
    if kind not in _LIMITED:
        return
    limit = joint.find("limit")
    if limit is None:
        yield f"joint '{name}' has no <limit>: add one, or make it continuous if it turns without end"
        return
    for attribute in ("lower", "upper", "effort", "velocity"):
        text = limit.get(attribute)
        if text is None and attribute in ("effort", "velocity"):
            yield f"joint '{name}': its <limit> has no {attribute}"
        elif text is not None and len(_numbers(text)) != 1:
            yield f"joint '{name}': <limit {attribute}=\"{text}\"> must be a finite number"
        elif attribute == "velocity" and text is not None and float(text) < 0:
            yield f"joint '{name}' has the velocity limit {text}: it must be more than 0, or 0 for none"


def _tree_problems(joints: list[Element], links: list[str]) -> Iterator[str]:
    children = Counter(_attribute(joint, "child", "link") for joint in joints)
    for link, count in children.items():
        if count > 1:
            yield f"link '{link}' is the child of {count} joints; a URDF is a tree"
    roots = [link for link in links if link not in children]
    if not links:
        yield "it has no links"
    elif not roots:
        yield "its joints form a loop; a URDF is a tree"
    elif len(roots) > 1:
        yield f"its links are not connected: {', '.join(map(repr, roots))} have no parent; a URDF has one root"


@dataclass(frozen=True)
class Mimic:
    """A joint that follows another one: its position is `multiplier` times the leader's, plus `offset` [rad or m]."""

    joint: str
    leader: str
    multiplier: float
    offset: float


def mimics(robot: Element) -> dict[str, Mimic]:
    """The joints of a `<robot>` that follow another one, by name, of a URDF without problems."""
    return {
        joint.get("name", ""): Mimic(
            joint.get("name", ""),
            mimic.get("joint", ""),
            *(float(mimic.get(attribute, default)) for attribute, default in (("multiplier", "1"), ("offset", "0"))),
        )
        for joint in robot.findall("joint")
        if (mimic := joint.find("mimic")) is not None
    }


def mimic_problem(of_model: Mapping[str, Mimic], name: str, commanded: Collection[str], joints: Collection[str]) -> str:
    """Why a joint between base and tool cannot follow its leader; empty when it can.

    Args:
        of_model: All that follow another one, by name.
        name: One of them.
        commanded: The joints that are commanded.
        joints: All joints that move.
    """
    mimic = of_model[name]
    if mimic.leader not in joints:
        return f"joint '{name}' mimics '{mimic.leader}', which is not a joint that moves"
    if mimic.leader in of_model:
        last = of_model[mimic.leader].leader
        return f"joint '{name}' mimics '{mimic.leader}', which mimics '{last}': name the last one for both"
    if name in commanded:
        return f"joint '{name}' mimics '{mimic.leader}' and cannot be commanded: leave it out of command.joints"
    if mimic.leader not in commanded:
        return (
            f"joint '{name}' lies between base and tool and mimics '{mimic.leader}', which is not one of "
            "command.joints: add that, or make both joints fixed"
        )
    return ""


def _attribute(joint: Element, tag: str, attribute: str) -> str | None:
    element = joint.find(tag)
    return None if element is None else element.get(attribute)


def _numbers(text: str) -> list[float]:
    """The finite numbers of a list; empty when something else is in it."""
    try:
        numbers = [float(word) for word in text.split()]
    except ValueError:
        return []
    return numbers if all(map(math.isfinite, numbers)) else []

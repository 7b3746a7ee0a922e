"""Every setting of the robot, policy and recipe files as a row: the source of the reference pages."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import yaml
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from sqap_vla_ros.config.cameras import CAMERA_NAME
from sqap_vla_ros.config.names import OPTIONAL_NODE, OPTIONAL_TOPIC, TOPIC
from sqap_vla_ros.config.policy import PolicyConfig
from sqap_vla_ros.config.recipe import RECIPE_NAME, Recipe
from sqap_vla_ros.config.robot import Configuration
from sqap_vla_ros.config.settings import groups_of

FILES: dict[str, type[BaseModel]] = {"robot": Configuration, "policy": PolicyConfig, "recipe": Recipe}

_PATTERNS = {
    TOPIC: "a ROS name",
    OPTIONAL_NODE: "a node's name or empty",
    OPTIONAL_TOPIC: "a ROS name, or empty",
    CAMERA_NAME: "letters, digits, _",
    RECIPE_NAME: "letters, digits, _ . -",
}
_TYPES = {bool: "true or false", int: "integer", float: "number", str: "text"}
_SYMBOLS = {"ge": "≥", "gt": ">", "le": "≤", "lt": "<"}


@dataclass(frozen=True)
class Setting:
    """One setting of one file.

    Attributes:
        group: Dotted name of the group, as "limits"; empty at the top of the file. A group that has several forms
            names its form: "pruning (method: sqap)".
        name: Dotted name in the file, as "limits.step"; it is also the name of the ROS parameter.
        type: For example "number", "3 numbers", "list of text" or "choice".
        unit: For example "m" or "rad/s"; empty: no unit.
        range: For example "> 0", "≥ 0, ≤ 1" or the choices; empty: every value of the type.
        default: In YAML; "required" or "absent" where there is none.
        meaning: One or two sentences.
    """

    group: str
    name: str
    type: str
    unit: str
    range: str
    default: str
    meaning: str


def settings(file: Literal["robot", "policy", "recipe"]) -> Iterator[Setting]:
    """All settings of one kind of file, in the order of the file's description."""
    yield from _settings(FILES[file], "", "")


def _settings(model: type[BaseModel], group: str, prefix: str) -> Iterator[Setting]:
    for name, field in model.model_fields.items():
        forms = groups_of(field.annotation)
        if not forms or field.description:  # a group with a description of its own may be absent
            yield _setting(field, group, prefix + name)
        for form in forms:
            which = f" (method: {form.model_fields['method'].default})" if len(forms) > 1 else ""
            yield from _settings(form, f"{prefix}{name}{which}", f"{prefix}{name}.")


def _setting(field: FieldInfo, group: str, name: str) -> Setting:
    description = re.fullmatch(r"(.*?)(?: \[([^\]]+)\])?", field.description or "", re.DOTALL)
    assert description  # the pattern matches every text
    kind = _without_none(field.annotation)
    return Setting(
        group=group,
        name=name,
        type="group" if groups_of(kind) else _type(kind),
        unit=description[2] or "",
        range=", ".join(_bounds(kind, list(field.metadata))),
        default="required" if field.is_required() else _yaml(field.default),
        meaning=description[1] or "Name of the method",
    )


def _without_none(annotation: Any) -> Any:
    """The type of a setting that may also be absent."""
    parts = [part for part in get_args(annotation) if part is not type(None)]
    return parts[0] if get_origin(annotation) in (Union, UnionType) and len(parts) == 1 else annotation


def _plain(annotation: Any) -> Any:
    return get_args(annotation)[0] if get_origin(annotation) is Annotated else annotation


def _type(kind: Any) -> str:
    kind = _plain(kind)
    if get_origin(kind) is Literal:
        return "choice"
    if get_origin(kind) is not tuple:
        return _TYPES[kind]
    element, *others = get_args(kind)
    plural = {"number": "numbers", "integer": "integers"}.get(_type(element), _type(element))
    return f"list of {plural}" if others == [...] else f"{1 + len(others)} {plural}"


def _bounds(kind: Any, constraints: list[Any]) -> Iterator[str]:
    """What a value must fulfil beyond its type: choices, bounds, length."""
    if get_origin(kind) is Annotated:
        kind, *inner = get_args(kind)
        constraints = constraints + [part for item in inner for part in getattr(item, "metadata", [item])]
    if get_origin(kind) is Literal:
        yield ", ".join(_yaml(choice) for choice in get_args(kind))
    elif get_origin(kind) is tuple:
        yield from (f"each {bound}" for bound in _bounds(get_args(kind)[0], []))
    for constraint in constraints:
        yield from (
            f"{sign} {getattr(constraint, side):g}" for side, sign in _SYMBOLS.items() if hasattr(constraint, side)
        )
        if hasattr(constraint, "min_length"):
            yield "not empty"
        if hasattr(constraint, "max_length"):
            yield f"at most {constraint.max_length} characters"
        if pattern := getattr(constraint, "pattern", None):
            yield _PATTERNS[pattern]


def _yaml(value: Any) -> str:
    """A default as it stands in a file."""
    if value is None:
        return "absent"
    if isinstance(value, BaseModel):
        return "its own defaults"
    plain = list(value) if isinstance(value, tuple) else value
    if plain == "":
        return '""'
    return yaml.safe_dump(plain, default_flow_style=True, width=1000).removesuffix("\n").removesuffix("\n...")

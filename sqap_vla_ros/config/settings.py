"""Groups of settings, and how values from a file or from ROS parameters become one.

Every group rejects unknown names, wrong types and values out of range, with one sentence for each. The description of a
field ends in its unit in square brackets, where it has one.
"""

import difflib
from collections.abc import Iterable, Iterator, Mapping
from typing import Annotated, Any, TypeVar, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from sqap_vla_ros.config.files import ConfigurationError, flatten

Positive = Annotated[float, Field(gt=0)]
Point = tuple[float, float, float]


class Group(BaseModel):
    """Settings that belong together: frozen, without unknown names, all numbers finite."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, validate_default=True)


def flat_fields(group: type[BaseModel], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """All settings of a group and of the groups in it, as (dotted name, pydantic FieldInfo)."""
    for name, field in group.model_fields.items():
        groups = groups_of(field.annotation)
        for inner in groups:
            yield from flat_fields(inner, f"{prefix}{name}.")
        if not groups:
            yield prefix + name, field


def groups_of(annotation: Any) -> list[type[BaseModel]]:
    """The groups that a field's value may be; none for a plain value."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [group for part in get_args(annotation) for group in groups_of(part)]


def shown(value: object) -> str:
    """A value as a message shows it: a long one is cut."""
    text = repr(value)
    return text if len(text) <= 200 else f"{text[:200]}..."


def unknown_name(name: str, known: Iterable[str]) -> str:
    """A sentence about a name that is no setting, with the nearest one that is."""
    close = difflib.get_close_matches(name, list(known), 1)
    return f"'{name}' is not a setting" + (f"; did you mean '{close[0]}'?" if close else "")


Model = TypeVar("Model", bound=BaseModel)


def validate(group: type[Model], values: Mapping[str, Any], source: str) -> Model:
    """Build a group of settings.

    Args:
        group: The pydantic model to build.
        values: Nested or dotted names, and their values.
        source: Where the values come from (a file, "parameters"); the message begins with it.

    Raises:
        ConfigurationError: One sentence per unknown name, wrong type or value out of range.
    """
    try:
        return group.model_validate(_nest(flatten(values)))
    except ValidationError as error:
        known = [name for name, _ in flat_fields(group)]
        sentences = []
        for problem in error.errors():
            name, groups = _place(group, problem["loc"])
            if problem["type"] == "extra_forbidden":
                sentences.append(unknown_name(name, known))
            elif problem["type"].startswith("union_tag"):
                tag = problem["ctx"]["discriminator"].strip("'")
                choices = ", ".join(choice.model_fields[tag].default for choice in groups)
                sentences.append(f"{name}.{tag} = {problem['input'].get(tag)!r}: expected one of {choices}")
            else:
                subject = f"{name} = {shown(problem['input'])}: " if name else ""
                sentences.append(subject + problem["msg"].removeprefix("Value error, "))
        raise ConfigurationError(f"{source}: " + "; ".join(sentences)) from None


def _nest(flat: Mapping[str, Any]) -> dict[str, Any]:
    nested: dict[str, Any] = {}
    for name, value in flat.items():
        *groups, last = name.split(".")
        place = nested
        for group in groups:
            place = place.setdefault(group, {})
        place[last] = value
    return nested


def _place(group: type[BaseModel], location: Iterable[str | int]) -> tuple[str, list[type[BaseModel]]]:
    """Where a problem is: the dotted name that the user wrote, and the groups that are possible there.

    Where several groups are possible, pydantic's location also holds the one that it took; the user's name does not.
    """
    names, groups = [], [group]
    for part in location:
        if len(groups) > 1:
            groups = []
            continue
        names.append(str(part))
        fields = groups[0].model_fields if groups else {}
        groups = groups_of(fields[part].annotation) if part in fields else []
    return ".".join(names), groups

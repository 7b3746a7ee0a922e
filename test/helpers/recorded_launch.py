"""A stand-in for `launch` and `launch_ros`, which come with ROS and not from pip: records what a launch file makes."""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

MODULES = (
    "launch",
    "launch.actions",
    "launch.events",
    "launch.launch_description_sources",
    "launch.substitutions",
    "launch_ros",
    "launch_ros.actions",
    "launch_ros.parameter_descriptions",
    "launch_ros.substitutions",
)


class Recorded:
    """Anything that a launch file makes, with the arguments that it was made of."""

    def __init__(self, *arguments: Any, **keywords: Any) -> None:
        self.arguments, self.keywords = arguments, keywords

    def perform(self, context: "Context") -> str:
        """The value of a launch argument."""
        return context.arguments[self.arguments[0]]


class Context:
    """The arguments of a launch, and whether it is ending."""

    def __init__(self, arguments: dict[str, str]) -> None:
        self.arguments = arguments
        self.is_shutdown = False


class ProcessEnd:
    """The event that a process has ended."""

    process_name = "process-1"

    def __init__(self, returncode: int) -> None:
        self.returncode = returncode


class _StandIn(ModuleType):
    def __getattr__(self, name: str) -> type:
        if name.startswith("__"):
            raise AttributeError(name)
        kind = type(name, (Recorded,), {})
        setattr(self, name, kind)
        return kind


def load(file: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The module of a launch file."""
    for name in MODULES:
        monkeypatch.setitem(sys.modules, name, _StandIn(name))
    specification = importlib.util.spec_from_file_location(file.stem.replace(".", "_"), file)
    assert specification is not None and specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


def context_of(module: Any, **given: str) -> Context:
    """A launch with these arguments, and the defaults of the others.

    Raises:
        KeyError: An argument that the file does not declare.
    """
    arguments = {item.arguments[0]: item.keywords.get("default_value") for item in module.ARGUMENTS}
    if unknown := given.keys() - arguments.keys():
        raise KeyError(unknown)
    return Context(arguments | given)

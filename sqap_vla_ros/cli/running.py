"""A command from its words to its exit code."""

import inspect
import shutil
import signal
import sys
import textwrap
from collections.abc import Sequence
from typing import Annotated, Any, get_type_hints

import tyro

from sqap_vla_ros.cli.console import make_console, print_error
from sqap_vla_ros.core.errors import is_ours
from sqap_vla_ros.core.files import disk_problem

_READABLE_WIDTH = 100


def run(program: str, command: type[Any], words: Sequence[str]) -> None:
    """Read the options and run the command.

    Args:
        program: What is typed to get here, as "sqap-vla replay".
        command: Dataclass whose fields are the options, with a method `run(console)`.
        words: What follows on the command line.
    """
    _shorten_hints(command)
    config = (tyro.conf.DisallowNone, tyro.conf.FlagCreatePairsOff)
    options = tyro.cli(command, prog=program, description=description(command), args=words, config=config)
    before = signal.signal(signal.SIGTERM, _terminate)
    try:
        options.run(make_console())
    except Exception as error:
        # The project's own errors are sentences for the user, and so is what a disk lacks; anything else is a defect
        # and keeps its traceback.
        sentence = str(error) if is_ours(error) else "" if isinstance(error, BrokenPipeError) else disk_problem(error)
        if not sentence:
            raise
        print_error(f"sqap-vla: {sentence}")
        sys.exit(2)
    except Terminated:
        sys.exit(128 + signal.SIGTERM)
    except KeyboardInterrupt:
        sys.exit(128 + signal.SIGINT)
    finally:
        signal.signal(signal.SIGTERM, before)


class Terminated(KeyboardInterrupt):
    """SIGTERM came: what is under way ends as after Ctrl-C."""


def _terminate(_number: int, _frame: object) -> None:
    raise Terminated


def description(command: type[Any]) -> str:
    """The command's docstring, wrapped to the terminal. tyro keeps the lines that begin with a space."""
    width = min(shutil.get_terminal_size().columns, _READABLE_WIDTH)
    summary, *paragraphs = inspect.cleandoc(command.__doc__ or "").split("\n\n")
    wrapped = [
        textwrap.indent(text, "  ")
        if text.startswith("Example:")
        else textwrap.fill(text, width, initial_indent="  ", subsequent_indent="  ")
        for text in paragraphs
    ]
    return "\n".join([textwrap.fill(summary, width), *wrapped])


def _shorten_hints(command: type[Any]) -> None:
    """Leave out the hints "(default: ...)" of flags, and of options whose sentence says what their absence means."""
    hint = tyro.conf.arg(
        help_behavior_hint=lambda label: "" if label in ("", "''", "None", "True", "False") else f"(default: {label})"
    )
    for name, kind in get_type_hints(command, include_extras=True).items():
        command.__annotations__[name] = Annotated[kind, hint]

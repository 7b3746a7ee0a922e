"""Where a command writes: results that are there are never overwritten, and what stays after an end is said."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from sqap_vla_ros.config.files import ConfigurationError
from sqap_vla_ros.core.files import disk_problem
from sqap_vla_ros.core.run_directory import RunDirectory

if TYPE_CHECKING:
    from rich.console import Console


def result_directory(given: Path | None, name: str, advice: str = "") -> Path:
    """The directory for the results of a command that cannot go on where an earlier one stopped.

    Args:
        given: The user's choice, which must be new or empty; None: the first free one of out/NAME, out/NAME-2, ...
        name: Name of the default.
        advice: What else the user can do when the directory is in use.

    Raises:
        ConfigurationError: The directory is in use.
    """
    if given is None:
        candidates = (Path("out") / (name if number == 1 else f"{name}-{number}") for number in range(1, 10_000))
        return next(path for path in candidates if not path.exists() or _is_empty(path))
    # Whether anything can be written there is found out by the command.
    if given.is_dir() and not _is_empty(given):
        raise ConfigurationError(f"{given}: is not empty; give another directory, or remove it{advice}")
    return given


def robot_model_file(given: Path | None) -> str:
    """The value of --urdf as a setting; empty: none was given.

    Raises:
        ConfigurationError: It is no file, or no usable URDF.
    """
    from sqap_vla_ros.control.robot_model import KinematicsError, open_model

    if given is None:
        return ""
    try:
        open_model(given)
    except KinematicsError as error:
        raise ConfigurationError(f"--urdf: {error}") from None
    return str(given)


@contextmanager
def used_by_one(directory: Path) -> Iterator[None]:
    """Keep other commands out of a directory for results while the block runs; one that stays empty is removed.

    Raises:
        ConfigurationError: It cannot be created.
        DirectoryInUse: Another command works in it.
    """
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        advice = disk_problem(error) or f"{directory}: {error.strerror}; give a directory that can be written"
        raise ConfigurationError(advice) from None
    try:
        with RunDirectory(directory, resumed=not _is_empty(directory)).lock():
            yield
    finally:
        if _is_empty(directory):
            with suppress(OSError):
                directory.rmdir()


@contextmanager
def what_stays(console: "Console", words: Callable[[], str]) -> Iterator[None]:
    """Say what stays and how to go on if the block ends early: by Ctrl-C, by SIGTERM, or because of the disk.

    Args:
        console: Where it is printed.
        words: Makes the sentence, as "nothing is written yet; give the same command again".
    """
    try:
        yield
    except KeyboardInterrupt:
        console.print(f"stopped; {words()}", soft_wrap=True)
        raise
    except Exception as error:
        if problem := disk_problem(error):
            raise ConfigurationError(f"{problem}. {words()[:1].upper()}{words()[1:]}") from error
        raise


def _is_empty(path: Path) -> bool:
    return path.is_dir() and not any(path.iterdir())

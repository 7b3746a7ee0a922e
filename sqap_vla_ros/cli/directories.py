"""Where a command writes: results that are there are never overwritten."""

from pathlib import Path

from sqap_vla_ros.config.files import ConfigurationError


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


def _is_empty(path: Path) -> bool:
    return path.is_dir() and not any(path.iterdir())

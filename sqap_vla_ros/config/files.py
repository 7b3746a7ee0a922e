"""Files of `config/`, by short name or path.

Launch files use this module in ROS's own Python, so it imports nothing but YAML.
"""

import difflib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import yaml


class ConfigurationError(ValueError):
    """A setting that cannot be used; the message names it, its value and what was expected."""


def named_file(kind: str, name: str) -> Path:
    """Find the file behind a short name: `config/<kind>/<name>.yaml`, or `name` itself if it is a path.

    Raises:
        ConfigurationError: There is no such file; the message lists those there are.
    """
    if name.endswith((".yaml", ".yml")):
        return expand_home(name)
    folder = config_directory() / kind
    path = folder / f"{name}.yaml"
    if not path.is_file():
        names = sorted(file.stem for file in folder.glob("*.yaml"))
        if "/" in name or Path(name).exists():
            raise ConfigurationError(
                f"{name}: expected the path of a file that ends in .yaml or .yml, or the name of one in {folder}: "
                f"{', '.join(names)}"
            )
        raise ConfigurationError(
            f"no {path.name} in {folder}{did_you_mean(name, names)}; there are: {', '.join(names)}; or give a path "
            "that ends in .yaml"
        )
    return path


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """A hint to add to a sentence about an unknown name: "; did you mean 'sqap'?"; empty if no known name is near."""
    close = difflib.get_close_matches(name.lower(), list(known), 1)
    return f"; did you mean '{close[0]}'?" if close else ""


def expand_home(name: str) -> Path:
    """A path that a user wrote, with "~" replaced by the home directory.

    Raises:
        ConfigurationError: There is no home directory.
    """
    try:
        return Path(name).expanduser()
    except RuntimeError:
        raise ConfigurationError(f"{name}: there is no home directory (HOME is not set); give the whole path") from None


def config_directory() -> Path:
    """The `config` directory of the wheel, of the checkout, or of the share that colcon installs; `msg` is next to it.

    Raises:
        ConfigurationError: There is none.
    """
    package = Path(__file__).resolve().parents[1]
    checkout = [package.parent] if (package.parent / "package.xml").is_file() else []
    shares = [parent / "share" / "sqap_vla" for parent in package.parents]
    for folder in (package / "data", *checkout, *shares):
        if (folder / "config").is_dir():
            return folder / "config"
    raise ConfigurationError(f"{package} comes without its config directory; install the package again")


def named_checkpoint(name: str) -> str:
    """The run directory config/checkpoints/NAME of the package, or `name` itself where there is none."""
    directory = config_directory() / "checkpoints" / name
    is_name = name not in ("", ".", "..") and "/" not in name and not Path(name).exists()
    return str(directory) if is_name and directory.is_dir() else name


def read_yaml(path: Path) -> dict[str, Any]:
    """Read the top-level mapping of a YAML file (with the safe loader: nothing in it is executed).

    Raises:
        ConfigurationError: The file is missing, not YAML, or not a mapping.
    """
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConfigurationError(f"{path}: no such file") from None
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ConfigurationError(f"{path}: cannot be read as YAML: {' '.join(str(error).split())}") from None
    if content is None:
        raise ConfigurationError(f"{path}: the file is empty; expected a mapping of names to values")
    if not isinstance(content, dict):
        found = "a list" if isinstance(content, list) else f"the single value {content!r}"
        raise ConfigurationError(f"{path}: expected a mapping of names to values, found {found}")
    return content


def robot_parameters(path: Path) -> dict[str, Any]:
    """Read the parameters of a robot YAML, nested as in the file.

    Raises:
        ConfigurationError: The file is not a ROS parameter file for any node name (`/**`).
    """
    content = read_yaml(path)
    try:
        parameters = content["/**"]["ros__parameters"]
    except (KeyError, TypeError):
        parameters = None
    if not isinstance(parameters, dict):
        raise ConfigurationError(f"{path}: expected '/**: ros__parameters: ...' at the top, found {sorted(content)}")
    return parameters


def robot_file(name: str) -> Path:
    """Find a robot file that ROS itself can read: where it cannot, a launched node would start on defaults, or die.

    Raises:
        ConfigurationError: There is no such file, or it is not a ROS parameter file.
    """
    path = named_file("robots", name)
    for setting, value in flatten(robot_parameters(path)).items():
        if value is None:
            raise ConfigurationError(f"{path}: {setting} has no value; give one, '' for an empty text, or leave it out")
        if isinstance(value, list) and (len({type(item) for item in value}) != 1 or isinstance(value[0], list | dict)):
            raise ConfigurationError(
                f"{path}: {setting} = {value}: ROS reads lists of one or more values of one type only; among numbers "
                "with a point write 0.0 for 0"
            )
    if any(isinstance(event, yaml.AliasEvent) for event in yaml.parse(path.read_text(encoding="utf-8"))):
        raise ConfigurationError(f"{path}: ROS reads no YAML aliases (*name); write the values out")
    return path


def flatten(nested: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Flatten nested mappings to one mapping with dotted names."""
    flat: dict[str, Any] = {}
    for name, value in nested.items():
        if isinstance(value, Mapping):
            flat |= flatten(value, f"{prefix}{name}.")
        else:
            flat[prefix + str(name)] = value
    return flat

"""The causes for which the arm does not move: `{{ cause image_stale }}` becomes the code and its meaning, two cells."""

import re

from sqap_vla_ros.core.rejection import Cause

_PLACE = re.compile(r"\{\{ cause (\w+) \}\}")


def fill(text: str) -> str:
    """Text with code and meaning for each place.

    Raises:
        ValueError: A place names a cause that does not exist.
    """
    return _PLACE.sub(lambda match: f"`{match[1]}` | {Cause(match[1]).meaning}", text)

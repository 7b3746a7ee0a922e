"""Reference of the package's messages, from the `.msg` files: name, type, unit and meaning of every field."""

import re
from pathlib import Path

from sqap_vla_ros.core.rejection import Cause
from sqap_vla_ros.reporting.tables import markdown_table

ROOT = Path(__file__).resolve().parents[2]
_LINE = re.compile(r"(?P<type>[\w/]+(?:\[\d*\])?)\s+(?P<name>\w+)(?:=(?P<value>\S+))?\s*(?:#\s*(?P<comment>.*))?$")
_HEAD = """# Messages

Generated from the files in `msg/`. The package is `sqap_vla`: `ros2 interface show sqap_vla/msg/PolicyStatus` shows the
same. Which topic carries which message: [Topics and services](topics.md).
"""


def pages() -> dict[str, str]:
    """The page of all messages."""
    parts = [message(path) for path in sorted((ROOT / "msg").glob("*.msg"))]
    return {"reference/messages.md": _HEAD + "".join(parts)}


def message(path: Path) -> str:
    """One message as a section with a table.

    Raises:
        ValueError: A line is neither a field nor a comment.
    """
    introduction: list[str] = []
    rows: list[list[str]] = []
    for line in path.read_text(encoding="utf-8").splitlines():
        text = line.strip()
        if text.startswith("#"):
            comment = text.removeprefix("#").strip()
            if rows and line.startswith(" "):
                rows[-1][3] += f" {comment}"  # goes on below the field
            elif not rows:
                introduction.append(comment)
        elif text:
            match = _LINE.match(text)
            if not match:
                raise ValueError(f"{path.name}: {text!r} is not a field")
            comment = match["comment"] or ""
            unit = re.match(r"\[([^\]]*)\]\s*", comment)
            name = f"`{match['name']} = {match['value']}`" if match["value"] else f"`{match['name']}`"
            meaning = comment[unit.end() :] if unit else comment
            if match["name"].startswith("CAUSE_"):
                meaning = Cause((match["value"] or "").strip('"')).meaning
            rows.append([name, f"`{match['type']}`", unit[1] if unit else "", meaning])
    listed = markdown_table(["name", "type", "unit", "meaning"], rows)
    return (
        f'\n## {path.stem}\n\n{" ".join(introduction)}\n\n<div class="fields message" markdown>\n\n{listed}\n\n</div>\n'
    )

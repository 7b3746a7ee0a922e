"""Reference of the package's messages and action, from the files: name, type, unit and meaning of every field."""

import re
from pathlib import Path

from sqap_vla_ros.core.rejection import Cause
from sqap_vla_ros.reporting.tables import markdown_table

ROOT = Path(__file__).resolve().parents[2]
_LINE = re.compile(r"(?P<type>[\w/]+(?:\[\d*\])?)\s+(?P<name>\w+)(?:=(?P<value>\S+))?\s*(?:#\s*(?P<comment>.*))?$")
_HEAD = """# Messages

Generated from the files in `msg/` and `action/`. `ros2 interface show sqap_vla/msg/PolicyStatus` shows the same. Which
topic carries which message: [Topics, services and action](topics.md).
"""
_PARTS = ("Goal", "Result", "Feedback")


def interfaces() -> list[Path]:
    """The files that define messages and actions."""
    return [*sorted((ROOT / "msg").glob("*.msg")), *sorted((ROOT / "action").glob("*.action"))]


def pages() -> dict[str, str]:
    """The page of all messages and actions."""
    return {"reference/messages.md": _HEAD + "".join(interface(path) for path in interfaces())}


def interface(path: Path) -> str:
    """One message as a section with a table, or one action as a section with three.

    Raises:
        ValueError: A line is neither a field nor a comment.
    """
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".msg":
        return f"\n## {path.stem}\n{_fields(text, path.name)}"
    parts = re.split(r"^---$", text, flags=re.MULTILINE)
    sections = [f"\n### {name}\n{_fields(part, path.name)}" for name, part in zip(_PARTS, parts, strict=True)]
    return f"\n## {path.stem}\n" + "".join(sections)


def _fields(definition: str, file: str) -> str:
    """What comes before the first field as text, and the fields as a table."""
    introduction: list[str] = []
    rows: list[list[str]] = []
    for line in definition.splitlines():
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
                raise ValueError(f"{file}: {text!r} is not a field")
            comment = match["comment"] or ""
            unit = re.match(r"\[([^\]]*)\]\s*", comment)
            name = f"`{match['name']} = {match['value']}`" if match["value"] else f"`{match['name']}`"
            meaning = comment[unit.end() :] if unit else comment
            if match["name"].startswith("CAUSE_"):
                meaning = Cause((match["value"] or "").strip('"')).meaning
            rows.append([name, f"`{match['type']}`", unit[1] if unit else "", meaning])
    listed = markdown_table(["name", "type", "unit", "meaning"], rows)
    return f'\n{" ".join(introduction)}\n\n<div class="fields message" markdown>\n\n{listed}\n\n</div>\n'

"""Reference of the robot, policy and recipe files, from the typed settings: a table per group."""

from sqap_vla_ros.config.reference import Setting, settings
from sqap_vla_ros.reporting.tables import markdown_table

_HEADS = {
    "robot": """# Robot file

A robot file describes one arm in one cell: `config/robots/NAME.yaml`, or any path. It is an ordinary ROS parameter file
(`/**: ros__parameters:`), and every name below is also the name of a parameter of the node. An unknown name, a wrong
type or a value out of range fails `configure` with a sentence that names it. How to write one:
[Add a robot](../how-to/add-a-robot.md).
""",
    "policy": """# Policy file

A policy file says how a plan is made: `config/policies/NAME.yaml`, or any path. It says nothing about weights; those
come with the checkpoint. Which one to take: [Choose a policy and a recipe](../how-to/choose.md).
""",
    "recipe": """# Compression recipe

A recipe says how `sqap-vla compress` makes a low-bit checkpoint: `config/recipes/NAME.yaml`, or any path. What its
parts do: [Quantisation](../explanation/quantisation.md); how to run it: [Compress a checkpoint](../how-to/compress.md).
""",
}
_PAGES = {"robot": "robot-file", "policy": "policy-file", "recipe": "recipe"}


def pages() -> dict[str, str]:
    """One page for each kind of file."""
    return {f"reference/{_PAGES[kind]}.md": head + _tables(kind) for kind, head in _HEADS.items()}


def _tables(kind: str) -> str:
    parts = []
    groups: dict[str, list[Setting]] = {}
    for setting in settings(kind):
        groups.setdefault(setting.group, []).append(setting)
    for group, rows in groups.items():
        head = f"`{group}`" if group else "At the top of the file"
        parts.append(f'\n## {head}\n\n<div class="fields settings" markdown>\n\n{_table(rows)}\n\n</div>\n')
    return "".join(parts)


def _table(rows: list[Setting]) -> str:
    cells = []
    for row in rows:
        values = f"`{row.default}`" if row.default not in ("required", "absent", "its own defaults") else row.default
        cells.append([f"`{row.name}`", row.type, row.unit, row.range, values, row.meaning])
    return markdown_table(["name", "type", "unit", "range", "default", "meaning"], cells)

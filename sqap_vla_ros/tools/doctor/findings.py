"""Findings: each is a sentence about the set-up, with advice on what to do."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.table import Table
from rich.text import Text

from sqap_vla_ros.core.files import write_whole


class Level(StrEnum):
    """How much a finding matters."""

    OK = "ok"
    WARNING = "warning"
    PROBLEM = "problem"


_STYLES = {Level.OK: "green", Level.WARNING: "yellow", Level.PROBLEM: "bold red"}


@dataclass(frozen=True)
class Finding:
    """One finding about one part of the set-up.

    Attributes:
        level: A problem keeps the set-up from working; a warning is worth a look.
        about: The part of the set-up, in a word or two.
        what: A sentence about it.
        advice: What to do; empty if nothing is to be done.
    """

    level: Level
    about: str
    what: str
    advice: str = ""


def has_problem(findings: Iterable[Finding]) -> bool:
    """Whether a finding keeps the set-up from working."""
    return any(finding.level == Level.PROBLEM for finding in findings)


def verdict(findings: Sequence[Finding]) -> str:
    """Summarise all findings in one line."""
    counts = {level: sum(finding.level == level for finding in findings) for level in Level}
    words = [f"{count} {level}{'s' * (count != 1)}" for level, count in counts.items() if level != Level.OK and count]
    if has_problem(findings):
        return f"this will not work: {', '.join(words)}"
    return "this will work" + (f"; {words[0]}" if words else "")


def findings_table(title: str, findings: Iterable[Finding]) -> Table:
    """A table with one row per finding, in the order of the checks."""
    table = Table(title=Text(title), box=SIMPLE_HEAD, show_lines=False)
    for heading in ("", "about", "what", "what to do"):
        table.add_column(heading, overflow="fold")
    for finding in findings:
        level = Text(finding.level, _STYLES[finding.level])
        table.add_row(level, Text(finding.about), Text(finding.what), Text(finding.advice))
    return table


def write_findings(path: Path, settings: Mapping[str, Any], findings: Sequence[Finding]) -> None:
    """Write the findings as JSON, with a description of what was examined."""
    content = {**settings, "verdict": verdict(findings), "findings": [asdict(finding) for finding in findings]}
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, (json.dumps(content, indent=2, ensure_ascii=False) + "\n").encode())

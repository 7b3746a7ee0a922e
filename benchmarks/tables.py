"""Fills the figures of `results/` into Markdown: the documentation's pages, and the figures of the README.

A page names a figure in double braces: `{{ soak.ticks | .0f }}` is one value in the given format;
`{{ table closed_loop }}` a table with a row per policy, and `{{ table closed_loop task_ }}` its columns of that name;
`{{ cases faults }}` the list of cases; `{{ origin soak }}` the command, the date and the machine.
`python -m benchmarks.tables` writes the README's figures; `--check` only says whether they are current.
"""

import json
import re
import sys
from collections.abc import Iterator, Sequence
from typing import Any

import tyro

from benchmarks.columns import TABLES
from benchmarks.results import RESULTS
from sqap_vla_ros.reporting.tables import markdown_table

README = RESULTS.parents[1] / "README.md"
SUMMARY = RESULTS.parents[1] / "docs" / "snippets" / "summary.md"
BEGIN, END = "<!-- figures: begin -->", "<!-- figures: end -->"
_PLACE = re.compile(r"\{\{ *(?:(table|cases|origin) (\w+)((?: \w+)*)|(\w+)\.([^|}]+?) *\| *([^}]*?)) *\}\}")


def read(stem: str) -> dict[str, Any]:
    """One file of results.

    Raises:
        ValueError: There is no such file.
    """
    path = RESULTS / f"{stem}.json"
    if not path.exists():
        raise ValueError(f"there are no results {path.name}")
    content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return content


def cells(stem: str, wanted: Sequence[str] = ()) -> Iterator[tuple[str, str, str, float]]:
    """Figures of a table as (name, row, column, value)."""
    columns = TABLES["gpu" if stem.startswith("gpu_") else stem].columns
    # The longest pattern first: `success_*` would take `success_*_low` for a row of its own.
    patterns = [(*column.partition("*")[::2], column) for column in sorted(columns, key=len, reverse=True)]
    for name, value in read(stem)["figures"].items():
        for before, after, column in patterns:
            if name.startswith(before) and name.endswith(after):
                if not wanted or column.startswith(tuple(wanted)):
                    yield name, name.removeprefix(before).removesuffix(after), column, value
                break


def table(stem: str, wanted: Sequence[str] = ()) -> str:
    """A table with a row per policy, recipe or disturbance; columns without a figure are left out.

    Args:
        stem: Name of the file of results.
        wanted: Beginnings of the columns' names; none: all columns.
    """
    spec = TABLES["gpu" if stem.startswith("gpu_") else stem]
    rows: dict[str, dict[str, str]] = {}
    for _, row, column, value in cells(stem, wanted):
        rows.setdefault(row, {})[column] = format(value, spec.columns[column][1])
    order, labels = list(spec.columns), list(spec.labels)
    names = sorted(rows, key=lambda row: labels.index(row) if row in labels else len(labels))
    shown = [column for column in order if any(column in found for found in rows.values())]
    head, body = [spec.head], [[spec.labels.get(row, row)] for row in names]
    for column in shown:
        values = [rows[row].get(column, "") for row in names]
        if spec.columns[column][0]:
            head.append(spec.columns[column][0])
            for line, value in zip(body, values, strict=True):
                line.append(value)
        else:
            for line, value in zip(body, values, strict=True):
                line[-1] += f" to {value}" if value else ""
    return markdown_table(head, body, numbers=True)


def cases(stem: str) -> str:
    """The cases of a file as a table with a column per field."""
    listed = read(stem)["cases"]
    heads = [name.replace("_ms", ", ms").replace("_s", ", s").replace("_", " ") for name in listed[0]]
    rows = (["" if value is None else f"{value}" for value in case.values()] for case in listed)
    return markdown_table(heads, rows, numbers=True)


def origin(stem: str) -> str:
    """Command, date and machine; of rows that were measured one by one, the command for all and each date."""
    result = read(stem)
    command, when = result["command"], result["date"]
    if "measured" in result:
        command = command.partition(" --")[0]
        rows: dict[str, list[str]] = {}
        for row, commit_and_date in result["measured"].items():
            rows.setdefault(commit_and_date, []).append(TABLES[stem].labels.get(row, row))
        *first, last = rows
        named = [f"{', '.join(rows[one])}: {one}" for one in first]
        when = "; ".join([*named, f"the others: {last}" if first else last])
    return f"`{command}`; {when}; {result['machine']}."


def fill(text: str) -> str:
    """Text with the figures in place of what stands in double braces.

    Raises:
        ValueError: A place names results, or a figure, that do not exist.
    """

    def filled(match: re.Match[str]) -> str:
        kind, whole, columns, stem, name, form = match.groups()
        if kind == "table":
            return table(whole, columns.split())
        if kind:
            return {"cases": cases, "origin": origin}[kind](whole)
        figures = read(stem)["figures"]
        if name not in figures:
            raise ValueError(f"{match[0]}: {stem}.json has no figure '{name}'")
        return format(figures[name], form).replace("%", " %")

    return _PLACE.sub(filled, text)


def named_figures(text: str) -> set[tuple[str, str]]:
    """Which figures, as (file, name), a text shows."""
    found = set()
    for kind, whole, columns, stem, name, _ in _PLACE.findall(text):
        if kind == "table":
            found |= {(whole, figure) for figure, *_ in cells(whole, columns.split())}
        elif not kind:
            found.add((stem, name))
    return found


def readme() -> str:
    """The README as it must be: with its figures."""
    before, _, rest = README.read_text(encoding="utf-8").partition(BEGIN)
    return f"{before}{BEGIN}\n{fill(SUMMARY.read_text(encoding='utf-8'))}{END}{rest.partition(END)[2]}"


def main(check: bool = False) -> None:
    """Update the figures in the README.

    Args:
        check: Change nothing; exit with 1 when they are not those of the results.
    """
    text = readme()
    if not check:
        README.write_text(text, encoding="utf-8")
    elif README.read_text(encoding="utf-8") != text:
        sys.exit("the figures in README.md are out of date: run python -m benchmarks.tables")


if __name__ == "__main__":
    tyro.cli(main)

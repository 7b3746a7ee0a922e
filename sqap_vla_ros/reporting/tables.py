"""The one writer of Markdown tables."""

from collections.abc import Iterable, Sequence


def markdown_table(heading: Sequence[str], rows: Iterable[Sequence[str]], *, numbers: bool = False) -> str:
    """A table as GitHub and MkDocs render it, without a line break at its end.

    Args:
        heading: A title for each column.
        rows: A cell for each column.
        numbers: Whether all columns but the first hold numbers, which are aligned to the right.

    Raises:
        ValueError: A row has another number of cells than the heading.
    """
    rest = "---:" if numbers else "---"
    lines = [heading, ["---", *[rest] * (len(heading) - 1)]]
    for row in rows:
        if len(row) != len(heading):
            raise ValueError(f"a row of {len(row)} cells in a table of {len(heading)} columns: {row}")
        lines.append(row)
    return "\n".join(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in line)} |" for line in lines)

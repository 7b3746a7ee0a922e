"""The one writer of Markdown tables."""

from collections.abc import Iterable, Sequence


def markdown_table(heading: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table as GitHub and MkDocs render it, without a line break at its end.

    Args:
        heading: A title for each column.
        rows: A cell for each column.

    Raises:
        ValueError: A row has another number of cells than the heading.
    """
    lines = [heading, ["---"] * len(heading)]
    for row in rows:
        if len(row) != len(heading):
            raise ValueError(f"a row of {len(row)} cells in a table of {len(heading)} columns: {row}")
        lines.append(row)
    return "\n".join(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in line)} |" for line in lines)

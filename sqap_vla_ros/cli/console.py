"""What the commands print with: consoles and the progress bar.

rich is imported when something is printed, so that no help waits for it.
"""

import os
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress

_PIPE_WIDTH = 140
"""Columns where there is no terminal: no table of this project is cut then."""


def make_console() -> "Console":
    """Make the console that commands print to."""
    from rich.console import Console

    is_sized = sys.stdout.isatty() or "COLUMNS" in os.environ
    # No text of this project is markup: a unit or a path may stand in brackets.
    return Console(width=None if is_sized else _PIPE_WIDTH, markup=False)


def print_line(console: "Console", sentence: str) -> None:
    """Print a sentence as it is, on one line however long."""
    console.print(sentence, soft_wrap=True, markup=False, highlight=False)


def print_error(sentence: str) -> None:
    """Print an error message to stderr."""
    from rich.console import Console

    Console(stderr=True).print(sentence, style="red", markup=False, highlight=False, soft_wrap=True)


def progress_bar(console: "Console", speed_estimate_period: float = 30.0) -> "Progress":
    """Make a bar with counts, elapsed and remaining time.

    Args:
        console: Console that it is drawn on.
        speed_estimate_period: Time over which speed and remaining time are estimated [s].
    """
    from rich import progress

    return progress.Progress(
        progress.TextColumn("{task.description}"),
        progress.BarColumn(),
        progress.MofNCompleteColumn(),
        progress.TimeElapsedColumn(),
        progress.TimeRemainingColumn(),
        console=console,
        speed_estimate_period=speed_estimate_period,
    )

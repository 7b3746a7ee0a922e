"""The progress bar that the commands share."""

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn


def progress_bar(console: Console, speed_estimate_period: float = 30.0) -> Progress:
    """Make a bar with counts, elapsed and remaining time.

    Args:
        console: Console that it is drawn on.
        speed_estimate_period: Time over which speed and remaining time are estimated [s].
    """
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        console=console,
        speed_estimate_period=speed_estimate_period,
    )

"""Jobs that run in this process, in place of the worker pool."""

from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

Job = TypeVar("Job")
Result = TypeVar("Result")


def run_inline(
    function: Callable[[Job], Result], jobs: Sequence[Job], *, workers: int, ray_address: str = ""
) -> Iterator[Result]:
    """Replaces `run_jobs` where a test looks at the results and not at the processes."""
    return map(function, jobs)

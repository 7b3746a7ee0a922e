"""The GPU's end, and any error in one line for the user."""

from sqap_vla_ros.core.files import disk_problem


class GpuLost(RuntimeError):
    """The GPU answers this process no more, whatever it is asked: only a new process can go on."""


def in_one_line(error: BaseException) -> str:
    """The error as one line of text.

    The project's own errors are sentences for the user; of any other the type is half of the message.
    """
    if problem := disk_problem(error):
        return problem
    words = " ".join(str(error).split())
    return words if is_ours(error) else f"{type(error).__name__}: {words}"


def is_ours(error: BaseException) -> bool:
    """Whether this package raised it on purpose, for the user to read."""
    return type(error).__module__.partition(".")[0] == __name__.partition(".")[0]

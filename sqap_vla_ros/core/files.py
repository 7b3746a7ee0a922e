"""Files that exist as a whole or not at all, and what to do where none can be written."""

import errno
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """Yield the path of a part file, which takes the place of `path` when the block ends without an error.

    A reader sees the old file or the new one, never a part. After an error the part file is removed; a process that is
    killed leaves it behind, under the name that `part_of` gives.

    Args:
        path: The file to write.

    Raises:
        OSError: The part file was not written, or the disk is full.
    """
    part = part_of(path)
    try:
        yield part
        with part.open("rb") as file:
            os.fsync(file.fileno())
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def part_of(path: Path) -> Path:
    """The name that a file has while `whole_file` writes it."""
    return path.with_name(path.name + ".part")


def write_whole(path: Path, content: bytes) -> None:
    """Write bytes so that the file exists as a whole or not at all."""
    with whole_file(path) as part:
        part.write_bytes(content)


def disk_problem(error: BaseException) -> str:
    """What keeps a file from being written, and what to do, as one sentence; empty if the error is of another kind.

    Args:
        error: Of Python, or of a library that passes on the number of the system's error.
    """
    number = _number(error)
    path = getattr(error, "filename", None)
    where = f"{os.fsdecode(path)}: " if isinstance(path, str | bytes | os.PathLike) else ""
    if number in (errno.ENOSPC, errno.EDQUOT):
        return f"{where}no space is left on the disk{_free(path)}; make room, or give a directory on another disk"
    if number == errno.EROFS:
        return f"{where}the file system is read-only; give a directory on another one"
    if number in (errno.EACCES, errno.EPERM):
        return f"{where}this user may not write there; give another directory, or have its permissions changed"
    if number == errno.EFBIG:
        return f"{where}the file would be larger than this shell allows; raise the limit with `ulimit -f unlimited`"
    if number in (errno.ENOTDIR, errno.EEXIST):
        return f"{where}Not a directory; give a directory that can be written"
    if number == errno.EIO:
        return f"{where}the disk fails (input/output error); give a directory on another one"
    return ""


def is_full(error: BaseException) -> bool:
    """Whether an error says that there is no more room for a file."""
    return _number(error) in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def _number(error: BaseException) -> int | None:
    """The system's number of an error; safetensors only writes it into its text."""
    in_text = re.search(r"\(os error (\d+)\)", str(error))
    known = error.errno if isinstance(error, OSError) else None
    return int(in_text[1]) if known is None and in_text else known


def _free(path: object) -> str:
    """Free space of the disk of a path, in brackets; empty where it is unknown."""
    if not isinstance(path, str | bytes | os.PathLike):
        return ""
    folder = Path(os.fsdecode(path))
    for place in (folder, *folder.parents):
        if place.is_dir():
            return f" ({shutil.disk_usage(place).free / 2**20:.0f} MiB free)"
    return ""

"""Files that exist as a whole or not at all."""

import os
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

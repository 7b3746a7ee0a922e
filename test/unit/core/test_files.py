"""What keeps a file from being written, as a sentence with what to do about just that."""

import errno
import os
from pathlib import Path

import av
import pytest
from file_size_limit import largest_file
from safetensors import SafetensorError

from sqap_vla_ros.core.errors import in_one_line
from sqap_vla_ros.core.files import disk_problem, write_whole


@pytest.mark.parametrize(
    ("number", "advice"),
    [
        (errno.ENOSPC, r"no space is left on the disk \(\d+ MiB free\); make room"),
        (errno.EDQUOT, "no space is left"),
        (errno.EROFS, "the file system is read-only; give a directory on another one"),
        (errno.EACCES, "this user may not write there; give another directory"),
        (errno.EPERM, "this user may not write there"),
        (errno.ENOTDIR, "Not a directory; give a directory"),
        (errno.EIO, "the disk fails"),
    ],
)
def test_each_lack_has_its_own_advice(number: int, advice: str, tmp_path: Path) -> None:
    path = tmp_path / "out" / "report.html"
    with pytest.raises(OSError, match=f"{path}: .*{advice}"):
        raise OSError(disk_problem(OSError(number, os.strerror(number), str(path))))
    assert ("make room" in disk_problem(OSError(number, "", str(path)))) == (number in (errno.ENOSPC, errno.EDQUOT))


def test_libraries_pass_the_number_on() -> None:
    video = av.error.OSError(errno.ENOSPC, "No space left on device", "overlay.mp4")
    assert disk_problem(video).startswith("overlay.mp4: no space is left")
    without_path = disk_problem(SafetensorError("I/O error: No space left on device (os error 28)"))
    assert without_path.startswith("no space is left on the disk; make room")  # whose disk is not known


def test_another_error_is_no_problem_of_the_disk() -> None:
    for error in (FileNotFoundError(errno.ENOENT, "no such file", "a"), ValueError("28"), BrokenPipeError()):
        assert disk_problem(error) == ""


def test_a_full_disk_leaves_no_file_and_is_a_sentence(tmp_path: Path) -> None:
    with largest_file(1000), pytest.raises(OSError, match="File too large") as caught:
        write_whole(tmp_path / "weights", bytes(5000))
    assert list(tmp_path.iterdir()) == []
    assert "ulimit" in in_one_line(caught.value)

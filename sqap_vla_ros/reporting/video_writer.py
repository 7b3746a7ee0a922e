"""The writers of videos: H.264 in MP4, which browsers play."""

from collections.abc import Iterable
from fractions import Fraction
from itertools import chain
from pathlib import Path

import av
import numpy as np
from numpy.typing import NDArray

from sqap_vla_ros.core.files import whole_file

_TIME_BASE = Fraction(1, 1000)


def write_mp4(pictures: Iterable[tuple[int, NDArray[np.uint8]]], path: Path) -> int:
    """Write pictures as an H.264 MP4; the file exists as a whole or, as without any picture, not at all.

    Args:
        pictures: Stamp (ns) and uint8 (height, width, 3), RGB, of each frame, all of the same, even size.
        path: The MP4.

    Returns:
        Number of frames written.
    """
    frames = iter(pictures)
    first = next(frames, None)
    if first is None:
        return 0
    start_ns, picture = first
    count = 0
    options = {"movflags": "faststart"}
    with whole_file(path) as part, av.open(str(part), "w", format="mp4", options=options) as container:
        stream = container.add_stream("libx264", options={"crf": "20", "preset": "veryfast"})
        stream.pix_fmt, stream.codec_context.time_base = "yuv420p", _TIME_BASE
        stream.height, stream.width = picture.shape[:2]
        for at_ns, picture in chain([first], frames):
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame.pts, frame.time_base = round((at_ns - start_ns) / 1e6), _TIME_BASE
            container.mux(stream.encode(frame))
            count += 1
        container.mux(stream.encode())
    return count


class Clip:
    """An H.264 MP4 that training reads at random: frames at a constant rate, every second one whole by itself.

    Args:
        path: The MP4, which is overwritten.
        rate_hz: Frames per second.
        quality: Constant rate factor of x264: 0 loses only what the conversion of colours does, 18 is hardly visible.
    """

    def __init__(self, path: Path, rate_hz: int, quality: int) -> None:
        self._container = av.open(str(path), "w", format="mp4", options={"movflags": "faststart"})
        self._base = Fraction(1, rate_hz)
        self._options = {"crf": str(quality), "g": "2", "bf": "0", "preset": "medium"}
        self._stream: av.VideoStream | None = None
        self._rate_hz = rate_hz
        self.count = 0

    @property
    def pixel_format(self) -> str:
        """The stored form of colours: halved in resolution, unless a side of the pictures is odd."""
        return str(self._stream.pix_fmt) if self._stream else ""

    def add(self, picture: NDArray[np.uint8]) -> None:
        """Add a picture, uint8 (height, width, 3), RGB; all have the size of the first."""
        if self._stream is None:
            self._stream = self._container.add_stream("libx264", rate=self._rate_hz, options=self._options)
            height, width = picture.shape[:2]
            self._stream.height, self._stream.width = height, width
            self._stream.pix_fmt = "yuv444p" if height % 2 or width % 2 else "yuv420p"
            self._stream.codec_context.time_base = self._base
        frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
        frame.pts, frame.time_base = self.count, self._base
        self._container.mux(self._stream.encode(frame))
        self.count += 1

    def close(self) -> None:
        """Write what is left."""
        if self._stream is not None:
            self._container.mux(self._stream.encode())
        self._container.close()

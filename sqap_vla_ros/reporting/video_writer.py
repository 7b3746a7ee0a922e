"""The one writer of videos: H.264 in MP4, which browsers play."""

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

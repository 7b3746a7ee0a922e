"""Videos that browsers play."""

from collections.abc import Iterable
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from numpy.typing import NDArray

_TIME_BASE = Fraction(1, 1000)


def write_mp4(pictures: Iterable[tuple[int, NDArray[np.uint8]]], path: Path) -> int:
    """Write an H.264 MP4 that browsers play.

    Args:
        pictures: Stamp (ns) and uint8 (height, width, 3), RGB, of each frame, all of the same, even size.
        path: Of the MP4.

    Returns:
        Number of frames written.
    """
    frames = 0
    start_ns = 0
    with av.open(str(path), "w", options={"movflags": "faststart"}) as container:
        stream = container.add_stream("libx264", options={"crf": "20", "preset": "veryfast"})
        stream.pix_fmt, stream.codec_context.time_base = "yuv420p", _TIME_BASE
        for at_ns, picture in pictures:
            if not frames:
                start_ns = at_ns
                stream.height, stream.width = picture.shape[:2]
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame.pts, frame.time_base = round((at_ns - start_ns) / 1e6), _TIME_BASE
            container.mux(stream.encode(frame))
            frames += 1
        if frames:
            container.mux(stream.encode())
    return frames

"""Compressed images as drivers, cameras and phones make them: the data say more than the format."""

from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from sqap_vla_ros.perception.images import ImageError, check, decode

PICTURE = np.random.default_rng(0).integers(0, 256, (2, 4, 3), np.uint8)


def compressed(extension: str, pixels: NDArray[np.uint8] = PICTURE, format: str | None = None) -> Any:
    """A CompressedImage of pixels in RGB."""
    data = cv2.imencode(extension, cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR))[1]
    return SimpleNamespace(format=format or extension[1:], data=data)


# What drivers write: image_transport's own subscriber reads only what stands around ";", and the decoder the data.
DRIVERS = [
    "",
    "mjpeg",
    "MJPG",
    ".jpg",
    ".jpeg",
    "image/jpeg",
    "JPEG",
    "jpeg; compressed bgr8",
    "rgb8; jpeg compressed; bgr8",
]
DRIVERS += [
    "8UC1; jpeg compressed ",
    "mono16; jpeg compressed ",
    "8UC4; jpeg compressed bgr8",
    "nv12; jpeg compressed bgr8",
]


@pytest.mark.parametrize("format", DRIVERS)
def test_whatever_a_driver_writes_as_format_a_jpeg_decodes_with_its_colours(format: str) -> None:
    picture = cv2.resize(PICTURE, (64, 32), interpolation=cv2.INTER_NEAREST)
    message = SimpleNamespace(format=format, data=compressed(".jpg", picture).data)
    check(message)
    assert np.abs(decode(message).astype(int) - decode(compressed(".jpg", picture)).astype(int)).max() == 0


@pytest.mark.parametrize(("format", "data"), [("h264", b"\0\0\0\1gB"), ("webp", b"RIFF\x10\0\0\0WEBPVP8 "), ("", b"x")])
def test_data_that_is_neither_jpeg_nor_png_is_refused_on_arrival(format: str, data: bytes) -> None:
    with pytest.raises(ImageError, match=f"format '{format}' is not supported; expected jpeg or png"):
        check(SimpleNamespace(format=format, data=np.frombuffer(data, np.uint8)))


def without_huffman_tables(jpeg: bytes) -> bytes:
    """As UVC cameras send it: the standard tables are meant."""
    kept, position = jpeg[:2], 2
    while jpeg[position + 1] != 0xDA:
        size = 2 + int.from_bytes(jpeg[position + 2 : position + 4], "big")
        kept += b"" if jpeg[position + 1] == 0xC4 else jpeg[position : position + size]
        position += size
    return kept + jpeg[position:]


def with_preview(jpeg: bytes) -> bytes:
    """A preview, with an end marker of its own, in the application data."""
    preview = bytes(compressed(".jpg", PICTURE[:8, :8]).data)
    return jpeg[:2] + b"\xff\xe1" + (2 + len(preview)).to_bytes(2, "big") + preview + jpeg[2:]


NOISE = np.random.default_rng(3).integers(0, 256, (40, 56, 3), np.uint8)
PLAIN = bytes(compressed(".jpg", NOISE).data)
PROGRESSIVE = cv2.imencode(".jpg", NOISE, [cv2.IMWRITE_JPEG_PROGRESSIVE, 1])[1].tobytes()
RESTARTS = cv2.imencode(".jpg", NOISE, [cv2.IMWRITE_JPEG_RST_INTERVAL, 3])[1].tobytes()
JUNK = np.random.default_rng(1).integers(0, 256, 777, dtype=np.uint8).tobytes()
CAMERAS = {
    "no Huffman tables": without_huffman_tables(PLAIN),
    "second end": PLAIN + b"\xff\xd9",
    "stale bytes behind the end": PLAIN + JUNK,
    "fill behind the end": PLAIN + b"\xff" * 64,
    "the next picture's start behind the end": PLAIN + PLAIN[:300],
    "fill before the end": PLAIN[:-2] + b"\xff\xff\xff\xd9",
    "rounded up with zeros": PLAIN + b"\0" * (-len(PLAIN) % 1024),
    "a film behind the end": PLAIN + b"\0\0\0\x18ftypmp42" + JUNK,
    "a preview": with_preview(PLAIN),
    "progressive, stale bytes": PROGRESSIVE + JUNK,
    "restart markers, stale bytes": RESTARTS + JUNK,
}


@pytest.mark.parametrize("name", CAMERAS)
def test_a_jpeg_as_cameras_and_phones_send_it_decodes(name: str) -> None:
    whole = {"p": PROGRESSIVE, "r": RESTARTS}.get(name[0] * ("," in name), PLAIN)
    expected = cv2.cvtColor(cv2.imdecode(np.frombuffer(whole, np.uint8), cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB)
    message = SimpleNamespace(format="jpeg", data=np.frombuffer(CAMERAS[name], np.uint8))
    check(message)
    np.testing.assert_array_equal(decode(message), expected)


CUT = {
    "cut": PLAIN[: len(PLAIN) // 2],
    "cut, rounded up with zeros": PLAIN[: len(PLAIN) // 2] + bytes(512),
    "cut, then the next picture": PLAIN[: len(PLAIN) // 2] + PLAIN,
    "a preview, and cut": with_preview(PLAIN)[: len(PLAIN)],
    "progressive, cut after a scan": PROGRESSIVE[: PROGRESSIVE.index(b"\xff\xda", len(PROGRESSIVE) // 2)],
    "no end": PLAIN[:-2],
    "header alone": PLAIN[:200],
}


@pytest.mark.parametrize("name", CUT)
def test_a_jpeg_that_ends_early_is_refused_whatever_follows(name: str) -> None:
    with pytest.raises(ImageError, match=r"truncated or corrupt|neither JPEG nor PNG"):
        decode(SimpleNamespace(format="jpeg", data=np.frombuffer(CUT[name], np.uint8)))


def test_bytes_behind_a_png_do_not_matter_and_a_cut_one_is_refused() -> None:
    whole = bytes(compressed(".png", NOISE).data)
    np.testing.assert_array_equal(decode(SimpleNamespace(format="", data=np.frombuffer(whole + JUNK, np.uint8))), NOISE)
    for size in (len(whole) - 1, len(whole) - 12, len(whole) - 20):
        with pytest.raises(ImageError, match="truncated or corrupt"):
            decode(SimpleNamespace(format="png", data=np.frombuffer(whole[:size], np.uint8)))

"""Decoding of sensor_msgs Image and CompressedImage to RGB.

`check` rejects what cannot be decoded by the description and the sizes alone, so that it can run on every image that
arrives; only the image that is used is decoded. Both take rclpy and rosbags messages.
"""

import io
import re
from typing import Any

import cv2
import numpy as np
import PIL
from numpy.typing import NDArray
from PIL import Image

from sqap_vla_ros.core.clock import stamp_ns

Pixels = NDArray[np.uint8]

# Larger than any camera. It keeps a corrupt size, or a small file that unpacks to gigabytes, from exhausting memory.
MAX_PIXELS = 64 * 2**20
_LEAST_PX = 8  # no camera has fewer: a driver without a picture sends 1x1

_YUV: dict[str, tuple[int, int | None]] = {
    "yuv422": (2, cv2.COLOR_YUV2RGB_UYVY),
    "uyvy": (2, cv2.COLOR_YUV2RGB_UYVY),
    "yuv422_yuy2": (2, cv2.COLOR_YUV2RGB_YUY2),
    "yuyv": (2, cv2.COLOR_YUV2RGB_YUY2),
}

# Encoding: bytes per pixel, and OpenCV's conversion to RGB (None: is RGB). 8UC3 is blue-green-red, as OpenCV has it.
_ENCODINGS: dict[str, tuple[int, int | None]] = {
    "rgb8": (3, None),
    "bgr8": (3, cv2.COLOR_BGR2RGB),
    "rgba8": (4, cv2.COLOR_RGBA2RGB),
    "bgra8": (4, cv2.COLOR_BGRA2RGB),
    "mono8": (1, cv2.COLOR_GRAY2RGB),
    "8UC3": (3, cv2.COLOR_BGR2RGB),
    "bayer_rggb8": (1, cv2.COLOR_BayerRGGB2RGB),
    "bayer_bggr8": (1, cv2.COLOR_BayerBGGR2RGB),
    "bayer_gbrg8": (1, cv2.COLOR_BayerGBRG2RGB),
    "bayer_grbg8": (1, cv2.COLOR_BayerGRBG2RGB),
    **_YUV,
}

# CompressedImage.format as image_transport writes it, "rgb8; jpeg compressed bgr8", names the pixels of the message
# before ";", and after "compressed" those that the encoder was given. Others write anything: the codec is in the data.
_NAMED = re.compile(r"jpe?g|png", re.I)
_STORED = re.compile(r"compressed\W*(\w+)", re.I)
_DEPTH = re.compile(r"compressedDepth|32FC", re.I)
_DEEP = re.compile(r"(16|32|64)([USF]C\d)?$", re.I)  # bits of a channel

_JPEG, _PNG = b"\xff\xd8", b"\x89PNG\r\n\x1a\n"
# In the coded data of a JPEG, 0xff is followed by 0, by a restart's number or by more 0xff; else it begins a marker.
_MARKER = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]")
_SCAN, _END = 0xDA, 0xD9
# What may stand between the scans of a JPEG: tables, numbers of lines, application data, comments, the next scan.
_BETWEEN_SCANS = (0xC4, 0xCC, _SCAN, 0xDB, 0xDC, 0xDD, 0xFE, *range(0xE0, 0xF0))


class ImageError(ValueError):
    """An image that cannot be used; the message says why, and what is expected."""


def stamp_of(message: Any) -> int:
    """Stamp of a camera's image [ns]; the picture stays encoded.

    Raises:
        ImageError: Its description is unusable, it is too small to be a camera's, or it has no stamp.
    """
    check(message)
    width, height = getattr(message, "width", _LEAST_PX), getattr(message, "height", _LEAST_PX)
    if min(width, height) < _LEAST_PX:
        raise ImageError(f"image of {width}x{height} pixels shows nothing; expected {_LEAST_PX}x{_LEAST_PX} or more")
    at_ns = stamp_ns(message)
    if at_ns <= 0:
        raise ImageError(f"image stamp is {at_ns} ns; the camera driver must stamp its images")
    return at_ns


def check(message: Any) -> None:
    """Reject an image that `decode` could not decode, as far as that is known without decoding.

    Raises:
        ImageError: Its encoding is unknown, or its sizes do not fit together.
    """
    if hasattr(message, "format"):
        _stored_encoding(message.format)
        if len(message.data) == 0:
            raise ImageError("compressed image without data")
        if not _NAMED.search(message.format) and not bytes(message.data[:8]).startswith((_JPEG, _PNG)):
            raise ImageError(
                f"compressed image format '{message.format}' is not supported; expected jpeg or png, and these "
                f"{len(message.data)} bytes are neither"
            )
    else:
        _check_raw(message)


def decode(message: Any) -> Pixels:
    """Decode a sensor_msgs Image or CompressedImage.

    Returns:
        uint8 (height, width, 3), RGB. It must not be written to: pixels that are RGB already stay in the message.

    Raises:
        ImageError: It cannot be decoded.
    """
    return decode_compressed(message) if hasattr(message, "format") else decode_image(message)


def decode_image(message: Any) -> Pixels:
    """Decode a sensor_msgs Image; see `decode`."""
    _check_raw(message)
    bytes_per_pixel, conversion = _ENCODINGS[message.encoding]
    height, width = message.height, message.width
    rows = np.frombuffer(message.data, np.uint8).reshape(height, message.step)
    pixels = rows[:, : width * bytes_per_pixel].reshape(height, width, bytes_per_pixel)
    if conversion is None:
        pixels = np.ascontiguousarray(pixels)  # a copy only where rows are padded
        pixels.flags.writeable = False
        return pixels
    return np.asarray(cv2.cvtColor(np.ascontiguousarray(pixels), conversion), np.uint8)


def decode_compressed(message: Any) -> Pixels:
    """Decode a sensor_msgs CompressedImage (JPEG or PNG); see `decode`. A depth image is rejected."""
    stored = _stored_encoding(message.format)
    pixels = _decode_bgr(np.frombuffer(message.data, np.uint8))
    # image_transport hands the encoder the pixels that it calls `stored` as if they were blue-green-red.
    return pixels if stored == "rgb8" else _rgb(pixels)


def decode_picture(data: bytes) -> Pixels:
    """Decode the content of a JPEG or PNG file.

    Returns:
        uint8 (height, width, 3), RGB.

    Raises:
        ImageError: It cannot be decoded.
    """
    return _rgb(_decode_bgr(np.frombuffer(data, np.uint8)))


def _rgb(pixels: Pixels) -> Pixels:
    return np.asarray(cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB), np.uint8)


def _decode_bgr(data: Pixels) -> Pixels:
    codec, (width, height) = _header(data)
    if width * height > MAX_PIXELS:
        raise ImageError(f"compressed image of {width}x{height} pixels, at most {MAX_PIXELS} are accepted")
    # OpenCV fills an image that ends early with grey or black.
    complete = _is_whole_png(data) if codec == "PNG" else _jpeg_size(data.tobytes()) > 0
    # A camera's calibration is for the image as stored: an orientation tag must not turn it.
    pixels = cv2.imdecode(data, cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION) if complete else None
    if pixels is None:
        raise ImageError(f"{codec} image of {width}x{height} pixels is truncated or corrupt ({data.size} bytes)")
    return np.asarray(pixels, np.uint8)


def _check_raw(message: Any) -> None:
    encoding, width, height, step = message.encoding, int(message.width), int(message.height), int(message.step)
    if encoding not in _ENCODINGS:
        raise ImageError(f"image encoding '{encoding}' is not supported; there are: {', '.join(_ENCODINGS)}")
    if width < 1 or height < 1 or width * height > MAX_PIXELS:
        raise ImageError(f"image of {width}x{height} pixels, expected at least 1x1 and at most {MAX_PIXELS} in all")
    # A Bayer pattern repeats every 2x2 pixels, and two pixels of 4:2:2 share their colour.
    if (encoding.startswith("bayer") and (width % 2 or height % 2)) or (encoding in _YUV and width % 2):
        raise ImageError(f"image encoding '{encoding}' needs an even size, got {width}x{height}")
    row = width * _ENCODINGS[encoding][0]
    if step < row:
        raise ImageError(f"image step is {step} bytes, a row of {width} {encoding} pixels has {row}")
    if len(message.data) != step * height:
        raise ImageError(
            f"image has {len(message.data)} bytes of data, expected step * height = {step} * {height} = {step * height}"
        )


def _stored_encoding(text: str) -> str:
    """The encoding that a CompressedImage's `format` says was given to the encoder, or empty."""
    if _DEPTH.search(text):
        raise ImageError(f"compressed image format '{text}' is not supported; expected jpeg or png, no depth image")
    match = _STORED.search(text)
    stored = match[1] if match else ""
    raw = stored or text.partition(";")[0]  # what the encoder was given, where nothing says that it was converted
    is_png = "png" in text.lower()
    if _DEEP.search(raw if is_png else stored) or raw.lower().startswith("bayer"):
        raise ImageError(f"compressed image format '{text}' holds '{raw}' pixels; expected rgb8, bgr8 or mono8")
    return stored


def _jpeg_size(data: bytes) -> int:
    """Bytes of a JPEG up to its end marker, which cameras and phones append to; 0 if it has no end.

    The markers are followed from the start, because a preview in the application data has an end marker of its own.
    """
    position = len(_JPEG)
    while position + 4 <= len(data) and data[position] == 0xFF:
        marker = data[position + 1]
        if marker == 0xFF:  # fill
            position += 1
            continue
        if marker == _END:
            return position + 2
        position += 2 + int.from_bytes(data[position + 2 : position + 4], "big")
        if marker != _SCAN:
            continue
        found = _MARKER.search(data, position)
        if found is None:
            return 0
        position, marker = found.start(), data[found.start() + 1]
        if marker == _END:
            return position + 2
        if marker not in _BETWEEN_SCANS:  # the start of the next picture, or damage
            return 0
    return 0


def _is_whole_png(data: Pixels) -> bool:
    """Whether the last chunk of a PNG is there."""
    position, content = len(_PNG), data.tobytes()
    while position + 12 <= len(content):
        kind = content[position + 4 : position + 8]
        position += 12 + int.from_bytes(content[position : position + 4], "big")
        if kind == b"IEND":
            return position <= len(content)
    return False


def _header(data: Pixels) -> tuple[str, tuple[int, int]]:
    """Codec and (width, height), from the file's header alone."""
    try:
        with Image.open(io.BytesIO(data.data), formats=("JPEG", "PNG")) as image:
            codec, mode, size = str(image.format), image.mode, image.size
    except (PIL.UnidentifiedImageError, Image.DecompressionBombError, OSError, ValueError, SyntaxError) as error:
        raise ImageError(f"compressed image is neither JPEG nor PNG ({data.size} bytes): {error}") from None
    if mode not in ("RGB", "RGBA", "L"):
        raise ImageError(f"{codec} image holds {mode} pixels; expected 8-bit colour or grey")
    return codec, size

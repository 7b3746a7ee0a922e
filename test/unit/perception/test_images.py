"""Decoding of camera images, and the images that are refused."""

from types import SimpleNamespace

import cv2
import numpy as np
import pytest
from rosbags.typesys import Stores, get_typestore
from sensor_msgs.msg import CompressedImage, Image

from sqap_vla_ros.perception import images
from sqap_vla_ros.perception.images import ImageError, check, decode

RED, GREEN, BLUE = (200, 10, 20), (10, 210, 30), (30, 20, 220)
# 2 x 4 pixels, all different enough to tell channels, rows and columns apart
PICTURE = np.array([[RED, GREEN, BLUE, RED], [BLUE, BLUE, GREEN, (1, 2, 3)]], np.uint8)


def image(encoding, pixels, **changes):
    height, width = pixels.shape[:2]
    data = np.ascontiguousarray(pixels).reshape(-1)
    fields = {"encoding": encoding, "height": height, "width": width, "step": data.size // height, "data": data}
    return SimpleNamespace(**fields | {"is_bigendian": 0} | changes)


def compressed(extension, pixels=PICTURE, format=None):
    data = cv2.imencode(extension, pixels[..., ::-1] if pixels.ndim == 3 else pixels)[1].reshape(-1)
    return SimpleNamespace(format=format or extension[1:], data=data)


def with_alpha(pixels):
    return np.concatenate((pixels, np.full((*pixels.shape[:2], 1), 77, np.uint8)), axis=-1)


@pytest.mark.parametrize(
    "encoding, stored",
    [
        ("rgb8", PICTURE),
        ("bgr8", PICTURE[..., ::-1]),
        ("8UC3", PICTURE[..., ::-1]),
        ("rgba8", with_alpha(PICTURE)),
        ("bgra8", with_alpha(PICTURE[..., ::-1])),
    ],
)
def test_colours_come_out_as_rgb(encoding, stored):
    np.testing.assert_array_equal(decode(image(encoding, stored)), PICTURE)


def test_mono8_becomes_grey():
    grey = np.array([[0, 100], [200, 255]], np.uint8)
    np.testing.assert_array_equal(decode(image("mono8", grey)), np.repeat(grey[..., None], 3, axis=-1))


@pytest.mark.parametrize(
    "encoding, cell",
    [("bayer_rggb8", "RGGB"), ("bayer_bggr8", "BGGR"), ("bayer_gbrg8", "GBRG"), ("bayer_grbg8", "GRBG")],
)
@pytest.mark.parametrize("colour", [(240, 0, 0), (0, 240, 0), (0, 0, 240), (50, 100, 150)])
def test_an_even_colour_survives_a_bayer_pattern(encoding, cell, colour):
    values = dict(zip("RGB", colour, strict=True))
    pattern = np.array([values[letter] for letter in cell], np.uint8).reshape(2, 2)
    decoded = decode(image(encoding, np.tile(pattern, (8, 8))))
    np.testing.assert_array_equal(decoded, np.broadcast_to(colour, (16, 16, 3)))


@pytest.mark.parametrize("encoding", ["yuv422", "uyvy", "yuv422_yuy2", "yuyv"])
@pytest.mark.parametrize("colour", [(240, 20, 20), (20, 240, 20), (20, 20, 240), (120, 120, 120)])
def test_an_even_colour_survives_yuv422(encoding, colour):
    # ITU-R BT.601, limited range
    r, g, b = np.array(colour) / 255
    y = 16 + 65.481 * r + 128.553 * g + 24.966 * b
    u = 128 - 37.797 * r - 74.203 * g + 112 * b
    v = 128 + 112 * r - 93.786 * g - 18.214 * b
    pair = (u, y, v, y) if encoding in ("yuv422", "uyvy") else (y, u, y, v)
    stored = np.tile(np.round(pair).astype(np.uint8), (2, 2)).reshape(2, 4, 2)
    assert abs(decode(image(encoding, stored)).astype(int) - colour).max() <= 4


@pytest.mark.parametrize("encoding, stored", [("rgb8", PICTURE), ("bgr8", PICTURE[..., ::-1])])
def test_padding_at_the_end_of_rows_is_skipped(encoding, stored):
    padded = np.full((2, 17), 99, np.uint8)
    padded[:, :12] = stored.reshape(2, 12)
    message = image(encoding, PICTURE, step=17, data=padded.reshape(-1))
    np.testing.assert_array_equal(decode(message), PICTURE)


def test_byte_order_does_not_matter_for_bytes():
    np.testing.assert_array_equal(decode(image("rgb8", PICTURE, is_bigendian=1)), PICTURE)


def test_an_image_that_is_rgb_is_not_copied_and_cannot_be_written_to():
    message = image("rgb8", PICTURE.copy())
    decoded = decode(message)
    assert np.shares_memory(decoded, message.data)
    with pytest.raises(ValueError, match="read-only"):
        decoded[0, 0] = 0


def test_a_converted_image_has_memory_of_its_own():
    message = image("bgr8", PICTURE.copy())
    assert not np.shares_memory(decode(message), message.data)


def test_messages_of_rclpy_and_rosbags_decode_alike():
    live = Image(encoding="rgb8", height=2, width=4, step=12, data=PICTURE.tobytes())
    store = get_typestore(Stores.ROS2_JAZZY)
    kind = store.types["sensor_msgs/msg/Image"]
    time = store.types["builtin_interfaces/msg/Time"](sec=1, nanosec=2)
    header = store.types["std_msgs/msg/Header"](stamp=time, frame_id="camera")
    recorded = kind(header, 2, 4, "rgb8", 0, 12, PICTURE.reshape(-1))
    recorded = store.deserialize_cdr(store.serialize_cdr(recorded, kind.__msgtype__), kind.__msgtype__)
    np.testing.assert_array_equal(decode(live), PICTURE)
    np.testing.assert_array_equal(decode(recorded), PICTURE)


@pytest.mark.parametrize("encoding", ["16UC1", "32FC1", "mono16", "rgb16", "8UC1", "nv21", "RGB8", ""])
def test_another_encoding_is_refused_with_its_name_and_what_there_is(encoding):
    with pytest.raises(ImageError, match=f"'{encoding}' is not supported; there are: rgb8, bgr8"):
        decode(image(encoding, PICTURE))


@pytest.mark.parametrize(
    "changes, sentence",
    [
        ({"data": PICTURE.reshape(-1)[:-1]}, "23 bytes of data, expected step \\* height = 12 \\* 2 = 24"),
        ({"data": PICTURE.reshape(-1)[:0]}, "0 bytes of data"),
        ({"step": 11}, "step is 11 bytes, a row of 4 rgb8 pixels has 12"),
        ({"height": 3}, "expected step \\* height = 12 \\* 3"),
        ({"width": 0}, "0x2 pixels"),
        ({"height": 0}, "4x0 pixels"),
        ({"width": 2**31, "height": 2**31}, "at most 67108864"),
        ({"encoding": "bayer_rggb8", "width": 3, "height": 8, "step": 3}, "needs an even size, got 3x8"),
        ({"encoding": "yuyv", "width": 3, "step": 12}, "needs an even size, got 3x2"),
    ],
)
def test_inconsistent_sizes_are_refused_in_words(changes, sentence):
    for function in (check, decode):
        with pytest.raises(ImageError, match=sentence):
            function(image(**{"encoding": "rgb8", "pixels": PICTURE} | changes))


@pytest.mark.parametrize(
    "format", ["png", "rgb8; png compressed bgr8", "bgr8; png compressed bgr8", "bgr8; png compressed"]
)
def test_a_png_decodes_exactly(format):
    np.testing.assert_array_equal(decode(compressed(".png", format=format)), PICTURE)


def test_a_png_whose_channels_were_swapped_by_its_writer_comes_out_as_rgb():
    message = compressed(".png", PICTURE[..., ::-1], format="rgb8; png compressed rgb8")
    np.testing.assert_array_equal(decode(message), PICTURE)


@pytest.mark.parametrize("format", ["jpeg", "jpg", "rgb8; jpeg compressed bgr8", "bayer_rggb8; jpeg compressed bgr8"])
def test_a_jpeg_decodes_closely(format):
    ramp = np.linspace(0, 255, 64, dtype=np.uint8)
    picture = np.stack(np.broadcast_arrays(ramp[:, None], ramp[None, ::-1], np.uint8(90)), axis=-1)
    decoded = decode(compressed(".jpg", picture, format=format))
    assert abs(decoded.astype(int) - picture).mean() < 4


def test_a_grey_jpeg_becomes_rgb():
    decoded = decode(compressed(".jpg", np.full((8, 16), 100, np.uint8), format="mono8; jpeg compressed "))
    np.testing.assert_array_equal(decoded, np.full((8, 16, 3), 100))


def test_a_compressed_message_of_rclpy_decodes():
    message = CompressedImage(format="png", data=compressed(".png").data.tobytes())
    np.testing.assert_array_equal(decode(message), PICTURE)


@pytest.mark.parametrize("padding", [b"", b"\0" * 100])
def test_a_jpeg_may_be_padded_with_zeros(padding):
    message = compressed(".jpg")
    padded = np.frombuffer(message.data.tobytes() + padding, np.uint8)
    assert decode(SimpleNamespace(format="jpeg", data=padded)).shape == PICTURE.shape


@pytest.mark.parametrize(
    "format", ["16UC1; compressedDepth", "16UC1; compressedDepth png", "32FC1; compressedDepth rvl"]
)
def test_another_compressed_format_is_refused_with_its_name(format):
    for function in (check, decode):
        with pytest.raises(ImageError, match=f"format '{format}' is not supported; expected jpeg or png"):
            function(SimpleNamespace(format=format, data=compressed(".png").data))


@pytest.mark.parametrize(
    "format", ["16UC1; png compressed ", "mono16; png compressed mono16", "bayer_rggb8; png compressed"]
)
def test_compressed_pixels_that_are_not_colours_are_refused(format):
    with pytest.raises(ImageError, match="expected rgb8, bgr8 or mono8"):
        decode(compressed(".png", format=format))


@pytest.mark.parametrize("extension", [".jpg", ".png"])
@pytest.mark.parametrize("fraction", [0.5, 0.95])
def test_truncated_compressed_data_is_refused(extension, fraction):
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    message = compressed(extension, noise)
    message.data = message.data[: int(fraction * message.data.size)]
    with pytest.raises(ImageError, match="64x64 pixels is truncated or corrupt"):
        decode(message)


def test_a_16_bit_png_is_refused_whatever_its_format_says():
    with pytest.raises(ImageError, match="I;16 pixels; expected 8-bit colour or grey"):
        decode(compressed(".png", np.full((4, 4), 1000, np.uint16), format="png"))


def test_compressed_data_that_is_no_image_is_refused():
    with pytest.raises(ImageError, match="neither JPEG nor PNG"):
        decode(SimpleNamespace(format="jpeg", data=np.arange(100, dtype=np.uint8)))


def test_a_compressed_image_without_data_is_refused():
    with pytest.raises(ImageError, match="without data"):
        check(SimpleNamespace(format="jpeg", data=np.zeros(0, np.uint8)))


def test_a_small_file_that_unpacks_to_a_huge_image_is_refused(monkeypatch):
    monkeypatch.setattr(images, "MAX_PIXELS", 7)
    with pytest.raises(ImageError, match="compressed image of 4x2 pixels, at most 7"):
        decode(compressed(".png"))

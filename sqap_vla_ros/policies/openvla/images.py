"""From a camera image to the 224 × 224 pixels that an OpenVLA was trained and is evaluated on.

The training data went through JPEG and TensorFlow's Lanczos resize, and training cropped images at random; evaluation
repeats that. Other decoders and resizes are off by about one level in the mean, and by up to 20.
"""

import io
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from sqap_vla_ros.vlm.preprocessing import MODEL_IMAGE_PX

Picture = NDArray[np.uint8]
"""uint8 (height, width, 3), RGB."""

_JPEG_QUALITY = 95
_LOBES = 3
_ONE, _NEAR = np.float32(1), np.float32(1e-3)
# Side of a crop of 90 % of the area.
_CROP_SIDE = np.sqrt(np.float32(0.9))


def as_in_training(image: Picture) -> Picture:
    """JPEG and Lanczos resize, unless the image has its size already: uint8 (224, 224, 3)."""
    if image.shape == (MODEL_IMAGE_PX, MODEL_IMAGE_PX, 3):
        return image
    return to_levels(lanczos(through_jpeg(image)))


def through_jpeg(image: Picture) -> Picture:
    """Encode as JPEG of quality 95 and decode, with the results of TensorFlow's encoder and decoder.

    Raises:
        ImportError: simplejpeg is missing; Pillow cannot decode with the fast DCT.
    """
    import simplejpeg

    file = io.BytesIO()
    Image.fromarray(image).save(file, "JPEG", quality=_JPEG_QUALITY, subsampling="4:2:0")
    return simplejpeg.decode_jpeg(file.getvalue(), "RGB", fastdct=True)


def lanczos(image: Picture, side: int = MODEL_IMAGE_PX) -> NDArray[np.float32]:
    """Lanczos-3 resize with antialiasing, float32 (side, side, 3) in levels, not rounded."""
    shrunk = _shrink(image.astype(np.float32), side)
    return _shrink(shrunk.transpose(1, 0, 2), side).transpose(1, 0, 2)


def _shrink(values: NDArray[np.float32], target: int) -> NDArray[np.float32]:
    """Resize the first axis, tap by tap: the order of the sum decides how the last levels round."""
    weights = _lanczos_weights(len(values), target)
    first = np.argmax(weights != 0, axis=1)
    total = np.zeros((target, *values.shape[1:]), np.float32)
    for tap in range(int((weights != 0).sum(1).max())):
        place = np.minimum(first + tap, len(values) - 1)
        share = np.where(first + tap < len(values), weights[np.arange(target), place], np.float32(0))
        total += share[:, None, None] * values[place]
    return total


def to_levels(values: NDArray[np.float32]) -> Picture:
    """Levels rounded (halves to even) and clipped."""
    return np.clip(np.rint(values), 0, 255).astype(np.uint8)


def center_crop(image: Picture) -> Picture:
    """The middle 90 % of the area, resized to uint8 (224, 224, 3)."""
    return np.clip(cropped(image) * np.float32(255.5), 0, 255).astype(np.uint8)


def cropped(image: Picture) -> NDArray[np.float32]:
    """The middle 90 % of the area, float32 (224, 224, 3) from 0 to 1; bilinear, corners on corners."""
    (top, bottom, down), (left, right, along) = (_samples(size) for size in image.shape[:2])
    values = image.astype(np.float32) * (_ONE / np.float32(255))
    upper, lower = (
        row[:, left] + (row[:, right] - row[:, left]) * along[:, None] for row in (values[top], values[bottom])
    )
    return np.asarray(upper + (lower - upper) * down[:, None, None], np.float32)


def model_image_affine(width: int, height: int, *, mirrored: bool, cropped: bool) -> NDArray[np.float64]:
    """The map from points of a camera image to points of the model image; see `preprocessing.model_image_affine`.

    Args:
        width: Width of the camera image, pixels.
        height: Height of the camera image, pixels.
        mirrored: Whether the image is mirrored left to right.
        cropped: Whether `center_crop` is applied.
    """
    side = MODEL_IMAGE_PX
    scale, shift = np.array([side / width, side / height]), np.zeros(2)
    if mirrored:
        scale[0], shift[0] = -scale[0], side
    if cropped:
        # Sample i lies at pixel first + i · share, and the centre of pixel p is the point p + 0.5.
        share = float(_CROP_SIDE)
        first = (1 - share) / 2 * (side - 1)
        scale, shift = scale / share, (shift - 0.5 - first) / share + 0.5
    return np.array([[scale[0], 0.0, shift[0]], [0.0, scale[1], shift[1]]])


@lru_cache
def _samples(size: int) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float32]]:
    """The pixels before and behind each sample of the crop, int64 (224,), and the second one's share."""
    last = np.float32(size - 1)
    low, high = (_ONE - _CROP_SIDE) / np.float32(2), (_ONE - _CROP_SIDE) / np.float32(2) + _CROP_SIDE
    scale = (high - low) * last / np.float32(MODEL_IMAGE_PX - 1)
    positions = low * last + np.arange(MODEL_IMAGE_PX, dtype=np.float32) * scale
    before = np.floor(positions)
    return before.astype(np.int64), np.ceil(positions).astype(np.int64), positions - before


@lru_cache
def _lanczos_weights(size: int, target: int) -> NDArray[np.float32]:
    """Weights of the source's pixels in each target pixel, float32 (target, size); they sum to 1."""
    # float32 throughout, and in this order: rounding to levels shows the difference.
    pi, lobes = np.float32(np.pi), np.float32(_LOBES)
    ratio = _ONE / (np.float32(target) / np.float32(size))
    centres = (np.arange(target, dtype=np.float32)[:, None] + np.float32(0.5)) * ratio
    shrink = _ONE / max(ratio, _ONE)
    distance = np.abs((np.arange(size, dtype=np.float32) + np.float32(0.5) - centres) * shrink)
    x = np.maximum(distance, _NEAR)
    waves = lobes * _sin(pi * x) * _sin(pi * x / lobes) / (pi * pi * x * x)
    weights = np.where(distance <= _NEAR, _ONE, np.where(distance < lobes, waves, np.float32(0)))
    return np.asarray(weights * (_ONE / np.cumsum(weights, axis=1)[:, -1:]), np.float32)


def _sin(angles: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.sin(angles.astype(np.float64)).astype(np.float32)

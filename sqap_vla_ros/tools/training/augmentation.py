"""Augmentation: pictures are changed in ways that do not change what they show."""

import math

import cv2
import numpy as np
from numpy.typing import NDArray

_SHIFT_PX = 4
_BRIGHTNESS, _CONTRAST, _SATURATION, _HUE_RAD = 25.0, 0.2, 0.3, 0.15
_BLUR_SHARE, _NOISE_SHARE, _NOISE_STD = 0.2, 0.3, 6.0
_GREY = np.full((3, 3), 1 / 3)
# Cross product with the grey axis.
_ABOUT_GREY = np.array([[0, -1, 1], [1, 0, -1], [-1, 1, 0]]) / math.sqrt(3)


def augment(
    image: NDArray[np.uint8], points_px: NDArray[np.float32], rng: np.random.Generator
) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    """Shift, recolour, blur and disturb a picture at random.

    Args:
        image: uint8 (height, width, 3), RGB.
        points_px: float32 (n, 2), u and v of points in it.
        rng: Random generator.

    Returns:
        The picture, of the same size, and the points where they are in it (possibly outside).
    """
    dx, dy = rng.integers(-_SHIFT_PX, _SHIFT_PX + 1, 2)
    move = np.array([[1, 0, dx], [0, 1, dy]], dtype=np.float64)
    size = image.shape[1::-1]
    changed = cv2.warpAffine(image, move, size, flags=cv2.INTER_NEAREST, borderMode=cv2.BORDER_REPLICATE)
    changed = cv2.transform(changed, _colours(rng))
    if rng.random() < _BLUR_SHARE:
        changed = cv2.GaussianBlur(changed, (3, 3), 0)
    if rng.random() < _NOISE_SHARE:
        noise = rng.standard_normal(changed.shape, np.float32) * rng.uniform(0, _NOISE_STD)
        changed = np.clip(np.rint(changed + noise), 0, 255)
    return changed.astype(np.uint8), points_px + np.array([dx, dy], dtype=np.float32)


def _colours(rng: np.random.Generator) -> NDArray[np.float64]:
    """A random change of colours, float64 (3, 4): brightness, contrast, saturation and hue, about mid grey."""
    brightness, contrast, saturation, hue = rng.uniform(-1, 1, 4) * (_BRIGHTNESS, _CONTRAST, _SATURATION, _HUE_RAD)
    turn = _GREY + math.cos(hue) * (np.eye(3) - _GREY) + math.sin(hue) * _ABOUT_GREY
    saturate = _GREY + (1 + saturation) * (np.eye(3) - _GREY)
    colours = (1 + contrast) * saturate @ turn
    # Rows sum to the contrast: mid grey stays where it is, but for the brightness.
    return np.hstack((colours, np.full((3, 1), brightness - contrast * 127.5)))

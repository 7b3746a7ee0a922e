"""Turns a camera image into the model image and the pixel values of the two vision towers.

The resize must be Pillow's: torch's antialiased bicubic on uint8 differs by up to 21 levels.
"""

import math
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

MODEL_IMAGE_PX = 224
# Strips of a picture that are resized at the same time; Pillow releases the interpreter's lock.
_STRIPS = 4
# Side of the crop in the reference's deployment script: 90 % of the area.
_DEPLOY_CROP_PX = int(MODEL_IMAGE_PX * math.sqrt(0.9))

Channels = tuple[float, float, float]


@dataclass(frozen=True)
class ImageStatistics:
    """Mean and standard deviation of the channels, by which pixels (0 to 1) are normalised for each tower."""

    dino_mean: Channels = (0.485, 0.456, 0.406)
    dino_std: Channels = (0.229, 0.224, 0.225)
    siglip_mean: Channels = (0.5, 0.5, 0.5)
    siglip_std: Channels = (0.5, 0.5, 0.5)


COGACT_STATISTICS = ImageStatistics()
"""ImageNet's for DINOv2; 0.5 for SigLIP."""


def resize(image: NDArray[np.uint8], *, deploy_crop: bool = False) -> NDArray[np.uint8]:
    """Resize a camera image to the 224×224 model image.

    Args:
        image: uint8 (height, width, 3), RGB.
        deploy_crop: Whether to crop as the reference's deployment script does, not as its policy does: the centre
            square, then 90 % of its area, both resized with Lanczos. The image must be wider than high. No policy here
            uses it; it is kept for comparison with the reference.

    Returns:
        uint8 (224, 224, 3), RGB. Without the crop the aspect ratio is not kept (bicubic).

    Raises:
        ValueError: The image is not uint8 (height, width, 3), or is to be cropped and not wider than high.
    """
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or 0 in image.shape:
        raise ValueError(f"image is {image.dtype} {image.shape}, expected uint8 (height, width, 3), RGB")
    target = (MODEL_IMAGE_PX, MODEL_IMAGE_PX)
    picture = Image.fromarray(image)
    if not deploy_crop:
        return _in_strips(picture) if _strips_agree(*picture.size) else _whole(picture)
    left, side = _deploy_square(*picture.size)
    square = picture.crop((left, 0, left + side, side)).resize(target, Image.Resampling.LANCZOS)
    margin = (MODEL_IMAGE_PX - _DEPLOY_CROP_PX) // 2
    middle = square.crop((margin, margin, margin + _DEPLOY_CROP_PX, margin + _DEPLOY_CROP_PX))
    return np.array(middle.resize(target, Image.Resampling.LANCZOS))


def _whole(picture: Image.Image) -> NDArray[np.uint8]:
    return np.array(picture.resize((MODEL_IMAGE_PX, MODEL_IMAGE_PX), Image.Resampling.BICUBIC))


def _in_strips(picture: Image.Image) -> NDArray[np.uint8]:
    width, height = picture.size
    rows = MODEL_IMAGE_PX // _STRIPS

    def strip(number: int) -> NDArray[np.uint8]:
        box = (0, height * number / _STRIPS, width, height * (number + 1) / _STRIPS)
        return np.asarray(picture.resize((MODEL_IMAGE_PX, rows), Image.Resampling.BICUBIC, box=box))

    return np.concatenate(list(_strip_threads().map(strip, range(_STRIPS))))


@lru_cache
def _strips_agree(width: int, height: int) -> bool:
    """Whether resizing in strips gives the bytes of resizing the whole; for some sizes rows are rounded differently."""
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8))
    return np.array_equal(_in_strips(noise), _whole(noise))


@lru_cache
def _strip_threads() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(_STRIPS, "resize")


def normalise(model_images: Tensor, statistics: ImageStatistics = COGACT_STATISTICS) -> tuple[Tensor, Tensor]:
    """Normalise model images for both towers.

    Args:
        model_images: uint8 (batch, 224, 224, 3), RGB.
        statistics: The towers' means and deviations.

    Returns:
        float32 (batch, 3, 224, 224) for DINOv2 and for SigLIP.
    """
    pixels = model_images.permute(0, 3, 1, 2).to(torch.float32, memory_format=torch.contiguous_format).div_(255)
    dino_mean, dino_std, siglip_mean, siglip_std = _statistics(statistics, pixels.device)
    return (pixels - dino_mean) / dino_std, (pixels - siglip_mean) / siglip_std


# Cached, because a CUDA graph cannot be captured of a function that copies from the host.
@lru_cache
@torch.inference_mode(False)
def _statistics(statistics: ImageStatistics, device: torch.device) -> tuple[Tensor, ...]:
    """Mean and standard deviation of each tower's channels, float32 (3, 1, 1)."""
    values = statistics.dino_mean, statistics.dino_std, statistics.siglip_mean, statistics.siglip_std
    return tuple(torch.tensor(value, device=device)[:, None, None] for value in values)


def model_image_affine(width: int, height: int, *, deploy_crop: bool = False) -> NDArray[np.float64]:
    """The map from points of the camera image to points of the model image.

    Both use continuous coordinates with the origin at the corner of the image: pixel i covers [i, i+1), and its centre
    is i + 0.5. (A camera matrix has pixel centres at whole numbers: add 0.5 to its u and v first.) The patch of a point
    is the floor of its model coordinates over 14.

    Args:
        width: Width of the camera image, pixels.
        height: Height of the camera image, pixels.
        deploy_crop: See `resize`.

    Returns:
        float64 (2, 3): x_model, y_model = affine @ (x_image, y_image, 1).
    """
    if not deploy_crop:
        return np.array([[MODEL_IMAGE_PX / width, 0.0, 0.0], [0.0, MODEL_IMAGE_PX / height, 0.0]])
    left, side = _deploy_square(width, height)
    margin = (MODEL_IMAGE_PX - _DEPLOY_CROP_PX) // 2
    zoom = MODEL_IMAGE_PX / _DEPLOY_CROP_PX
    scale = zoom * MODEL_IMAGE_PX / side
    return np.array([[scale, 0.0, -scale * left - zoom * margin], [0.0, scale, -zoom * margin]])


def _deploy_square(width: int, height: int) -> tuple[int, int]:
    """Left edge and side of the centre square, pixels."""
    if height >= width:
        raise ValueError(f"image is {width}×{height}: the deployment crop needs one that is wider than high")
    return (width - height) // 2, height

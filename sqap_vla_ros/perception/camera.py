"""Camera model of a sensor_msgs/CameraInfo: it projects points of the optical frame (x right, y down, z forward).

Pixel coordinates are those of the raw image as delivered, after region of interest and binning, with pixel centres at
whole numbers (the convention of ROS and OpenCV): the image covers -0.5 <= u < width - 0.5.
"""

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import cv2
import numpy as np
from numpy.polynomial import Polynomial
from numpy.typing import NDArray

from sqap_vla_ros.core.types import Array

# Numbers of distortion coefficients by model, in OpenCV's order: k1, k2, p1, p2, k3, then k4 to k6 (rational), s1 to s4
# (thin prism) and two angles of a tilted sensor. plumb_bob and rational_polynomial are one formula, of which the former
# uses the first terms; drivers exchange their names. equidistant has k1 to k4.
_POLYNOMIAL, _EQUIDISTANT = (4, 5, 8, 12, 14), (4,)
COEFFICIENTS = {
    "plumb_bob": _POLYNOMIAL,
    "rational_polynomial": _POLYNOMIAL,
    "equidistant": _EQUIDISTANT,
    "fisheye": _EQUIDISTANT,
}
_FISHEYE = ("equidistant", "fisheye")

NEAREST_M = 1e-6


class CameraError(ValueError):
    """A CameraInfo that cannot be used to project; the message says what to do."""


@dataclass(frozen=True)
class CameraModel:
    """Intrinsics of the image as delivered.

    Attributes:
        width: Width of the image, pixels.
        height: Height of the image, pixels.
        K: float64 (3, 3), camera matrix of the image, pixels; K[0, 1] is the skew of its axes.
        distortion_model: `plumb_bob`, `rational_polynomial`, `equidistant`, `fisheye` (the same), or any for none.
        distortion: float64 (n,), coefficients of the distortion model.
    """

    width: int
    height: int
    K: Array
    distortion_model: str
    distortion: Array

    @classmethod
    def from_camera_info(cls, message: Any) -> "CameraModel":
        """Build the model that a sensor_msgs/CameraInfo describes.

        K belongs to the full resolution; region of interest and binning are applied as image_geometry does:
        u = (u_full - roi.x_offset) / binning_x.

        Raises:
            CameraError: The camera is uncalibrated, the message is inconsistent, or its coefficients have no meaning.
        """
        full_width, full_height = int(message.width), int(message.height)
        if full_width <= 0 or full_height <= 0:
            raise CameraError(
                f"CameraInfo gives the image size {full_width}x{full_height}; set width and height to the camera's "
                "full resolution"
            )
        K = _camera_matrix(np.array(message.k, np.float64).reshape(-1))
        model = str(message.distortion_model)
        distortion = _distortion(model, np.array(message.d, np.float64).reshape(-1))

        roi = message.roi
        x, y, width, height = int(roi.x_offset), int(roi.y_offset), int(roi.width), int(roi.height)
        if width == 0 and height == 0:
            x, y, width, height = 0, 0, full_width, full_height
        if min(x, y) < 0 or min(width, height) <= 0 or x + width > full_width or y + height > full_height:
            raise CameraError(
                f"CameraInfo.roi {width}x{height} at ({x}, {y}) must lie in the full resolution "
                f"{full_width}x{full_height}; all zeros mean the whole image"
            )
        binning_x, binning_y = max(int(message.binning_x), 1), max(int(message.binning_y), 1)
        if binning_x > width or binning_y > height:
            raise CameraError(f"CameraInfo bins {binning_x}x{binning_y} pixels of a {width}x{height} image")
        K[0, 2] -= x
        K[1, 2] -= y
        K[0] /= binning_x
        K[1] /= binning_y
        return cls(width // binning_x, height // binning_y, K, model, distortion)

    def project(self, points: Array) -> tuple[Array, NDArray[np.bool_]]:
        """Project points to pixels.

        Args:
            points: float64 (N, 3), in the camera's optical frame, metres.

        Returns:
            float64 (N, 2), pixels (u, v), NaN where invalid, and bool (N,), whether a point is valid: it is in front
            of the camera, and within the radius up to which the distortion polynomial grows (beyond it, points far
            outside the field of view would fold back into the image). A valid pixel may lie off the image.
        """
        points = np.asarray(points, np.float64).reshape(-1, 3)
        depth = points[:, 2]
        with np.errstate(divide="ignore", invalid="ignore"):
            radius = np.hypot(points[:, 0], points[:, 1]) / depth
        limit = _largest_radius(self.distortion_model, tuple(self.distortion.tolist()))
        valid = np.isfinite(points).all(axis=1) & (depth > NEAREST_M) & (radius < limit)
        pixels = np.full((len(points), 2), np.nan)
        if valid.any():
            fisheye = self.distortion_model in _FISHEYE
            project = cv2.fisheye.projectPoints if fisheye else cv2.projectPoints
            zero = np.zeros(3)
            seen = points[valid][:, None, :]
            skew, upright = self.K[0, 1], self.K.copy()
            upright[0, 1] = 0.0  # OpenCV's two projections treat a skew differently
            arguments = (zero, zero, upright, self.distortion)
            pixels[valid] = project(seen, *arguments)[0].reshape(-1, 2)
            if skew:
                pixels[valid, 0] += skew * (pixels[valid, 1] - self.K[1, 2]) / self.K[1, 1]
        return pixels, valid

    def contains(self, pixel: Array) -> bool:
        """Whether a pixel (u, v) lies on the image."""
        u, v = pixel
        return bool(-0.5 <= u < self.width - 0.5 and -0.5 <= v < self.height - 0.5)


def _camera_matrix(k: Array) -> Array:
    if k.size != 9 or not np.isfinite(k).all():
        raise CameraError(f"CameraInfo.k must be 9 finite numbers, got {k.tolist()}")
    if not k.any():
        raise CameraError(
            "CameraInfo.k is all zero: the camera is not calibrated; calibrate it (camera_calibration) and give the "
            "result to its driver"
        )
    K = k.reshape(3, 3).copy()
    if K[0, 0] <= 0 or K[1, 1] <= 0:
        raise CameraError(f"CameraInfo.k must have fx > 0 and fy > 0, got {K[0, 0]:g} and {K[1, 1]:g}; calibrate again")
    if K[1, 0] or (K[2] != (0, 0, 1)).any():
        raise CameraError(f"CameraInfo.k must be (fx skew cx, 0 fy cy, 0 0 1), got {k.tolist()}")
    return K


def _distortion(model: str, coefficients: Array) -> Array:
    """The coefficients that matter, as other consumers of CameraInfo take them: surplus zeros have no meaning."""
    if model not in COEFFICIENTS:
        if not coefficients.any():
            return np.zeros(0)
        raise CameraError(
            f"CameraInfo.distortion_model '{model}' is unknown; there are: {', '.join(COEFFICIENTS)}, and any name "
            "without coefficients, or with nothing but zeros, for an undistorted image"
        )
    counts = COEFFICIENTS[model]
    if not coefficients.size or (coefficients.size not in counts and not coefficients.any()):
        coefficients = np.zeros(counts[0])
    if coefficients.size not in counts:
        used = 1 + int(np.flatnonzero(coefficients)[-1])
        kept = [count for count in counts if used <= count <= coefficients.size]
        if not kept:
            raise CameraError(
                f"CameraInfo.d has {coefficients.size} coefficients, '{model}' takes {', '.join(map(str, counts))}"
            )
        coefficients = coefficients[: kept[0]]
    if not np.isfinite(coefficients).all():
        raise CameraError(f"CameraInfo.d must be finite, got {coefficients.tolist()}")
    try:
        with np.errstate(over="ignore", invalid="ignore"):
            _largest_radius(model, tuple(coefficients.tolist()))
    except np.linalg.LinAlgError:
        raise CameraError(
            f"CameraInfo.d {coefficients.tolist()} is too large to compute with; calibrate again"
        ) from None
    return coefficients


@lru_cache(maxsize=16)
def _largest_radius(model: str, coefficients: tuple[float, ...]) -> float:
    """Distance from the optical axis, at depth one, up to which the distorted radius grows with the true one.

    plumb_bob and rational_polynomial map r to r n(r^2) / d(r^2); with s = r^2 its derivative has the sign of
    (n + 2 s n') d - 2 s n d', up to the first pole. equidistant maps the angle t to t n(t^2). What a thin prism or a
    tilted sensor adds is small, and left out here.
    """
    s = Polynomial([0, 1])
    if not any(coefficients):
        return np.inf
    if model in _FISHEYE:
        n, d = Polynomial([1, *coefficients]), Polynomial([1])
    else:
        k1, k2, _, _, k3, k4, k5, k6 = (*coefficients, 0, 0, 0, 0)[:8]
        n, d = Polynomial([1, k1, k2, k3]), Polynomial([1, k4, k5, k6])
    slope = (n + 2 * s * n.deriv()) * d - 2 * s * n * d.deriv()
    # Both start with 1: reversed, they are monic polynomials in 1 / s, well conditioned however small the others are.
    inverses = np.concatenate([Polynomial(p.coef[::-1]).roots() for p in (slope, d)])
    turns = inverses.real[(abs(inverses.imag) < 1e-9) & (inverses.real > 1e-9)]
    largest = 1 / np.sqrt(turns.max()) if turns.size else np.inf
    if model in _FISHEYE:
        return float(np.tan(largest)) if largest < np.pi / 2 else np.inf
    return float(largest)

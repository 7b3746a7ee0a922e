"""Detection of a frozen camera: identical images with fresh stamps, while the arm moves.

A driver that hangs often repeats its last frame with fresh stamps, which no check of ages notices. Two images of a real
camera are never equal to the last bit, and those of a simulated one differ once an arm has moved in them.
"""

import numpy as np
from numpy.typing import NDArray

# The motion of the tool is the largest of these points in its frame, so that rotations count too [m].
_TOOL_POINTS = np.array([[0, 0, 0, 1], [0.1, 0, 0, 1], [0, 0.1, 0, 1], [0, 0, 0.1, 1]]).T
# A sparse grid of pixels is compared first: images that differ almost always differ there.
_SPARSE = 16


class FrozenCamera:
    """Watches images and tool poses of successive observations.

    Args:
        motion_m: Largest motion of the tool under identical images [m].
    """

    def __init__(self, motion_m: float) -> None:
        self._motion_m = motion_m
        self._image: NDArray[np.uint8] | None = None
        self._T_base_tool = np.eye(4)

    def check(self, image: NDArray[np.uint8], T_base_tool: NDArray[np.float64]) -> str:
        """Compare an image with the last one that differed from its predecessor.

        Args:
            image: uint8 (height, width, 3). It is kept until a different one comes, and must not be written to.
            T_base_tool: float64 (4, 4), the tool pose at its stamp.

        Returns:
            A sentence if the camera is frozen, else empty.
        """
        if self._image is None or not _identical(image, self._image):
            self._image, self._T_base_tool = image, T_base_tool
            return ""
        moved_m = float(np.linalg.norm(((T_base_tool - self._T_base_tool) @ _TOOL_POINTS)[:3], axis=0).max())
        if moved_m <= self._motion_m:
            return ""
        return f"the camera is frozen: its images stay identical while the tool has moved by {moved_m:.3f} m"


def _identical(image: NDArray[np.uint8], other: NDArray[np.uint8]) -> bool:
    if image.shape != other.shape:
        return False
    sparse = np.s_[::_SPARSE, ::_SPARSE]
    return np.array_equal(image[sparse], other[sparse]) and np.array_equal(image, other)

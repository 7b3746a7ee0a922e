"""The cameras besides the first one: which of their images belongs to an observation."""

from collections import deque
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sqap_vla_ros.config.cameras import Camera
from sqap_vla_ros.config.robot import Robot
from sqap_vla_ros.core import clock as stamps
from sqap_vla_ros.core.observation import View
from sqap_vla_ros.perception.calibration import Calibration
from sqap_vla_ros.perception.images import ImageError, decode, stamp_of
from sqap_vla_ros.perception.transform_tree import TransformError, TransformTree

# Images that are kept: those of the time that the first camera's image waits, and of a plan's.
_KEPT = 8


@dataclass(frozen=True)
class _Frame:
    message: Any
    stamp_ns: int


class FurtherCamera:
    """The newest images of one camera.

    Args:
        robot: Frames and largest ages.
        camera: Which one.

    Attributes:
        name: Of the camera.
        topic: Of its images.
        calibration: What CameraInfo says about it.
    """

    def __init__(self, robot: Robot, camera: Camera) -> None:
        self.name = camera.name
        self.calibration = Calibration(robot, camera.camera_info, camera.frame)
        self.topic = camera.image
        self._frames = robot.frames
        self._skew_ns = round(robot.freshness.camera_skew * 1e9)
        self._images: deque[_Frame] = deque(maxlen=_KEPT)

    @property
    def newest_ns(self) -> int | None:
        """Stamp of the newest image; None without one."""
        return self._images[-1].stamp_ns if self._images else None

    def offer(self, message: Any) -> None:
        """Keep an image; it is decoded only if it is used.

        Raises:
            ImageError: Its description is unusable, it has no stamp, or it is older than one before.
        """
        stamp_ns = stamp_of(message)
        if self._images and stamp_ns <= self._images[-1].stamp_ns:
            back_ns = self._images[-1].stamp_ns - stamp_ns
            if back_ns > stamps.STAMP_BACK_NS:
                self._images.clear()  # the clock was set back: the first camera's images say so too
            else:
                raise ImageError(f"image is not newer than the last one ({back_ns * 1e-9:.3f} s older)")
        self._images.append(_Frame(message, stamp_ns))

    def is_out_of_step(self, stamp_ns: int) -> str:
        """Why no image belongs to a moment; empty: one does."""
        nearest = self._nearest(stamp_ns)
        if nearest is None:
            return f"camera {self.name}: no image received on {self.topic}"
        away_ns = nearest.stamp_ns - stamp_ns
        if abs(away_ns) <= self._skew_ns:
            return ""
        side = "older" if away_ns < 0 else "newer"
        return (
            f"camera {self.name}: the nearest image on {self.topic} is {abs(away_ns) * 1e-9:.3f} s {side} than the "
            f"first camera's (freshness.camera_skew is {self._skew_ns * 1e-9:g} s)"
        )

    def view(self, stamp_ns: int, tree: TransformTree) -> View:
        """The image that belongs to a moment.

        Raises:
            ImageError: It cannot be decoded.
        """
        frame = self._nearest(stamp_ns)
        assert frame is not None
        try:
            image = decode(frame.message)
        except ImageError as error:
            raise ImageError(f"camera {self.name}: {error}") from None
        tool_px, reason = self._tool_pixel(frame, image, tree)
        return View(frame.stamp_ns, image, tool_px, reason)

    def reset(self) -> None:
        """Forget all images, as after a jump of the clock."""
        self._images.clear()

    def _nearest(self, stamp_ns: int) -> _Frame | None:
        return min(self._images, key=lambda frame: abs(frame.stamp_ns - stamp_ns), default=None)

    def _tool_pixel(
        self, frame: _Frame, image: NDArray[np.uint8], tree: TransformTree
    ) -> tuple[NDArray[np.float64] | None, str]:
        try:
            T_base_tool = tree.lookup(self._frames.base, self._frames.tool, frame.stamp_ns)
        except TransformError as error:
            return None, str(error)
        return self.calibration.tool_pixel(tree, T_base_tool, image, frame.message.header.frame_id, frame.stamp_ns)

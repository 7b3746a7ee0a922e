"""Where the tool is in the picture of one camera: its calibration, and its place in the transform tree."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from sqap_vla_ros.config.robot import Frames, Robot
from sqap_vla_ros.core import clock as stamps
from sqap_vla_ros.perception.camera import CameraError, CameraModel
from sqap_vla_ros.perception.conventions import tool_policy_transform
from sqap_vla_ros.perception.transform_tree import TransformError, TransformTree


class Calibration:
    """What CameraInfo says about one camera.

    Args:
        robot: Frames, and the largest age of a calibration.
        topic: Topic of the calibration.
        frame: Optical frame of the camera; empty: the frame_id of its images.

    Attributes:
        camera: The camera's model; None without a usable CameraInfo.
    """

    def __init__(self, robot: Robot, topic: str, frame: str) -> None:
        self.camera: CameraModel | None = None
        self._frame = frame
        self._base = robot.frames.base
        self._ring_point = tool_policy_transform(robot.frames) @ (*robot.frames.ring_xyz, 1.0)
        self._largest_age_s = robot.freshness.camera_info
        self._stamp_ns = 0
        self._no_camera_reason = f"no CameraInfo received on {topic}" if topic else "the camera has no CameraInfo topic"

    def set(self, message: Any) -> None:
        """Take a sensor_msgs CameraInfo; an unusable one leaves images without ring, and with the reason."""
        self._stamp_ns = stamps.stamp_ns(message)
        try:
            self.camera = CameraModel.from_camera_info(message)
        except CameraError as error:
            self.camera, self._no_camera_reason = None, str(error)

    def frame_of(self, frame_id: str) -> str:
        """The camera's frame, from that of an image."""
        return self._frame or frame_id

    def tool_pixel(
        self,
        tree: TransformTree,
        T_base_tool: NDArray[np.float64],
        image: NDArray[np.uint8],
        frame_id: str,
        stamp_ns: int,
    ) -> tuple[NDArray[np.float64] | None, str]:
        """Pixel of the centre of the ring, float64 (2,), or None and the reason why there is none.

        Args:
            tree: The transforms.
            T_base_tool: float64 (4, 4), the tool's pose at the stamp.
            image: uint8 (height, width, 3).
            frame_id: Of the image.
            stamp_ns: Of the image.
        """
        pixel = self._project(tree, T_base_tool, image, self.frame_of(frame_id), stamp_ns)
        return (None, pixel) if isinstance(pixel, str) else (pixel, "")

    def _project(
        self, tree: TransformTree, T_base_tool: NDArray[np.float64], image: NDArray[np.uint8], frame: str, stamp_ns: int
    ) -> NDArray[np.float64] | str:
        if self.camera is None:
            return self._no_camera_reason
        older_s = (stamp_ns - self._stamp_ns) * 1e-9
        if self._largest_age_s and older_s > self._largest_age_s:
            return (
                f"the last CameraInfo is {older_s:.2f} s older than the image (freshness.camera_info is "
                f"{self._largest_age_s:g} s; 0 allows any age)"
            )
        height, width = image.shape[:2]
        if (self.camera.width, self.camera.height) != (width, height):
            return (
                f"CameraInfo describes {self.camera.width}x{self.camera.height} images (after region of interest "
                f"and binning), the image is {width}x{height}; calibrate at the image's resolution"
            )
        if not frame:
            return "the image has no frame_id; set frames.camera to the camera's optical frame"
        try:
            T_camera_base = tree.lookup(frame, self._base, stamp_ns)
        except TransformError as error:
            return str(error)
        point_camera = (T_camera_base @ T_base_tool @ self._ring_point)[:3]
        pixels, valid = self.camera.project(point_camera[None])
        if not valid[0]:
            x, y, z = point_camera
            return f"the tool is behind the camera or far out of its view, at ({x:.3f}, {y:.3f}, {z:.3f}) m"
        if not self.camera.contains(pixels[0]):
            u, v = pixels[0]
            return f"the tool is off the image, at pixel ({u:.0f}, {v:.0f}) of {width}x{height}"
        return pixels[0]


def other_camera_frame(frames: Frames, frame_id: str) -> str:
    """That `frames.camera` takes the place of the images' own frame, as a sentence; empty when they are the same."""
    ours, theirs = frames.camera.lstrip("/"), frame_id.lstrip("/")
    if not ours or not theirs or ours == theirs:
        return ""
    return (
        f"the images' frame_id is '{theirs}', frames.camera is '{ours}': the ring is placed by frames.camera; leave it "
        "empty to use the images' own frame"
    )

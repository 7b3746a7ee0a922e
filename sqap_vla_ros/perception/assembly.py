"""Messages become observations: the live node, bag replay and simulation share this module.

The newest image takes the slot. Its transforms usually arrive later, so it waits until the transform tree brackets its
stamp or `freshness.transform_wait` has passed. Images that arrive meanwhile take the slot and are used if their
transforms are there; but the waiting image keeps its turn, or a camera faster than the wait would postpone every image
for ever. Nothing here blocks, starts threads or reads a clock: times are arguments.

After the wait, an observation without camera transform or calibration has no ring, and it carries the reason. Without
tool transform there is no observation: the deltas have no pose to start from, and nothing can be commanded.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sqap_vla_ros.config.robot import Configuration, Frames
from sqap_vla_ros.core import clock as stamps
from sqap_vla_ros.core.observation import Observation
from sqap_vla_ros.core.rejection import Cause, Rejection, Response
from sqap_vla_ros.perception.camera import CameraError, CameraModel
from sqap_vla_ros.perception.conventions import tool_policy_transform
from sqap_vla_ros.perception.images import ImageError, check, decode
from sqap_vla_ros.perception.transform_tree import TransformError, TransformTree

_LEAST_PX = 8  # no camera has fewer: a driver without a picture sends 1x1


@dataclass(frozen=True)
class Waiting:
    """The image waits for its transforms.

    Attributes:
        until_ns: Time at which it is used or rejected without them, on the clock of `arrived_ns`.
        reason: A sentence about the transforms that are missing.
    """

    until_ns: int
    reason: str


@dataclass(frozen=True)
class RejectedImage:
    """The image was taken from the slot and cannot be planned on.

    Attributes:
        stamp_ns: Stamp of the image.
        rejection: The cause, the response and a sentence.
    """

    stamp_ns: int
    rejection: Rejection


@dataclass(frozen=True)
class _Frame:
    message: Any
    stamp_ns: int
    frame_id: str
    arrived_ns: int


class ObservationAssembler:
    """Joins image, calibration, transforms and instruction of one moment.

    Args:
        configuration: Names of frames, and the time that an image waits.

    Attributes:
        tree: The transforms received.
        dropped: Images that a newer one replaced in the slot, or that came later than a newer one.
    """

    def __init__(self, configuration: Configuration) -> None:
        self._frames = configuration.frames
        self._ring_point = tool_policy_transform(configuration.frames) @ (*configuration.frames.ring_xyz, 1.0)
        self._wait_ns = round(configuration.freshness.transform_wait * 1e9)
        self._camera_age_s = configuration.freshness.camera_info
        self._camera: CameraModel | None = None
        self._camera_stamp_ns = 0
        self._no_camera_reason = f"no CameraInfo received on {configuration.topics.camera_info}"
        self._instruction = ""
        self._slot: _Frame | None = None  # the newest image
        self._waiting: _Frame | None = None  # the first that was asked for since the last one was taken
        self._stamps = stamps.JumpDetector(stamps.STAMP_BACK_NS)  # of all images offered
        self._handed_out_ns = 0  # stamp of the last image taken from the slot
        self.tree = TransformTree(max_gap_s=configuration.freshness.transform)
        self.dropped = 0

    def add_transforms(self, message: Any, static: bool = False) -> tuple[str, ...]:
        """Take a tf2_msgs TFMessage from /tf or /tf_static; returns a sentence about each rejected transform."""
        return self.tree.add_message(message, static)

    def set_camera_info(self, message: Any) -> None:
        """Take a sensor_msgs CameraInfo; an unusable one leaves observations without ring, and with the reason."""
        self._camera_stamp_ns = stamps.stamp_ns(message)
        try:
            self._camera = CameraModel.from_camera_info(message)
        except CameraError as error:
            self._camera, self._no_camera_reason = None, str(error)

    @property
    def camera(self) -> CameraModel | None:
        """The camera as its CameraInfo describes it; None without a usable one."""
        return self._camera

    def set_instruction(self, text: str) -> None:
        """Set the instruction of the next observations."""
        self._instruction = text.strip()

    def offer(self, message: Any, arrived_ns: int) -> None:
        """Put an image into the slot; it is decoded only if it is still there when it is taken.

        Args:
            message: sensor_msgs Image or CompressedImage.
            arrived_ns: Time of arrival, on the same clock as the time of `poll`.

        Raises:
            ImageError: Its description is unusable, it has no stamp, it is not newer than one already taken, or its
                stamp shows that the clock was set back (all transforms but the static ones are then forgotten).
        """
        check(message)
        width, height = getattr(message, "width", _LEAST_PX), getattr(message, "height", _LEAST_PX)
        if min(width, height) < _LEAST_PX:
            raise ImageError(
                f"image of {width}x{height} pixels shows nothing; expected {_LEAST_PX}x{_LEAST_PX} or more"
            )
        stamp_ns = stamps.stamp_ns(message)
        if stamp_ns <= 0:
            raise ImageError(f"image stamp is {stamp_ns} ns; the camera driver must stamp its images")
        if jump_ns := self._stamps.jump_ns(stamp_ns):
            back_s = -jump_ns * 1e-9
            self.reset()
            raise ImageError(f"image stamps went back by {back_s:.3f} s: waiting for transforms of the new time")
        if stamp_ns <= self._handed_out_ns:
            back_s = (self._handed_out_ns - stamp_ns) * 1e-9
            raise ImageError(f"image is not newer than the last one used ({back_s:.3f} s older, or the same one again)")
        if self._slot is not None:
            if stamp_ns < self._slot.stamp_ns:
                self.dropped += 1
                return
            self.dropped += self._slot is not self._waiting
        self._slot = _Frame(message, stamp_ns, message.header.frame_id, arrived_ns)

    def poll(self, now_ns: int) -> Observation | Waiting | RejectedImage | None:
        """Take the image from the slot if it is ready.

        Args:
            now_ns: Time, on the same clock as the images' arrival.

        Returns:
            The observation, or the reason why there is none; None without an image. An image that was taken, and older
            ones, are not given again.
        """
        frame = self._slot
        if frame is None:
            return None
        if not self._instruction:
            self._take(frame)
            return _rejected(
                frame, Cause.NO_INSTRUCTION, "instruction is empty; publish one on ~/instruction or set the parameter"
            )
        if missing := self._missing_transform(frame):
            frame = self._waiting = self._waiting or frame
            until_ns = frame.arrived_ns + self._wait_ns
            if now_ns < until_ns and self._missing_transform(frame):
                return Waiting(until_ns, f"waiting for transforms {missing}")
        self._take(frame)
        try:
            T_base_tool = self.tree.lookup(self._frames.base, self._frames.tool, frame.stamp_ns)
            image = decode(frame.message)
        except (TransformError, ImageError) as error:
            cause = Cause.IMAGE_UNUSABLE if isinstance(error, ImageError) else Cause.TRANSFORM_MISSING
            return _rejected(frame, cause, str(error))
        tool = self._project_tool(T_base_tool, self._camera_frame(frame), frame.stamp_ns, image)
        tool_px, reason = (None, tool) if isinstance(tool, str) else (tool, "")
        return Observation(frame.stamp_ns, image, self._instruction, T_base_tool, tool_px, reason)

    def reset(self) -> None:
        """Forget the image and all transforms but the static ones, as after a jump of the clock."""
        self.tree.clear()
        self._slot = self._waiting = None
        self._stamps.forget()
        self._handed_out_ns = 0

    def _take(self, frame: _Frame) -> None:
        self._handed_out_ns = frame.stamp_ns
        if frame is self._slot:
            self.dropped += self._waiting is not None and self._waiting is not frame
            self._slot = None
        self._waiting = None

    def _camera_frame(self, frame: _Frame) -> str:
        return self._frames.camera or frame.frame_id

    def _missing_transform(self, frame: _Frame) -> str:
        """Names of the transform that does not bracket the image's stamp yet; empty if all do."""
        base = self._frames.base
        for name in (self._frames.tool, self._camera_frame(frame)):
            if name and not self.tree.brackets(base, name, frame.stamp_ns):
                return f"'{base}' -> '{name}'"
        return ""

    def _project_tool(
        self, T_base_tool: NDArray[np.float64], camera_frame: str, stamp_ns: int, image: NDArray[np.uint8]
    ) -> NDArray[np.float64] | str:
        """Pixel of the centre of the ring, float64 (2,), or the reason why there is none."""
        if self._camera is None:
            return self._no_camera_reason
        older_s = (stamp_ns - self._camera_stamp_ns) * 1e-9
        if self._camera_age_s and older_s > self._camera_age_s:
            return (
                f"the last CameraInfo is {older_s:.2f} s older than the image (freshness.camera_info is "
                f"{self._camera_age_s:g} s; 0 allows any age)"
            )
        height, width = image.shape[:2]
        if (self._camera.width, self._camera.height) != (width, height):
            return (
                f"CameraInfo describes {self._camera.width}x{self._camera.height} images (after region of interest "
                f"and binning), the image is {width}x{height}; calibrate at the image's resolution"
            )
        if not camera_frame:
            return "the image has no frame_id; set frames.camera to the camera's optical frame"
        try:
            T_camera_base = self.tree.lookup(camera_frame, self._frames.base, stamp_ns)
        except TransformError as error:
            return str(error)
        point_camera = (T_camera_base @ T_base_tool @ self._ring_point)[:3]
        pixels, valid = self._camera.project(point_camera[None])
        if not valid[0]:
            x, y, z = point_camera
            return f"the tool is behind the camera or far out of its view, at ({x:.3f}, {y:.3f}, {z:.3f}) m"
        if not self._camera.contains(pixels[0]):
            u, v = pixels[0]
            return f"the tool is off the image, at pixel ({u:.0f}, {v:.0f}) of {width}x{height}"
        return pixels[0]


def _rejected(frame: _Frame, cause: Cause, sentence: str) -> RejectedImage:
    return RejectedImage(frame.stamp_ns, Rejection(cause, Response.DROP, sentence))


def other_camera_frame(frames: Frames, frame_id: str) -> str:
    """That `frames.camera` takes the place of the images' own frame, as a sentence; empty when they are the same."""
    ours, theirs = frames.camera.lstrip("/"), frame_id.lstrip("/")
    if not ours or not theirs or ours == theirs:
        return ""
    return (
        f"the images' frame_id is '{theirs}', frames.camera is '{ours}': the ring is placed by frames.camera; leave it "
        "empty to use the images' own frame"
    )

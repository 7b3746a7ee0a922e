"""Messages become observations: the live node, bag replay and simulation share this module.

The newest image takes the slot. Its transforms usually arrive later, so it waits until the transform tree brackets its
stamp or `freshness.transform_wait` has passed. Images that arrive meanwhile take the slot and are used if their
transforms are there; but the waiting image keeps its turn, or a camera faster than the wait would postpone every image
for ever. Nothing here blocks, starts threads or reads a clock: times are arguments.

After the wait, an observation without camera transform or calibration has no ring, and it carries the reason. Without
tool transform there is no observation: the deltas have no pose to start from, and nothing can be commanded.

Further cameras and the robot's state, where the policy needs them, belong to the first camera's stamp: an image waits
for them in the same way, and without them there is no observation.
"""

from dataclasses import dataclass
from typing import Any

from sqap_vla_ros.config.robot import Configuration
from sqap_vla_ros.core import clock as stamps
from sqap_vla_ros.core.observation import Observation
from sqap_vla_ros.core.policy import ONE_CAMERA, PolicyNeeds
from sqap_vla_ros.core.rejection import Cause, Rejection, Response
from sqap_vla_ros.perception.calibration import Calibration
from sqap_vla_ros.perception.camera import CameraModel
from sqap_vla_ros.perception.further_camera import FurtherCamera
from sqap_vla_ros.perception.images import ImageError, decode, stamp_of
from sqap_vla_ros.perception.robot_state import RobotState, StateError
from sqap_vla_ros.perception.transform_tree import TransformError, TransformTree


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
        needs: Cameras and state that the policy needs.

    Attributes:
        tree: The transforms received.
        further: The cameras besides the first, by their names.
        state: The robot's state.
        dropped: Images that a newer one replaced in the slot, or that came later than a newer one.
    """

    def __init__(self, configuration: Configuration, needs: PolicyNeeds = ONE_CAMERA) -> None:
        self._frames = configuration.frames
        self._wait_ns = round(configuration.freshness.transform_wait * 1e9)
        first, *others = configuration.cameras[: needs.cameras]
        self._calibration = Calibration(configuration, first.camera_info, first.frame)
        self.further = {camera.name: FurtherCamera(configuration, camera) for camera in others}
        self.state = RobotState(configuration, needs.state)
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
        self._calibration.set(message)

    @property
    def camera(self) -> CameraModel | None:
        """The camera as its CameraInfo describes it; None without a usable one."""
        return self._calibration.camera

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
        stamp_ns = stamp_of(message)
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
        if missing := self._missing(frame):
            frame = self._waiting = self._waiting or frame
            until_ns = frame.arrived_ns + self._wait_ns
            if now_ns < until_ns and self._missing(frame):
                return Waiting(until_ns, f"waiting for {missing}")
        self._take(frame)
        return self._observation(frame)

    def _observation(self, frame: _Frame) -> Observation | RejectedImage:
        at_ns = frame.stamp_ns
        try:
            T_base_tool = self.tree.lookup(self._frames.base, self._frames.tool, at_ns)
            image = decode(frame.message)
            if late := self._out_of_step(at_ns):
                return _rejected(frame, Cause.CAMERA_OUT_OF_STEP, late)
            further = {name: camera.view(at_ns, self.tree) for name, camera in self.further.items()}
            state = self.state.at(at_ns, T_base_tool, self.tree)
        except StateError as error:
            return _rejected(frame, Cause.STATE_MISSING, str(error))
        except (TransformError, ImageError) as error:
            cause = Cause.IMAGE_UNUSABLE if isinstance(error, ImageError) else Cause.TRANSFORM_MISSING
            return _rejected(frame, cause, str(error))
        tool_px, reason = self._calibration.tool_pixel(self.tree, T_base_tool, image, frame.frame_id, at_ns)
        return Observation(at_ns, image, self._instruction, T_base_tool, tool_px, reason, further, state)

    def reset(self) -> None:
        """Forget the image and all transforms but the static ones, as after a jump of the clock."""
        self.tree.clear()
        self.state.reset()
        for camera in self.further.values():
            camera.reset()
        self._slot = self._waiting = None
        self._stamps.forget()
        self._handed_out_ns = 0

    def _take(self, frame: _Frame) -> None:
        self._handed_out_ns = frame.stamp_ns
        if frame is self._slot:
            self.dropped += self._waiting is not None and self._waiting is not frame
            self._slot = None
        self._waiting = None

    def _missing(self, frame: _Frame) -> str:
        """What does not bracket the image's stamp yet, or does not belong to it; empty if all does."""
        base = self._frames.base
        for name in (self._frames.tool, self._calibration.frame_of(frame.frame_id)):
            if name and not self.tree.brackets(base, name, frame.stamp_ns):
                return f"transforms '{base}' -> '{name}'"
        return self._out_of_step(frame.stamp_ns) or self.state.is_waiting(frame.stamp_ns, self.tree)

    def _out_of_step(self, stamp_ns: int) -> str:
        """Which further camera has no image of the moment."""
        return next((late for camera in self.further.values() if (late := camera.is_out_of_step(stamp_ns))), "")


def _rejected(frame: _Frame, cause: Cause, sentence: str) -> RejectedImage:
    return RejectedImage(frame.stamp_ns, Rejection(cause, Response.DROP, sentence))

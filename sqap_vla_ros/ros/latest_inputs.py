# Copyright 2026 The sqap_vla maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""The newest message of each input: what an observation is made of, and what the motion gate asks about."""

import math
from collections import deque
from collections.abc import Sequence
from typing import Any

from sqap_vla_ros.config.robot import Configuration
from sqap_vla_ros.control.commands import JointState
from sqap_vla_ros.control.safety.gate import InputAges
from sqap_vla_ros.control.safety.speed_scaling import SpeedScaling
from sqap_vla_ros.control.tool_space import ToolSpace
from sqap_vla_ros.core.clock import Clock, stamp_ns
from sqap_vla_ros.core.observation import Observation
from sqap_vla_ros.core.policy import ONE_CAMERA, PolicyNeeds
from sqap_vla_ros.core.rejection import Cause, RejectedError, Rejection, Response
from sqap_vla_ros.core.types import Array
from sqap_vla_ros.perception.assembly import ObservationAssembler, RejectedImage
from sqap_vla_ros.perception.camera import CameraModel
from sqap_vla_ros.perception.frozen_camera import FrozenCamera
from sqap_vla_ros.perception.images import ImageError
from sqap_vla_ros.perception.transform_tree import TransformError, TransformTree
from sqap_vla_ros.ros.further_inputs import FurtherInputs
from sqap_vla_ros.ros.statistics import TickStatistics

# With these the robot model is compared with TF: half a second at 1 kHz.
_KEPT_JOINT_STATES = 512
_NOW_AND_THEN = (Cause.IMAGE_UNUSABLE, Cause.CAMERA_OUT_OF_STEP, Cause.STATE_MISSING)


class LatestInputs:
    """
    Receives the messages of the node's subscriptions.

    :param configuration: Topics, frames, ages.
    :param clock: Images wait by its steady time: waiting must end also while a simulated clock stands still.
    :param tool_space: Where the tool itself is commanded; None where joints are.
    :param needs: Cameras and state that the policy needs.

    :ivar speed_scaling: Of the arm's controller.
    :ivar further: The cameras besides the first one, and the state.
    """

    def __init__(
        self,
        configuration: Configuration,
        clock: Clock,
        tool_space: ToolSpace | None,
        needs: PolicyNeeds = ONE_CAMERA,
    ) -> None:
        self.configuration = configuration
        self.needs = needs
        self.instruction = ""
        self.statistics = TickStatistics()
        self.speed_scaling = SpeedScaling(configuration)
        self._clock = clock
        self._tool_space = tool_space
        self._assembler = ObservationAssembler(configuration, needs)
        self.further = FurtherInputs(configuration, self._assembler)
        self._frozen_camera = FrozenCamera(configuration.freshness.frozen_motion)
        self._calibration: tuple[Any, ...] = ()
        self._image_stamp_ns: int | None = None
        self._image_frame = ""
        self._camera_info_stamp_ns: int | None = None
        self._joint_state: JointState | None = None
        self._joint_history: deque[JointState] = deque(maxlen=_KEPT_JOINT_STATES)
        self._measured_tool: tuple[int, Array] | None = None
        self._image_rejection: Rejection | None = None
        self._joint_states_rejection: Rejection | None = None
        self._frozen: Rejection | None = None
        self.set_instruction(configuration.instruction)

    def begin(self) -> None:
        """Begin anew: counts from zero, a camera that is not known to be frozen."""
        self.statistics = TickStatistics()
        self._assembler.dropped = 0
        self._frozen = None
        self._frozen_camera = FrozenCamera(self.configuration.freshness.frozen_motion)
        self.further.begin()

    # Messages

    def offer_image(self, message: Any) -> str:
        """Put an image into the slot; returns why it was rejected, or an empty string."""
        self.statistics.images_received += 1
        try:
            self._assembler.offer(message, self._clock.steady_ns())
            self._image_stamp_ns, self._image_frame = stamp_ns(message), message.header.frame_id
            self._image_rejection = None
            return ""
        except ImageError as error:
            self.statistics.images_refused += 1
            self._image_rejection = Rejection(Cause.IMAGE_UNUSABLE, Response.DROP, str(error))
            return str(error)

    def set_camera_info(self, message: Any) -> bool:
        """Take the camera's calibration; returns whether it differs from the one before."""
        self._camera_info_stamp_ns = stamp_ns(message)
        self._assembler.set_camera_info(message)
        before, roi = self._calibration, message.roi
        self._calibration = (
            *(message.width, message.height, message.distortion_model, tuple(message.d), tuple(message.k)),
            *(message.binning_x, message.binning_y, roi.x_offset, roi.y_offset, roi.width, roi.height),
        )
        return bool(before) and before != self._calibration

    def offer_further_image(self, name: str, message: Any) -> str:
        """Keep the image of another camera; returns why it was rejected, or an empty string."""
        return self.further.offer_image(name, message)

    def set_further_camera_info(self, name: str, message: Any) -> None:
        """Take the calibration of another camera."""
        self._assembler.further[name].calibration.set(message)

    def add_joint_states(self, message: Any) -> None:
        """Take a JointState for the state that the policy needs."""
        self._assembler.state.add(message)

    def add_transforms(self, message: Any, static: bool) -> tuple[str, ...]:
        """Take a TFMessage; returns why transforms of it were rejected, a sentence each."""
        return self._assembler.add_transforms(message, static)

    def take_joint_state(self, state: JointState) -> None:
        """Take the arm's joints."""
        self._joint_state, self._joint_states_rejection = state, None
        self._joint_history.append(state)

    def reject_joint_states(self, reason: str) -> None:
        """Take note why joint states cannot be used; the last good ones count until they are too old."""
        self._joint_states_rejection = Rejection(Cause.JOINT_STATES_UNUSABLE, Response.HOLD, reason)

    def take_speed_scaling(self, factor: float, is_of_broadcaster: bool) -> None:
        """Take what the arm's controller, or UR's broadcaster, says about its speed, as a share of full speed."""
        self.speed_scaling.take(self._clock.now_ns(), factor, is_of_broadcaster)

    def measure_tool(self) -> None:
        """Let the tool's newest transform take the place of joint states, where the tool itself is commanded."""
        frames, tree = self.configuration.frames, self._assembler.tree
        at_ns = tree.latest_ns(frames.base, frames.tool)
        last = self._joint_state
        if self._tool_space is None or at_ns is None or (last is not None and at_ns <= last.stamp_ns):
            return
        try:
            T_base_tool = tree.lookup(frames.base, frames.tool, at_ns)
        except TransformError:  # before the first transform of an edge, or in a gap of it: not known yet
            return
        self._measured_tool = at_ns, T_base_tool
        near = None if last is None else last.positions
        positions = self._tool_space.coordinates(T_base_tool, near)
        self._joint_state = JointState.following(last, positions, at_ns)

    def set_instruction(self, text: str) -> bool:
        """Observe for another instruction from now on; returns whether it differs from the one before."""
        text = text.strip()
        if text == self.instruction:
            return False
        self.instruction = text
        self._assembler.set_instruction(text)
        return True

    def forget_time(self) -> None:
        """Forget all that has a stamp: the clock was set."""
        self._assembler.reset()
        self._joint_state = self._measured_tool = None
        self._joint_history.clear()
        self.speed_scaling.forget_time()

    # What they amount to

    def observe(self, steady_ns: int) -> Observation | None:
        """
        Take the image from the slot, with what belongs to it; None when none is ready.

        :raises RejectedError: The image cannot be planned on.
        """
        outcome = self._assembler.poll(steady_ns)
        if isinstance(outcome, RejectedImage):
            rejection = outcome.rejection
            if rejection.cause is Cause.IMAGE_UNUSABLE:
                self.statistics.images_refused += 1
                self._image_rejection = rejection
            # Cameras send a broken frame now and then, or a late one; from the second on, the arm rests.
            if rejection.cause in _NOW_AND_THEN and self.statistics.rejected_s is not None:
                raise RejectedError(rejection.cause, Response.HOLD, rejection.sentence)
            raise RejectedError(rejection.cause, rejection.response, rejection.sentence)
        if not isinstance(outcome, Observation):
            return None
        frozen = self._frozen_camera.check(outcome.image, outcome.T_base_tool)
        self._frozen = Rejection(Cause.CAMERA_FROZEN, Response.HOLD, frozen) if frozen else None
        if frozen := frozen or self.further.check_frozen(outcome):
            raise RejectedError(Cause.CAMERA_FROZEN, Response.DROP, frozen)
        return outcome

    @property
    def joint_state(self) -> JointState | None:
        """Return the arm's joints as measured last."""
        return self._joint_state

    @property
    def joint_history(self) -> Sequence[JointState]:
        """Return the arm's joints as measured lately, the oldest first."""
        return self._joint_history

    @property
    def tree(self) -> TransformTree:
        """Return the transforms received."""
        return self._assembler.tree

    @property
    def measured_tool(self) -> tuple[int, Array] | None:
        """Stamp and T_base_tool float64 (4, 4) of the last known tool pose, where the tool itself is commanded."""
        return self._measured_tool

    @property
    def image_rejection(self) -> Rejection | None:
        """Why the last image could not be used; None when it could."""
        return self._image_rejection

    @property
    def joint_states_rejection(self) -> Rejection | None:
        """Why the last joint states could not be used; None when they could."""
        return self._joint_states_rejection

    @property
    def frozen(self) -> Rejection | None:
        """Say that the camera has frozen; None when it has not, as far as one can tell."""
        return self._frozen

    @property
    def images_dropped(self) -> int:
        """Images that a newer one replaced before they were planned on."""
        return self._assembler.dropped

    @property
    def camera(self) -> CameraModel | None:
        """Return the camera's model; None without a usable CameraInfo."""
        return self._assembler.camera

    @property
    def camera_frame(self) -> str:
        """Frame of the camera: the setting, or else the images' frame_id."""
        return self.configuration.frames.camera or self._image_frame

    def T_camera_base(self, at_ns: int) -> Array | None:  # noqa: N802
        """Pose of the base in the camera's frame at a moment, float64 (4, 4); None when it is not known."""
        try:
            return self._assembler.tree.lookup(self.camera_frame, self.configuration.frames.base, at_ns)
        except TransformError:  # forgotten meanwhile: a plan can take longer than transforms are kept
            return None

    def ages_s(self, now_ns: int) -> InputAges:
        """How old the inputs are."""

        def age(at_ns: int | None) -> float:
            return math.nan if at_ns is None else (now_ns - at_ns) * 1e-9

        frames = self.configuration.frames
        return InputAges(
            image=age(self._image_stamp_ns),
            camera_info=age(self._camera_info_stamp_ns),
            transform=age(self._assembler.tree.latest_ns(frames.base, frames.tool)),
            joint_states=age(None if self._joint_state is None else self._joint_state.stamp_ns),
        )

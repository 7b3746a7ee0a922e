# Copyright 2026 The sqap_vla maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""The cameras besides the first one, and the state: what the motion gate asks about them."""

from typing import Any

from sqap_vla_ros.config.robot import Configuration
from sqap_vla_ros.core.observation import Observation
from sqap_vla_ros.core.rejection import Cause, Rejection, Response
from sqap_vla_ros.perception.assembly import ObservationAssembler
from sqap_vla_ros.perception.frozen_camera import FrozenCamera
from sqap_vla_ros.perception.images import ImageError


class FurtherInputs:
    """
    What a policy of several cameras or with a state needs beyond the first camera.

    :param configuration: Largest ages.
    :param assembler: Has the cameras and the state.
    """

    def __init__(self, configuration: Configuration, assembler: ObservationAssembler) -> None:
        self._freshness = configuration.freshness
        self._cameras = assembler.further
        self._state = assembler.state
        self._rejections: dict[str, str] = {}
        self._frozen = ""
        self.begin()

    def begin(self) -> None:
        """Begin anew: no camera is known to be frozen."""
        self._frozen = ""
        self._detectors = {name: FrozenCamera(self._freshness.frozen_motion) for name in self._cameras}

    def offer_image(self, name: str, message: Any) -> str:
        """Keep an image; returns why it was rejected, or an empty string."""
        try:
            self._cameras[name].offer(message)
        except ImageError as error:
            self._rejections[name] = str(error)
            return f"camera {name}: {error}"
        self._rejections.pop(name, None)
        return ""

    def check_frozen(self, observation: Observation) -> str:
        """Compare the images with those before; returns a sentence if a camera is frozen, else empty."""
        found = (
            (name, self._detectors[name].check(view.image, observation.T_base_tool))
            for name, view in observation.further.items()
        )
        self._frozen = next((f"camera {name}: {frozen}" for name, frozen in list(found) if frozen), "")
        return self._frozen

    def rejection(self, now_ns: int) -> Rejection | None:
        """Why the arm must be at rest; None: all is there, as far as one can tell."""
        lost = next(filter(None, (self._lost(name, now_ns) for name in self._cameras)), "")
        if lost:
            return Rejection(Cause.CAMERA_LOST, Response.HOLD, lost)
        if unmeasured := self._state.unmeasured(now_ns):
            return Rejection(Cause.STATE_MISSING, Response.HOLD, unmeasured)
        return Rejection(Cause.CAMERA_FROZEN, Response.HOLD, self._frozen) if self._frozen else None

    def _lost(self, name: str, now_ns: int) -> str:
        camera, limit_s = self._cameras[name], self._freshness.image
        rejected = f"; the last one was rejected: {self._rejections[name]}" if name in self._rejections else ""
        if camera.newest_ns is None:
            return f"camera {name}: no image received on {camera.topic}{rejected}"
        age_s = (now_ns - camera.newest_ns) * 1e-9
        if age_s <= limit_s:
            return ""
        return f"camera {name}: the last image on {camera.topic} is {age_s:.3f} s old (limit {limit_s:g} s){rejected}"

"""Whether the arm may move at all: what is asked before any single command is looked at.

An input that is missing or stale, a frozen camera, a switch that nobody holds, a controller that does not listen: the
arm ramps to rest, and goes on when the cause is gone. A stop, by a person or the guard, lasts until somebody resumes.
"""

import math
import time
from dataclasses import dataclass

from sqap_vla_ros.config.robot import Configuration

# Stamps may be ahead of the clock by this much: the clocks of two machines differ.
FUTURE_S = 0.1


@dataclass(frozen=True)
class InputAges:
    """Seconds since the stamp of each input; NaN: none received."""

    image: float
    camera_info: float
    transform: float
    joint_states: float


class Interlock:
    """The reasons why the arm may not move, in words.

    Args:
        configuration: Topics and largest ages.

    Attributes:
        stopped: Why it was stopped, until somebody resumes; empty: it was not.
        frozen: That the camera has frozen; empty: as far as one can tell it has not.
        unheard: Why commands reach no controller; empty: they do.
        image_refusal: Why the last image could not be used; empty: it could.
        joint_states_refusal: Why the last joint states could not be used; empty: they could.
        incompatible: Which publishers do not reach the node; empty: none.
    """

    def __init__(self, configuration: Configuration) -> None:
        self._configuration = configuration
        self._enabled_s: float | None = None
        self.stopped = ""
        self.frozen = ""
        self.unheard = ""
        self.image_refusal = ""
        self.joint_states_refusal = ""
        self.incompatible = ""

    def enable(self, pressed: bool) -> None:
        """A message of the enabling switch."""
        self._enabled_s = time.monotonic() if pressed else None

    def waiting_for(self, ages: InputAges) -> str:
        """What keeps the arm from moving, besides a stop; empty: nothing."""
        return self._stale(ages) or self.frozen or self._disabled() or self.unheard

    def _stale(self, ages: InputAges) -> str:
        topics, frames = self._configuration.topics, self._configuration.frames
        limits = self._configuration.freshness
        for name, age_s, limit_s, refusal in (
            (f"image on {topics.image}", ages.image, limits.image, self.image_refusal),
            (f"transform {frames.base} -> {frames.tool}", ages.transform, limits.transform, ""),
            (
                f"joint state on {topics.joint_states}",
                ages.joint_states,
                limits.joint_states,
                self.joint_states_refusal,
            ),
        ):
            more = f"; the last one was refused: {refusal}" if refusal else ""
            if math.isnan(age_s):
                return f"no {name} received yet{more}"
            if age_s < -FUTURE_S:
                return f"the last {name} is stamped {-age_s:.2f} s in the future: are the clocks synchronised?{more}"
            if age_s > limit_s:
                return f"the last {name} is {age_s:.2f} s old (limit {limit_s:g} s){more}"
        return ""

    def _disabled(self) -> str:
        topic, limit_s = self._configuration.topics.enable, self._configuration.freshness.enable
        if not topic or (self._enabled_s is not None and time.monotonic() - self._enabled_s <= limit_s):
            return ""
        return f"not enabled: the arm moves while {topic} is true, said at least every {limit_s:g} s"

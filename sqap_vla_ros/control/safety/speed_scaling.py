"""The speed scaling of the arm's controller: what it is, and whether one can plan for it."""

import math

from sqap_vla_ros.config.robot import Configuration
from sqap_vla_ros.control.controller_time import LARGEST, SMALLEST, ControllerTime
from sqap_vla_ros.core.rejection import Cause, Rejection, Response


class SpeedScaling:
    """Takes the factors that are reported.

    There are two who may report one. UR's broadcaster counts where it is heard: UR's controller on Jazzy inherits the
    state message of the joint_trajectory_controller without its factor, which stays at one.

    Args:
        configuration: The topic, and how old a report may be.

    Attributes:
        time: Of the controller.
    """

    def __init__(self, configuration: Configuration) -> None:
        self.time = ControllerTime()
        self._topic = "" if configuration.command.moves_tool else configuration.topics.speed_scaling
        self._largest_age_s = configuration.freshness.speed_scaling
        self._has_broadcaster = bool(self._topic)
        self._factor: float | None = None
        self._reported_ns = 0
        # An arm with a slider: the factor may change at any moment, before anybody can tell.
        self.time.is_scaled = bool(self._topic)

    def take(self, now_ns: int, factor: float, is_of_broadcaster: bool) -> None:
        """Take a report.

        Args:
            now_ns: ROS clock.
            factor: Share of full speed.
            is_of_broadcaster: Whether it is of UR's broadcaster, or else of the controller itself.
        """
        if self._has_broadcaster and not is_of_broadcaster:
            return
        self._has_broadcaster = is_of_broadcaster
        self.time.is_scaled = self.time.is_scaled or is_of_broadcaster
        self._factor, self._reported_ns = factor, now_ns
        self.time.report(now_ns, factor)

    def forget_time(self) -> None:
        """The clock was set."""
        self._factor = None
        self.time.forget()

    def rejection(self, now_ns: int) -> Rejection | None:
        """Why no motion can be planned in the controller's time; None when one can."""
        if self._factor is None:
            if not self._topic:
                return None
            sentence = f"no speed scaling on {self._topic} yet: is its broadcaster active?"
            return Rejection(Cause.SPEED_SCALING_UNKNOWN, Response.HOLD, sentence)
        age_s = (now_ns - self._reported_ns) * 1e-9
        if age_s > self._largest_age_s:
            if not self.time.is_scaled:  # it has gone, and its speed was never scaled
                return None
            sentence = f"the last speed scaling is {age_s:.3f} s old (limit {self._largest_age_s:g} s)"
            return Rejection(Cause.SPEED_SCALING_UNKNOWN, Response.HOLD, sentence)
        if math.isfinite(self._factor) and SMALLEST <= self._factor <= LARGEST:
            return None
        sentence = f"the controller's speed scaling is {100 * self._factor:g} %; "
        if self._factor < SMALLEST:
            sentence += "it is paused: raise the speed, or start its program"
        else:
            sentence += "above 100 % the arm would exceed its limits"
        return Rejection(Cause.SPEED_SCALING_UNUSABLE, Response.HOLD, sentence)

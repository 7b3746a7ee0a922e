"""The robot's state as numbers, for policies that are told it: tool pose and gripper, or joint positions.

Joint states may come in parts, from several publishers; each joint is interpolated at the image's stamp.
"""

from bisect import bisect_left
from collections import deque
from collections.abc import Iterable
from typing import Any

import numpy as np

from sqap_vla_ros.config.cameras import StateConvention
from sqap_vla_ros.config.robot import Robot
from sqap_vla_ros.core import clock as stamps
from sqap_vla_ros.core.policy import StateKind
from sqap_vla_ros.core.types import Array
from sqap_vla_ros.perception.transform_tree import TransformTree
from sqap_vla_ros.perception.transforms import quaternion_from_matrix, rotation_from_rpy, transform_from

# Measurements of a joint that are kept: a second of them at 500 Hz.
_KEPT = 512


class StateError(ValueError):
    """The state at a moment is not known; the message says what is missing."""


class RobotState:
    """Measured joints, and the state that they and the transforms amount to.

    Args:
        robot: Frames, and what the numbers of the state are.
        kind: What the policy needs.
    """

    def __init__(self, robot: Robot, kind: StateKind) -> None:
        self._kind = kind
        self._convention: StateConvention = robot.state
        self._topic = robot.topics.joint_states
        self._base, self._tool = robot.frames.base, robot.frames.tool
        self._largest_age_ns = round(robot.freshness.joint_states * 1e9)
        joints = robot.state.joints if kind != "none" else ()
        self._history: dict[str, deque[tuple[int, float]]] = {joint: deque(maxlen=_KEPT) for joint in joints}
        self._T_tool_state = transform_from(robot.state.xyz, rotation_from_rpy(robot.state.rpy))
        self._near = np.array(quaternion_from_matrix(rotation_from_rpy(robot.state.near_rpy)))

    @property
    def needs_joints(self) -> bool:
        """Whether joint states are part of it."""
        return bool(self._history)

    def add(self, message: Any) -> None:
        """Take a sensor_msgs JointState; positions that are not finite, or older than the last ones, are ignored."""
        at_ns = stamps.stamp_ns(message)
        for joint, position in zip(message.name, message.position, strict=False):
            history = self._history.get(joint)
            if history is None or not np.isfinite(position):
                continue
            if history and at_ns <= history[-1][0]:
                if history[-1][0] - at_ns <= stamps.STAMP_BACK_NS:
                    continue
                history.clear()
            history.append((at_ns, float(position)))

    def reset(self) -> None:
        """Forget what was measured, as after a jump of the clock."""
        for history in self._history.values():
            history.clear()

    def unmeasured(self, now_ns: int) -> str:
        """Which joint was not measured lately; empty: all were."""
        for joint, history in self._history.items():
            if not history:
                return f"no position of state joint {joint} received on {self._topic}"
            if (age_ns := now_ns - history[-1][0]) > self._largest_age_ns:
                limit_s = self._largest_age_ns * 1e-9
                return f"the last position of state joint {joint} is {age_ns * 1e-9:.3f} s old (limit {limit_s:g} s)"
        return ""

    def is_waiting(self, stamp_ns: int, tree: TransformTree) -> str:
        """What does not bracket a moment yet; empty: all does."""
        late = [joint for joint, history in self._history.items() if not history or history[-1][0] < stamp_ns]
        if late:
            return f"joints {', '.join(late)}"
        frame = self._convention.frame
        if self._kind == "tool" and frame and not tree.brackets(frame, self._base, stamp_ns):
            return f"'{frame}' -> '{self._base}'"
        return ""

    def at(self, stamp_ns: int, T_base_tool: Array, tree: TransformTree) -> Array | None:
        """The state at a moment, float64 (numbers,); None where the policy needs none.

        Args:
            stamp_ns: The moment, ROS clock.
            T_base_tool: float64 (4, 4), the tool's pose then.
            tree: The transforms.

        Raises:
            StateError: A joint was not measured near enough to it.
            TransformError: The frame of the state is not known.
        """
        if self._kind == "none":
            return None
        joints = self._joints_at(stamp_ns)
        if self._kind == "joints":
            return joints
        frame = self._convention.frame
        T_frame_base = tree.lookup(frame, self._base, stamp_ns) if frame else np.eye(4)
        T_frame_state = T_frame_base @ T_base_tool @ self._T_tool_state
        quaternion = np.array(quaternion_from_matrix(T_frame_state))
        if quaternion @ self._near < 0:
            quaternion = -quaternion
        return np.concatenate((T_frame_state[:3, 3], axis_angle(quaternion), joints))

    def _joints_at(self, stamp_ns: int) -> Array:
        positions = np.array([self._joint_at(joint, stamp_ns) for joint in self._history])
        offsets, factors = self._convention.offsets, self._convention.factors
        moved = positions + offsets if offsets else positions
        return moved * factors if factors else moved

    def _joint_at(self, joint: str, stamp_ns: int) -> float:
        """Between two measurements; the nearest one at the ends."""
        history = self._history[joint]
        if not history:
            raise StateError(f"no position of state joint {joint} received on {self._topic}")
        times = [at_ns for at_ns, _ in history]
        index = bisect_left(times, stamp_ns)
        nearest_ns = min(abs(times[place] - stamp_ns) for place in _around(index, len(times)))
        if nearest_ns > self._largest_age_ns:
            raise StateError(
                f"the nearest position of state joint {joint} on {self._topic} is {nearest_ns * 1e-9:.3f} s away from "
                f"the image (freshness.joint_states is {self._largest_age_ns * 1e-9:g} s)"
            )
        origin = times[0]
        return float(np.interp(stamp_ns - origin, np.array(times) - origin, [position for _, position in history]))


def _around(index: int, count: int) -> Iterable[int]:
    return {min(max(place, 0), count - 1) for place in (index - 1, index)}


def axis_angle(quaternion: Array) -> Array:
    """Rotation vector of a quaternion, whose sign is kept.

    One with w < 0 gives an angle between pi and two pi: the same orientation has two vectors, and LIBERO's data hold
    either.

    Args:
        quaternion: float64 (..., 4), x, y, z, w, of unit length.

    Returns:
        float64 (..., 3), radians; zero where w is exactly ±1.
    """
    w = np.clip(quaternion[..., 3:], -1, 1)
    length = np.sqrt(1 - w * w)
    still = length == 0
    vector = quaternion[..., :3] * 2 * np.arccos(w) / np.where(still, 1, length)
    return np.where(still, 0.0, vector)

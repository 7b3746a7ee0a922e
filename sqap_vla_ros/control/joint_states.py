"""The arm's joints out of JointState messages, whoever else publishes on the topic.

Several drivers may publish on one topic: the arm's, the gripper's, or each a part of the arm. A state is complete when
every joint of the arm is known; its stamp is that of the joint that was measured first, so that a part that falls
silent makes it old.
"""

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sqap_vla_ros.control.commands import JointState
from sqap_vla_ros.core.clock import STAMP_BACK_NS, stamp_ns

# A part of the arm that is older than the others by more than this is named [s].
_SILENT_S = 0.1


class JointStates:
    """Puts the states of the arm together.

    Args:
        joints: Joints of the arm, in the order of the states.
        topic: Name of the topic, for sentences.
    """

    def __init__(self, joints: tuple[str, ...], topic: str) -> None:
        self._joints = joints
        self._topic = topic
        self._order: tuple[tuple[str, ...], NDArray[np.int64], NDArray[np.int64]] | None = None
        self._forget()

    def _forget(self) -> None:
        self._positions, self._velocities = np.full((2, len(self._joints)), np.nan)
        self._stamps_ns = np.zeros(len(self._joints), np.int64)

    def add(self, message: Any, last: JointState | None) -> JointState | str | None:
        """Take a sensor_msgs JointState.

        Args:
            message: About all joints of the arm, some, or none.
            last: The state before; None to begin anew, as after a jump of the clock.

        Returns:
            The new state; or a sentence why there is none; or None when the message says nothing new about the arm: it
            is about other joints, came twice or out of order, or another part of the arm is still to come.
        """
        if last is None and np.isfinite(self._positions).all():
            self._forget()
        names, at_ns = tuple(message.name), stamp_ns(message)
        ours, theirs = self._places(names)
        if not len(ours):
            return self._missing(names)
        if len(message.position) != len(names):
            return f"{len(names)} joints with {len(message.position)} positions on {self._topic}"
        if not at_ns:
            return f"joint states on {self._topic} have no stamp; their publisher must stamp them"
        positions = np.asarray(message.position, np.float64)[theirs]
        if not np.isfinite(positions).all():
            bad = [self._joints[place] for place in ours[~np.isfinite(positions)]]
            return f"positions of {', '.join(bad)} are not finite"
        newest_ns = int(self._stamps_ns[ours].max())
        if newest_ns and at_ns < newest_ns - STAMP_BACK_NS:  # the clock was set back
            self._forget()
        elif at_ns <= newest_ns:
            return None
        self._positions[ours], self._stamps_ns[ours] = positions, at_ns
        has_velocities = len(message.velocity) == len(names)
        self._velocities[ours] = np.asarray(message.velocity, np.float64)[theirs] if has_velocities else np.nan
        return self._missing(names) or self._state(last)

    def _state(self, last: JointState | None) -> JointState | str | None:
        oldest_ns, newest_ns = int(self._stamps_ns.min()), int(self._stamps_ns.max())
        if last is None or not 0 <= last.stamp_ns - oldest_ns < STAMP_BACK_NS:
            state = JointState.following(last, self._positions.copy(), oldest_ns)
            # NaN is what broadcasters fill in for what a joint cannot report.
            velocities = np.where(np.isnan(self._velocities), state.velocities, self._velocities)
            return replace(state, velocities=velocities)
        silent_s = (newest_ns - oldest_ns) * 1e-9
        if silent_s <= _SILENT_S:
            return None
        silent = [joint for joint, at_ns in zip(self._joints, self._stamps_ns, strict=True) if at_ns == oldest_ns]
        return f"joint states on {self._topic} are without {', '.join(silent)} for {silent_s:.2f} s"

    def _missing(self, names: tuple[str, ...]) -> str | None:
        """Why there is no state yet; None: every joint is known."""
        missing = [joint for joint, position in zip(self._joints, self._positions, strict=True) if np.isnan(position)]
        if not missing:
            return None
        return (
            f"joint states on {self._topic} lack {', '.join(missing)} (command.joints); "
            f"the last were of {', '.join(names)}"
        )

    def _places(self, names: tuple[str, ...]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Places of the arm's joints in a state, and in a message with these names."""
        if self._order is None or self._order[0] != names:
            ours = [place for place, joint in enumerate(self._joints) if joint in names]
            theirs = [names.index(self._joints[place]) for place in ours]
            self._order = names, np.array(ours, np.int64), np.array(theirs, np.int64)
        return self._order[1], self._order[2]

"""Plans on which an arm would stand still: what the live node says about itself, said of a recording."""

from sqap_vla_ros.config.robot import Robot
from sqap_vla_ros.control.gripper import wants_open
from sqap_vla_ros.control.safety.standstill import STILL_M, STILL_RAD, moves_tool
from sqap_vla_ros.core.action_chunk import ActionChunk
from sqap_vla_ros.core.rejection import Cause

# So many plans make a statement, and this share of them that stand still is worth one.
_ENOUGH, _WORTH_A_NOTE = 5, 0.5


class StandingPlans:
    """Counts the plans that do not move the tool, and those that tell the gripper anything."""

    def __init__(self) -> None:
        """Start with none."""
        self._plans = self._still = self._gripper_told = 0

    def count(self, chunk: ActionChunk, robot: Robot | None) -> None:
        """Count a plan of a robot's policy; None: nothing is known about its gripper."""
        self._plans += 1
        self._still += not moves_tool(chunk)
        told = robot is None or any(wants_open(float(value), robot.action) is not None for value in chunk.actions[:, 6])
        self._gripper_told += told

    @property
    def notes(self) -> list[str]:
        """A sentence about each thing that stands still."""
        if self._plans < _ENOUGH:
            return []
        notes = []
        if self._still >= _WORTH_A_NOTE * self._plans:
            notes.append(
                f"{Cause.PLANS_STAND_STILL}: {self._still} of {self._plans} plans move the tool by no more than "
                f"{1e3 * STILL_M:g} mm and {STILL_RAD:g} rad: is it the data set's statistics_key, its action "
                "convention, and a task that the policy knows?"
            )
        if not self._gripper_told:
            notes.append(
                f"the gripper is never told to move: its value stays between open and closed in all {self._plans} plans"
            )
        return notes

"""From the policy's gripper value to a position of the gripper's joint, sent when it changes."""

from sqap_vla_ros.config.robot import ActionConvention, Command

# Fraction of opening above which the gripper opens, and below which it closes; in between it stays, so that a
# value that hovers around one half does not make it chatter.
OPENS_ABOVE = 0.6
CLOSES_BELOW = 0.4


def wants_open(value: float, convention: ActionConvention) -> bool | None:
    """What a gripper value asks for: to open, to close, or (None) to stay.

    Args:
        value: 0..1, or a change of it, as the convention says.
        convention: Which value means open.
    """
    if convention.gripper_relative:
        value = (value + 1) / 2  # a change by more than 0.2 counts
    share = value if convention.gripper_open == 1 else 1 - value
    return True if share > OPENS_ABOVE else False if share < CLOSES_BELOW else None


class Gripper:
    """The gripper's last command."""

    def __init__(self, convention: ActionConvention, command: Command) -> None:
        """Start without a last command: the first clear value is sent."""
        self._convention = convention
        self._position = {True: command.gripper_open, False: command.gripper_closed}
        self._exists = bool(command.gripper_joint)
        self._open: bool | None = None

    def command(self, value: float) -> float | None:
        """The position to send [m or rad], or None when nothing changes.

        Args:
            value: Of the action that is due: 0..1, or a change of it, as the convention says.
        """
        wanted = wants_open(value, self._convention)
        if not self._exists or wanted is None or wanted == self._open:
            return None
        return self._position[wanted]

    def sent(self, position: float) -> None:
        """Tell that a position from `command` was sent."""
        self._open = position == self._position[True]

    def reset(self) -> None:
        """Forget the last command: the next clear value is sent again."""
        self._open = None

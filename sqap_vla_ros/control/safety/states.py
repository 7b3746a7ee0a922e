"""The states that a node's status reports."""

from enum import IntEnum


class MotionState(IntEnum):
    """What the arm does, and what it takes to change that; the values are those of `msg/PolicyStatus.msg`."""

    UNCONFIGURED = 0
    """No policy is loaded."""
    INACTIVE = 1
    """The policy is loaded and nothing is planned, until somebody activates the node."""
    WAITING = 2
    """The arm is held, and goes on by itself when the cause is gone."""
    RUNNING = 3
    """The arm follows the policy's plans (in a dry run: it would)."""
    FAULT = 4
    """The policy cannot plan: its process is dead, hangs, or is being started again. The arm is held."""
    STOPPED = 5
    """The arm stays at rest until somebody calls ~/resume."""

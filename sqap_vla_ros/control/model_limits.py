"""Whether the numbers of a robot model can be those of an arm: limits, and the distances between its joints."""

from collections.abc import Sequence

import numpy as np

from sqap_vla_ros.config.robot import Limits
from sqap_vla_ros.core.types import Array

# Of arms that are built, the wrist with the widest limits that is not called continuous turns by 7.9 rad to either side
# (450 degrees), and no two joints are more than 3 m apart. Degrees and millimetres are far beyond.
LARGEST_TURN_RAD = 4 * np.pi
LARGEST_DISTANCE_M = 10.0
# Velocities that are more likely degrees, or a number that somebody left behind; the settings' limits hold anyway.
_VELOCITIES = (0.01, 50.0)


def limits_problem(joints: Sequence[str], slides: Sequence[bool], lower: Array, upper: Array) -> str:
    """Which limit of a joint makes no sense; empty when all do.

    Args:
        joints: Names of the joints.
        slides: Whether each is prismatic.
        lower: float64 (joints,), position limits [rad or m]; infinite for a joint without.
        upper: float64 (joints,).
    """
    for joint, is_slide, low, high in zip(joints, slides, lower, upper, strict=True):
        unit, largest = ("m", LARGEST_DISTANCE_M) if is_slide else ("rad", LARGEST_TURN_RAD)
        limits = f"joint '{joint}' has the position limits {low:g} to {high:g} {unit}"
        if not low < high:
            return f"{limits}: fill in lower and upper of its <limit>, lower first"
        reach = max((abs(value) for value in (low, high) if np.isfinite(value)), default=0.0)
        if reach > largest:
            wrong = "millimetres" if is_slide else "degrees"
            otherwise = "" if is_slide else "; a joint that turns without end is of type continuous"
            return f"{limits}: are they {wrong}? They must be in {unit}{otherwise}"
    return ""


def velocity_doubts(joints: Sequence[str], velocity: Array, limits: Limits) -> tuple[str, ...]:
    """Velocity limits of a model that are hardly meant, a sentence each.

    Args:
        joints: Names of the joints.
        velocity: float64 (joints,) [rad/s or m/s]; infinite: none.
        limits: The settings' own, of which the lower one holds.
    """
    slowest, fastest = _VELOCITIES
    held = f"limits.joint_velocity of {', '.join(f'{value:g}' for value in limits.joint_velocity)} holds"
    return tuple(
        f"joint '{joint}' has the velocity limit {speed:g} in the robot model: "
        + ("the arm will hardly move" if speed < slowest else f"is it in degrees? {held}")
        for joint, speed in zip(joints, velocity, strict=True)
        if np.isfinite(speed) and not slowest <= speed <= fastest
    )

"""When each fault could be known, on the monotonic clock: from then on the node's reaction is timed."""

from sqap_vla_ros.testing.fault_bench import (
    IMAGE_AGE_S,
    JOINT_STATES_AGE_S,
    PLAN_TIMEOUT_S,
    SPEED_SCALING_AGE_S,
    TRANSFORM_AGE_S,
    FaultBench,
)
from sqap_vla_ros.testing.fault_injecting_node import PLAN_S


def not_timed(_: FaultBench, __: float) -> None:
    """Nobody can say from outside."""


def at_once(_: FaultBench, injected_s: float) -> float:
    """The fault shows with the first message."""
    return injected_s


def when_images_are_old(bench: FaultBench, _: float) -> float:
    """The last image's age limit has passed."""
    return bench.robot.image_times_s[-1] + IMAGE_AGE_S


def when_transforms_are_old(bench: FaultBench, injected_s: float) -> float:
    """The last good transform's age limit has passed."""
    return max(at_s for at_s in bench.robot.transform_times_s if at_s <= injected_s) + TRANSFORM_AGE_S


def when_joint_states_are_old(bench: FaultBench, _: float) -> float:
    """The age limit of the last joint states with numbers has passed."""
    return bench.robot.position_times_s[-1] + JOINT_STATES_AGE_S


def when_speed_scaling_is_old(bench: FaultBench, _: float) -> float:
    """The age limit of the last report of the speed scaling has passed."""
    return bench.robot.speed_scaling_times_s[-1] + SPEED_SCALING_AGE_S


def when_planned(bench: FaultBench, injected_s: float) -> float | None:
    """The first image after it has been planned on."""
    return next((at_s + PLAN_S for at_s in bench.robot.image_times_s if at_s > injected_s), None)


def when_planning_takes_too_long(bench: FaultBench, injected_s: float) -> float | None:
    """The first image after it has been planned on for the time that is allowed."""
    planned_s = when_planned(bench, injected_s)
    return None if planned_s is None else planned_s - PLAN_S + PLAN_TIMEOUT_S

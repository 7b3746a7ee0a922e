"""Actions and targets are clipped where the nearest allowed one is what was meant anyway; the command reports that."""

import numpy as np

from sqap_vla_ros.config.robot import Limits
from sqap_vla_ros.core.types import Array

# Targets are clipped to at least this far inside the workspace, because the path between two of them bends.
WORKSPACE_INSET_M = 0.005


def clip_actions(actions: Array, limits: Limits) -> tuple[Array, tuple[str, ...]]:
    """Shorten the steps that are too long, and keep their direction.

    Args:
        actions: float64 (horizon, 7).
        limits: Largest translation and rotation of one action. The rotation is measured by the length of its three
            numbers: the angle of a rotation vector, and at least the angle of three fixed-axis turns.

    Returns:
        The actions float64 (horizon, 7), and what was clipped, a sentence each.
    """
    clipped = []
    actions = actions.copy()
    for columns, largest, what, unit in (
        (slice(0, 3), limits.step, "translation", "m"),
        (slice(3, 6), limits.step_rotation, "rotation", "rad"),
    ):
        length = np.linalg.norm(actions[:, columns], axis=1)
        long = length > largest
        if long.any():
            actions[long, columns] *= (largest / length[long])[:, None]
            clipped.append(f"{what} of {long.sum()} actions, up to {length.max():.3f} {unit}, to {largest:g} {unit}")
    return actions, tuple(clipped)


def clip_targets(targets: Array, limits: Limits, inset_m: float) -> tuple[Array, tuple[str, ...]]:
    """Move targets outside the workspace to the nearest point in it.

    Args:
        targets: float64 (poses, 4, 4), T_base_tool.
        limits: With the workspace in the base frame.
        inset_m: How far inside its faces targets must lie; in a small workspace, a quarter of its size at most.

    Returns:
        The targets float64 (poses, 4, 4), and what was clipped, a sentence each.
    """
    low, high = np.array(limits.workspace_min), np.array(limits.workspace_max)
    inset = np.minimum(inset_m, (high - low) / 4)
    inside = targets.copy()
    inside[:, :3, 3] = np.clip(targets[:, :3, 3], low + inset, high - inset)
    outside = np.linalg.norm(inside[:, :3, 3] - targets[:, :3, 3], axis=1)
    if not outside.any():
        return inside, ()
    return inside, (f"{np.count_nonzero(outside)} targets, up to {outside.max():.3f} m, into the workspace",)


def workspace_excess(tool_m: Array, limits: Limits) -> float:
    """How much further outside the workspace than at its first point the tool gets [m]; 0 when it does not.

    Args:
        tool_m: float64 (points, 3), the tool at each point of a trajectory, in the base frame.
        limits: With the workspace.
    """
    beyond = outside(tool_m, np.array(limits.workspace_min), np.array(limits.workspace_max))
    excess = float((beyond - beyond[0]).max())
    return excess if excess > 1e-6 else 0.0


def outside(values: Array, low: Array, high: Array) -> Array:
    """How far each value lies outside its bounds; 0 inside."""
    return np.maximum(np.maximum(low - values, values - high), 0.0)

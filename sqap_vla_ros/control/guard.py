"""What every command passes before it leaves: finite, fresh, near, in the workspace, within the joints' limits.

Actions and targets are clipped where the nearest allowed one is what was meant anyway, and the command says so.
Everything else is refused, in one sentence with the numbers and with what must follow (`Response`): a command that came
too late says nothing about the one before it; a policy that gives NaN, or a tool that is where it cannot be, does.
"""

from enum import Enum

import numpy as np
from numpy.typing import NDArray

from sqap_vla_ros.config.robot import Freshness, Limits
from sqap_vla_ros.control.trajectory import JointLimits, Trajectory
from sqap_vla_ros.core.action_chunk import ActionChunk
from sqap_vla_ros.perception.transforms import inverse, vector_from_rotation

Array = NDArray[np.float64]

# Targets are clipped to at least this far inside the workspace: the way between two of them bends.
WORKSPACE_INSET_M = 0.005
# Stamps may be ahead of the clock by this much: the clocks of two machines differ.
CLOCK_TOLERANCE_S = 0.05
# Share of a limit that a trajectory may exceed it by: rounding, and the solver's tolerance.
TOLERANCE = 1e-3


class Response(Enum):
    """What follows from a refused command, besides that it is not sent."""

    DROP = "drop"
    """The last trajectory goes on; it ends at rest by itself."""
    HOLD = "hold"
    """The arm ramps to rest now, and goes on by itself with the next good command."""
    STOP = "stop"
    """The arm ramps to rest now, and stays there until somebody resumes."""


class Refused(Exception):
    """No command; the message is the reason in words.

    Args:
        reason: In words.
        response: What must follow.
    """

    def __init__(self, reason: str, response: Response = Response.DROP) -> None:
        super().__init__(reason)
        self.response = response


def check_chunk(chunk: ActionChunk) -> None:
    """The chunk can be used at all.

    Raises:
        Refused: Its shape is wrong, or a number in it is not finite.
    """
    if chunk.actions.ndim != 2 or chunk.actions.shape[1] != 7 or len(chunk.actions) == 0:
        raise Refused(f"actions have shape {chunk.actions.shape}; expected (horizon, 7)", Response.HOLD)
    if not np.isfinite(chunk.actions).all():
        rows = np.flatnonzero(~np.isfinite(chunk.actions).all(axis=1))
        raise Refused(f"actions {rows.tolist()} of the chunk are not finite", Response.HOLD)
    if not np.isfinite(chunk.T_base_tool).all():
        raise Refused("the tool pose of the chunk is not finite", Response.HOLD)
    if not (np.isfinite(chunk.time_step_s) and chunk.time_step_s > 0):
        raise Refused(f"the time step of the chunk is {chunk.time_step_s} s; expected more than 0", Response.HOLD)


def check_freshness(image_age_s: float, joint_states_age_s: float, freshness: Freshness) -> None:
    """Inputs are recent.

    Raises:
        Refused: One is too old, or from the future.
    """
    for name, age, largest in (
        ("image", image_age_s, freshness.image),
        ("joint states", joint_states_age_s, freshness.joint_states),
    ):
        if not age <= largest:
            raise Refused(f"{name}: {age:.3f} s old; at most {largest:g} s are allowed")
        if age < -CLOCK_TOLERANCE_S:
            raise Refused(f"{name}: stamped {-age:.3f} s in the future; are the clocks synchronised?")


def check_in_time(left_s: float, transport_s: float) -> None:
    """A command reaches the controller before it leaves what the arm is doing: later, the arm would jump.

    Args:
        left_s: From now until it does.
        transport_s: That the way to the controller takes.

    Raises:
        Refused: It may come too late.
    """
    if left_s < transport_s:
        raise Refused(
            f"the command was ready {transport_s - left_s:.3f} s too late to join the running one; is the machine busy?"
        )


def check_joint_state(positions: Array, velocities: Array, joints: tuple[str, ...]) -> None:
    """Measured joints are complete and finite.

    Raises:
        Refused: They are not; the message names the joints.
    """
    for name, values in (("positions", positions), ("velocities", velocities)):
        if values.shape != (len(joints),):
            raise Refused(
                f"joint states: {name} have shape {values.shape}; expected one for each of {list(joints)}",
                Response.HOLD,
            )
        if not np.isfinite(values).all():
            bad = [joint for joint, value in zip(joints, values, strict=True) if not np.isfinite(value)]
            raise Refused(f"joint states: {name} of {', '.join(bad)} are not finite", Response.HOLD)


def clip_actions(actions: Array, limits: Limits) -> tuple[Array, tuple[str, ...]]:
    """Shorten the steps that are too long, keeping their direction.

    Args:
        actions: float64 (horizon, 7).
        limits: Largest translation and rotation of one action. The rotation is measured by the length of its three
            numbers: the angle of a rotation vector, and at least the angle of three fixed-axis turns.

    Returns:
        The actions float64 (horizon, 7), and what was clipped.
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
        The targets float64 (poses, 4, 4), and what was clipped.
    """
    low, high = np.array(limits.workspace_min), np.array(limits.workspace_max)
    inset = np.minimum(inset_m, (high - low) / 4)
    inside = targets.copy()
    inside[:, :3, 3] = np.clip(targets[:, :3, 3], low + inset, high - inset)
    outside = np.linalg.norm(inside[:, :3, 3] - targets[:, :3, 3], axis=1)
    if not outside.any():
        return inside, ()
    return inside, (f"{np.count_nonzero(outside)} targets, up to {outside.max():.3f} m, into the workspace",)


def check_first_target(T_base_target: Array, T_base_tool: Array, limits: Limits) -> None:
    """The first target lies near the tool, and is turned as it is.

    Raises:
        Refused: It does not: the chunk is of another moment, or frames or units are wrong.
    """
    if apart := _apart(T_base_target, T_base_tool, limits):
        raise Refused(f"the first target is {apart} (do transforms and joint states agree?)", Response.HOLD)


def check_following(T_base_desired: Array, T_base_tool: Array, limits: Limits) -> None:
    """The arm is where the running trajectory wants it.

    Raises:
        Refused: It is not: the arm is blocked, its controller is off, or another command took over.
    """
    if apart := _apart(T_base_desired, T_base_tool, limits):
        raise Refused(f"where the running trajectory has it is {apart}; does the controller follow?", Response.STOP)


def _apart(T_base_wanted: Array, T_base_tool: Array, limits: Limits) -> str:
    """How far a wanted pose is from the tool, in words; empty: no further than allowed."""
    T_tool_wanted = inverse(T_base_tool) @ T_base_wanted
    distance = float(np.linalg.norm(T_tool_wanted[:3, 3]))
    if not distance <= limits.tool_to_target:
        return f"{distance:.3f} m from the tool; limits.tool_to_target is {limits.tool_to_target:g} m"
    angle = float(np.linalg.norm(vector_from_rotation(T_tool_wanted[:3, :3])))
    if not angle <= limits.tool_to_target_rotation:
        return (
            f"turned by {angle:.3f} rad from the tool; limits.tool_to_target_rotation is "
            f"{limits.tool_to_target_rotation:g} rad"
        )
    return ""


def check_trajectory(
    trajectory: Trajectory,
    tool_m: Array,
    joint_limits: JointLimits,
    limits: Limits,
) -> None:
    """The trajectory itself is finite and keeps the limits at every point.

    An arm that is beyond a position limit or outside the workspace already may be so no further than it is.

    Args:
        trajectory: To be published.
        tool_m: float64 (points, 3), the tool at each point, in the base frame.
        joint_limits: Bounds of each joint.
        limits: With the workspace.

    Raises:
        Refused: It is not, or does not.
    """
    check_finite(trajectory)
    # Jerk is constant between two points: see `control.trajectory`.
    jerks = np.diff(trajectory.accelerations, axis=0) / np.diff(trajectory.time_from_start)[:, None]
    for name, values, largest in (
        ("velocity", trajectory.velocities, joint_limits.velocity),
        ("acceleration", trajectory.accelerations, joint_limits.acceleration),
        ("jerk", jerks, joint_limits.jerk),
    ):
        worst = np.abs(values).max(axis=0, initial=0.0) / largest
        if worst.max() > 1 + TOLERANCE:
            joint = int(worst.argmax())
            raise Refused(
                f"the trajectory needs {name} {worst[joint] * largest[joint]:.3f} of joint {joint}; at most "
                f"{largest[joint]:g} is allowed"
            )
    beyond = _outside(trajectory.positions, joint_limits.lower, joint_limits.upper)
    before = _outside(trajectory.positions[0], joint_limits.lower, joint_limits.upper)
    if (beyond > before + TOLERANCE).any():
        worst_point, joint = divmod(int((beyond - before).argmax()), beyond.shape[1])
        raise Refused(
            f"the trajectory takes joint {joint} to {trajectory.positions[worst_point, joint]:.3f}; allowed are "
            f"{joint_limits.lower[joint]:.3f} to {joint_limits.upper[joint]:.3f}"
        )
    low, high = np.array(limits.workspace_min), np.array(limits.workspace_max)
    if workspace_excess(tool_m, limits) > 0:
        point = int((_outside(tool_m, low, high) - _outside(tool_m[0], low, high)).max(axis=1).argmax())
        raise Refused(
            f"the trajectory takes the tool to {np.round(tool_m[point], 3).tolist()} m, out of the workspace "
            f"{list(limits.workspace_min)} to {list(limits.workspace_max)}"
        )


def workspace_excess(tool_m: Array, limits: Limits) -> float:
    """How much further outside the workspace than at first the tool gets [m]; 0: nowhere.

    Args:
        tool_m: float64 (points, 3), the tool at each point of a trajectory, in the base frame.
        limits: With the workspace.
    """
    outside = _outside(tool_m, np.array(limits.workspace_min), np.array(limits.workspace_max))
    excess = float((outside - outside[0]).max())
    return excess if excess > 1e-6 else 0.0


def check_finite(trajectory: Trajectory) -> None:
    """Every number that would be published is finite, and time runs forward.

    Raises:
        Refused: Not so.
    """
    for values in (trajectory.time_from_start, trajectory.positions, trajectory.velocities, trajectory.accelerations):
        if not np.isfinite(values).all():
            raise Refused("the trajectory is not finite")
    if not (np.diff(trajectory.time_from_start, prepend=0.0) > 0).all():
        raise Refused("the times of the trajectory do not increase from above 0")


def _outside(values: Array, low: Array, high: Array) -> Array:
    """How far each value lies outside its bounds; 0 inside."""
    return np.maximum(np.maximum(low - values, values - high), 0.0)

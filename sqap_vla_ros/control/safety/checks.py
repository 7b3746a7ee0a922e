"""The checks that every command passes before it is sent: finite, fresh, near, in the workspace, within all limits.

What can be clipped is (`clipping`). Everything else is rejected with a cause, a sentence with the numbers, and what
follows (`Response`): a command that came too late says nothing about the one before it; a policy that gives NaN, or a
tool that is where it cannot be, does.
"""

import math

import numpy as np
from numpy.typing import NDArray

from sqap_vla_ros.config.robot import Command, Freshness, Limits
from sqap_vla_ros.control.safety.clipping import outside, workspace_excess
from sqap_vla_ros.control.trajectory import JointLimits, Trajectory
from sqap_vla_ros.core.action_chunk import ActionChunk, ActionSpace
from sqap_vla_ros.core.rejection import Cause, RejectedError, Rejection, Response
from sqap_vla_ros.core.types import Array
from sqap_vla_ros.perception.transforms import inverse, vector_from_rotation

# Stamps may be ahead of the clock by this much, because the clocks of two machines differ. Synchronised clocks (NTP,
# PTP) differ by milliseconds. What is planned from an input is commanded too late by as much as the stamp is ahead: at
# 0.05 s and 0.5 m/s that is 25 mm, half of the largest step of one action.
STAMP_TOLERANCE_S = 0.05
# Relative excess over a limit that is rounding, or the solver's tolerance.
TOLERANCE = 1e-3


def check_chunk(chunk: ActionChunk) -> None:
    """The chunk can be used at all.

    Raises:
        RejectedError: Its shape or its time step is wrong, or a number in it is not finite.
    """
    if chunk.actions.ndim != 2 or chunk.actions.shape[1] != chunk.space.size or len(chunk.actions) == 0:
        raise _invalid(f"actions have shape {chunk.actions.shape}; expected (horizon, {chunk.space.size})")
    if not np.isfinite(chunk.actions).all():
        rows = np.flatnonzero(~np.isfinite(chunk.actions).all(axis=1))
        raise _invalid(f"actions {rows.tolist()} of the chunk are not finite")
    if not np.isfinite(chunk.T_base_tool).all():
        raise _invalid("the tool pose of the chunk is not finite")
    if not (np.isfinite(chunk.time_step_s) and chunk.time_step_s > 0):
        raise _invalid(f"the time step of the chunk is {chunk.time_step_s} s; expected more than 0")


def check_action_space(space: ActionSpace, command: Command) -> None:
    """What the actions move is what this robot's controller moves.

    Raises:
        RejectedError: It is not; the sentence says which setting decides.
    """
    if not space.of_joints:
        if len(space.grippers) != 1:
            raise _invalid(f"actions of one tool have {len(space.grippers)} grippers; expected one")
        return
    joints, moving, grippers = len(command.joints), len(space.moving), len(space.grippers)
    if command.moves_tool:
        raise _invalid(f"actions are {space.kind}, but command.output = {command.output} moves the tool")
    if command.blending not in ("none", "ensemble"):
        raise _invalid(
            f"command.blending = {command.blending} blends tool poses, and actions are {space.kind}; use none"
        )
    if joints != (expected := space.size if command.moves_grippers else moving):
        raise _invalid(
            f"actions have {moving} joints and {grippers} grippers; command.joints has {joints}, expected {expected} "
            f"with command.moves_grippers = {str(command.moves_grippers).lower()}"
        )
    if grippers > 1 and not command.moves_grippers:
        raise _invalid(
            f"actions have {grippers} grippers, and one can be commanded on its own; name the grippers' joints in "
            "command.joints and set command.moves_grippers, if the controller moves them too"
        )


def _invalid(sentence: str) -> RejectedError:
    return RejectedError(Cause.CHUNK_INVALID, Response.HOLD, sentence)


def check_age(name: str, age_s: float, largest_s: float, missing: Cause, stale: Cause) -> Rejection | None:
    """Why an input is not recent; None when it is.

    Args:
        name: Of the input, for the sentence.
        age_s: Since its stamp; NaN: none was received.
        largest_s: That is allowed.
        missing: The cause when none was received.
        stale: The cause when it is too old.
    """
    if math.isnan(age_s):
        return Rejection(missing, Response.HOLD, f"no {name} received yet")
    if age_s < -STAMP_TOLERANCE_S:
        sentence = f"the last {name} is stamped {-age_s:.3f} s in the future; are the clocks synchronised?"
        return Rejection(Cause.STAMP_IN_FUTURE, Response.HOLD, sentence)
    if age_s > largest_s:
        return Rejection(stale, Response.HOLD, f"the last {name} is {age_s:.3f} s old (limit {largest_s:g} s)")
    return None


def check_freshness(image_age_s: float, joint_states_age_s: float, freshness: Freshness) -> None:
    """What a command is computed from is recent. One that is not is dropped; whether the arm must rest, the gate says.

    Raises:
        RejectedError: The image or the joint states are too old, or from the future.
    """
    rejection = check_age("image", image_age_s, freshness.image, Cause.IMAGE_MISSING, Cause.IMAGE_STALE) or check_age(
        "joint state",
        joint_states_age_s,
        freshness.joint_states,
        Cause.JOINT_STATES_MISSING,
        Cause.JOINT_STATES_STALE,
    )
    if rejection is not None:
        raise RejectedError(rejection.cause, Response.DROP, rejection.sentence)


def check_in_time(left_s: float, transport_s: float) -> None:
    """A command reaches the controller before it branches off the active trajectory: later, the arm would jump.

    Args:
        left_s: From now until it branches off.
        transport_s: That a message takes to reach the controller.

    Raises:
        RejectedError: It may come too late.
    """
    if left_s < transport_s:
        raise RejectedError(
            Cause.COMMAND_LATE,
            Response.DROP,
            f"the command was ready {transport_s - left_s:.3f} s too late to join the active trajectory; "
            "is the machine busy?",
        )


def check_joint_state(positions: Array, velocities: Array, joints: tuple[str, ...]) -> None:
    """Measured joints are complete and finite.

    Raises:
        RejectedError: They are not; the sentence names the joints.
    """
    for name, values in (("positions", positions), ("velocities", velocities)):
        if values.shape != (len(joints),):
            raise RejectedError(
                Cause.JOINT_STATES_UNUSABLE,
                Response.HOLD,
                f"joint states: {name} have shape {values.shape}; expected one for each of {list(joints)}",
            )
        if not np.isfinite(values).all():
            bad = [joint for joint, value in zip(joints, values, strict=True) if not np.isfinite(value)]
            raise RejectedError(
                Cause.JOINT_STATES_UNUSABLE,
                Response.HOLD,
                f"joint states: {name} of {', '.join(bad)} are not finite",
            )


def first_due(due_ns: NDArray[np.int64], now_ns: int) -> int:
    """The first target behind the start that is due from now on.

    Args:
        due_ns: int64 (targets,), when each is due, the start first.
        now_ns: In the same time.

    Raises:
        RejectedError: All lie in the past.
    """
    first = max(1, int(np.searchsorted(due_ns, now_ns, side="right")))
    if first == len(due_ns):
        raise RejectedError(
            Cause.CHUNK_OUTDATED,
            Response.DROP,
            f"all poses of the chunk lie in the past; the last was scheduled {(now_ns - due_ns[-1]) * 1e-9:.3f} s ago",
        )
    return first


def check_first_target(T_base_target: Array, T_base_tool: Array, limits: Limits) -> None:
    """The first target lies near the tool, in position and orientation.

    Raises:
        RejectedError: It does not: the chunk is of another moment, or frames or units are wrong.
    """
    if apart := _apart(T_base_target, T_base_tool, limits):
        raise RejectedError(
            Cause.TARGET_FAR_FROM_TOOL,
            Response.HOLD,
            f"the first target is {apart} (do transforms and joint states agree?)",
        )


def check_following(T_base_desired: Array, T_base_tool: Array, limits: Limits) -> None:
    """The arm is where the active trajectory has it.

    Raises:
        RejectedError: It is not: the arm is blocked, its controller is off, or another command took over.
    """
    if apart := _apart(T_base_desired, T_base_tool, limits):
        raise RejectedError(
            Cause.NOT_FOLLOWING,
            Response.STOP,
            f"the pose that the active trajectory has now is {apart}; does the controller follow?",
        )


def _apart(T_base_wanted: Array, T_base_tool: Array, limits: Limits) -> str:
    """How far a wanted pose is from the tool, as half a sentence; empty when it is no further than allowed."""
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
    """The trajectory is finite and keeps the limits at every point.

    An arm that is beyond a position limit or outside the workspace already may be so no further than it is.

    Args:
        trajectory: To be published.
        tool_m: float64 (points, 3), the tool at each point, in the base frame.
        joint_limits: Bounds of each joint.
        limits: With the workspace.

    Raises:
        RejectedError: It is not, or does not.
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
            raise RejectedError(
                Cause.LIMIT_EXCEEDED,
                Response.DROP,
                f"the trajectory needs {name} {worst[joint] * largest[joint]:.3f} of joint {joint}; at most "
                f"{largest[joint]:g} is allowed",
            )
    beyond = outside(trajectory.positions, joint_limits.lower, joint_limits.upper)
    before = outside(trajectory.positions[0], joint_limits.lower, joint_limits.upper)
    if (beyond > before + TOLERANCE).any():
        worst_point, joint = divmod(int((beyond - before).argmax()), beyond.shape[1])
        raise RejectedError(
            Cause.LIMIT_EXCEEDED,
            Response.DROP,
            f"the trajectory takes joint {joint} to {trajectory.positions[worst_point, joint]:.3f}; allowed are "
            f"{joint_limits.lower[joint]:.3f} to {joint_limits.upper[joint]:.3f}",
        )
    low, high = np.array(limits.workspace_min), np.array(limits.workspace_max)
    if workspace_excess(tool_m, limits) > 0:
        point = int((outside(tool_m, low, high) - outside(tool_m[0], low, high)).max(axis=1).argmax())
        raise RejectedError(
            Cause.OUT_OF_WORKSPACE,
            Response.DROP,
            f"the trajectory takes the tool to {np.round(tool_m[point], 3).tolist()} m, out of the workspace "
            f"{list(limits.workspace_min)} to {list(limits.workspace_max)}",
        )


def check_finite(trajectory: Trajectory) -> None:
    """Every number that would be published is finite, and time runs forward.

    Raises:
        RejectedError: A number is not finite, or a time does not come after the one before.
    """
    for values in (trajectory.time_from_start, trajectory.positions, trajectory.velocities, trajectory.accelerations):
        if not np.isfinite(values).all():
            raise RejectedError(Cause.TRAJECTORY_INVALID, Response.DROP, "the trajectory is not finite")
    if not (np.diff(trajectory.time_from_start, prepend=0.0) > 0).all():
        raise RejectedError(
            Cause.TRAJECTORY_INVALID, Response.DROP, "the times of the trajectory do not increase from above 0"
        )

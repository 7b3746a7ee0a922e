"""Whether the robot model and TF agree about where the tool is.

Commands are computed with the robot model, observations with TF. Where the two put the tool at different places, the
arm would be moved wrongly, whatever the reason: another arm's URDF, a joint between base and tool that is not
commanded or that mimics another one, a frame of the same name elsewhere, units. So nothing is commanded then.
"""

from collections.abc import Iterator, Sequence

import numpy as np

from sqap_vla_ros.config.robot import Frames
from sqap_vla_ros.control.commands import JointState
from sqap_vla_ros.control.forward_kinematics import ForwardKinematics
from sqap_vla_ros.core.types import Array
from sqap_vla_ros.perception.transform_tree import TransformError, TransformTree
from sqap_vla_ros.perception.transforms import inverse, vector_from_rotation

# An uncalibrated arm, or a driver that measures the tool by itself, differs by millimetres and tenths of a degree.
TOLERANCE_M = 0.01
TOLERANCE_RAD = 0.05
# Joint states and transforms may be stamped by clocks that differ, or on their way for so long [s]: the tool must be
# where the joints had it at some moment around the transform's. An arm at rest is compared exactly.
SKEW_S = 0.25
# Arms stand a little beyond their limits now and then, by less than this [rad or m].
BEYOND_LIMIT = 0.2
# Positions that differ by less are compared once [rad or m].
SAME_POSITION = 1e-4


def limit_disagreement(kinematics: ForwardKinematics, positions: Array) -> str:
    """Which joint is where the robot model has none; empty when each is within its limits, or hardly beyond.

    Args:
        kinematics: Of the arm.
        positions: float64 (joints,), measured [rad or m].
    """
    beyond = np.maximum(kinematics.lower - positions, positions - kinematics.upper)
    joint = int(beyond.argmax())
    if not beyond[joint] > BEYOND_LIMIT:
        return ""
    return (
        f"joint '{kinematics.joints[joint]}' is measured at {positions[joint]:.3f}, and the robot model allows "
        f"{kinematics.lower[joint]:.3f} to {kinematics.upper[joint]:.3f}: are joint states in radians and metres, and "
        "is it the model of this arm?"
    )


def disagreement(
    kinematics: ForwardKinematics, frames: Frames, tree: TransformTree, states: Sequence[JointState]
) -> str:
    """How the robot model and TF differ about the tool; empty when they agree, or cannot be compared yet.

    Args:
        kinematics: Of the arm, between `frames.base` and `frames.tool`.
        frames: Names of the frames in TF.
        tree: The transforms received.
        states: Measured joints, the oldest first.

    Returns:
        A sentence that names the distance and the first joint from which on they differ.
    """
    if not states:
        return ""
    if wrong := limit_disagreement(kinematics, states[-1].positions):
        return wrong
    at_ns = tree.latest_ns(frames.base, frames.tool)
    at_ns = states[-1].stamp_ns if at_ns is None else at_ns
    try:
        T_base_tool = tree.lookup(frames.base, frames.tool, at_ns)
    except TransformError:
        return ""
    nearest, least = states[-1].positions, np.inf
    for positions in _around(states, at_ns):
        if np.isfinite(least) and np.abs(positions - nearest).max() < SAME_POSITION:
            continue  # an arm at rest
        excess = _excess(kinematics.forward(positions), T_base_tool)
        if excess <= 1:
            return ""
        if excess < least:
            nearest, least = positions, excess
    T_model_tool = kinematics.forward(nearest)
    distance_m, angle_rad = _apart(T_model_tool, T_base_tool)
    return (
        f"the robot model has '{frames.tool}' {distance_m:.3f} m and {angle_rad:.2f} rad from where TF has it in "
        f"'{frames.base}'{_first_difference(kinematics, frames, tree, nearest, at_ns)}: give the node the robot "
        "description that robot_state_publisher has, and check frames.base, frames.tool and command.joints"
    )


def _around(states: Sequence[JointState], at_ns: int) -> Iterator[Array]:
    """Joint positions at a time, interpolated; the nearest; then those measured shortly before and after."""
    after = len(states) - 1
    while after > 0 and states[after - 1].stamp_ns >= at_ns:
        after -= 1
    before = max(after - 1, 0)
    first, last = states[before], states[after]
    if first.stamp_ns < at_ns < last.stamp_ns:
        share = (at_ns - first.stamp_ns) / (last.stamp_ns - first.stamp_ns)
        yield first.positions + share * (last.positions - first.positions)
    yield last.positions
    for state in states:
        if abs(state.stamp_ns - at_ns) <= SKEW_S * 1e9:
            yield state.positions


def _first_difference(
    kinematics: ForwardKinematics, frames: Frames, tree: TransformTree, positions: Array, at_ns: int
) -> str:
    """The joint after which model and TF differ, as half a sentence; empty where TF does not have the links between."""
    prefix = frames.tool.lstrip("/").removesuffix(kinematics.model.frames[kinematics.tool_link].name)
    agrees_before = True
    for link, joint, T_base_link in kinematics.chain(positions):
        try:
            T_tf = tree.lookup(frames.base, prefix + link, at_ns)
        except TransformError:
            agrees_before = False
            continue
        if _excess(T_base_link, T_tf) > 1:
            held = ", which is not one of command.joints and is taken to be at 0" if joint in kinematics.held else ""
            return f"; they differ from joint '{joint}' on (link '{link}'){held}" if agrees_before else ""
        agrees_before = True
    return ""


def _apart(T_base_one: Array, T_base_other: Array) -> tuple[float, float]:
    T_one_other = inverse(T_base_one) @ T_base_other
    return float(np.linalg.norm(T_one_other[:3, 3])), float(np.linalg.norm(vector_from_rotation(T_one_other[:3, :3])))


def _excess(T_base_one: Array, T_base_other: Array) -> float:
    """How many times the tolerance two poses are apart."""
    distance_m, angle_rad = _apart(T_base_one, T_base_other)
    return max(distance_m / TOLERANCE_M, angle_rad / TOLERANCE_RAD)

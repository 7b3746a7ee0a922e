"""Action conventions: from actions to tool poses, and from tool poses to actions.

Nothing fails visibly when a convention is wrong; the arm just moves wrongly. So both directions are in this module, and
a property test sends random paths through `label` and `integrate` and gets them back for every convention.

A delta acts on the policy's tool frame (`T_tool_policy` of the robot's frames), whose origin p and axes R change as

    translation, in base axes:  p' = p + d             in tool axes:  p' = p + R d
    axis_angle                  R' = exp(r) R                         R' = R exp(r)
    fixed_axis                  R' = Rz(r3) Ry(r2) Rx(r1) R           R' = R Rz(r3) Ry(r2) Rx(r1)
    euler_difference            rpy(R') = rpy(R) + r (angles have no frame: the same for both)

Source: the controllers and dataset relabellings of BridgeData V2, robosuite's OSC_POSE and Open X-Embodiment.
"""

import numpy as np

from sqap_vla_ros.config.robot import ActionConvention, Frames
from sqap_vla_ros.core.types import Array
from sqap_vla_ros.perception.transforms import (
    inverse,
    rotation_from_rpy,
    rotation_from_vector,
    rpy_from_rotation,
    transform_from,
    vector_from_rotation,
)


def tool_policy_transform(frames: Frames) -> Array:
    """T_tool_policy, float64 (4, 4): the policy's tool frame in the tool frame."""
    return transform_from(frames.tool_policy_xyz, rotation_from_rpy(frames.tool_policy_rpy))


def integrate(actions: Array, T_base_tool: Array, convention: ActionConvention, frames: Frames) -> Array:
    """Integrate a chunk of deltas to absolute tool poses.

    Args:
        actions: float64 (horizon, 7): translation [m], rotation [rad] (3), gripper (not used here).
        T_base_tool: float64 (4, 4), the pose that the first delta is added to.
        convention: What the deltas mean.
        frames: Frames of the robot, for `T_tool_policy`.

    Returns:
        float64 (horizon, 4, 4), tool poses in the base frame; row k is reached by actions 0..k.
    """
    T_tool_policy = tool_policy_transform(frames)
    T_policy_tool = inverse(T_tool_policy)
    T_base_policy = T_base_tool @ T_tool_policy
    poses = np.empty((len(actions), 4, 4))
    for k, action in enumerate(actions):
        R = T_base_policy[:3, :3]
        translation = action[:3] if convention.frame == "base" else R @ action[:3]
        T_base_policy = transform_from(T_base_policy[:3, 3] + translation, _rotate(R, action[3:6], convention))
        poses[k] = T_base_policy @ T_policy_tool
    return poses


def label(poses: Array, gripper: Array, convention: ActionConvention, frames: Frames) -> Array:
    """Compute the actions that lead from each tool pose to the next: the inverse of `integrate`.

    Args:
        poses: float64 (N, 4, 4), tool poses in the base frame: states reached, or targets, as the convention's
            `increment` says.
        gripper: float64 (N,), gripper value at each pose.
        convention: What the deltas mean.
        frames: Frames of the robot, for `T_tool_policy`.

    Returns:
        float64 (N - 1, 7), actions; the gripper value is the next one, or the change to it.
    """
    T_tool_policy = tool_policy_transform(frames)
    T_base_policy = poses @ T_tool_policy
    actions = np.empty((len(poses) - 1, 7))
    for k, (now, then) in enumerate(zip(T_base_policy[:-1], T_base_policy[1:], strict=True)):
        translation = then[:3, 3] - now[:3, 3]
        actions[k, :3] = translation if convention.frame == "base" else now[:3, :3].T @ translation
        actions[k, 3:6] = _rotation_between(now[:3, :3], then[:3, :3], convention)
    actions[:, 6] = np.diff(gripper) if convention.gripper_relative else gripper[1:]
    return actions


def _rotate(R: Array, delta: Array, convention: ActionConvention) -> Array:
    if convention.rotation == "euler_difference":
        return rotation_from_rpy(rpy_from_rotation(R) + delta)
    change = rotation_from_vector(delta) if convention.rotation == "axis_angle" else rotation_from_rpy(delta)
    return change @ R if convention.frame == "base" else R @ change


def _rotation_between(now: Array, then: Array, convention: ActionConvention) -> Array:
    if convention.rotation == "euler_difference":
        difference = rpy_from_rotation(then) - rpy_from_rotation(now)
        return (difference + np.pi) % (2 * np.pi) - np.pi
    change = then @ now.T if convention.frame == "base" else now.T @ then
    return vector_from_rotation(change) if convention.rotation == "axis_angle" else rpy_from_rotation(change)


def gripping_points(T_base_tool: Array, frames: Frames) -> Array:
    """Where the gripper grips at some tool poses: the point that the ring is drawn around.

    Args:
        T_base_tool: float64 (N, 4, 4), tool poses in the base frame, metres.
        frames: With the point in the policy's tool frame.

    Returns:
        float64 (N, 3), in the base frame, metres.
    """
    point = tool_policy_transform(frames) @ (*frames.ring_xyz, 1.0)
    return np.asarray((T_base_tool @ point)[:, :3], np.float64)

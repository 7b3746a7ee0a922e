# Copyright 2026 The sqap_vla maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""From the project's data to ROS messages."""

from array import array

import numpy as np
from builtin_interfaces.msg import Duration, Time
from geometry_msgs.msg import Point, Pose, Quaternion
from numpy.typing import NDArray
from sqap_vla.msg import ActionChunk as ActionChunkMessage
from sqap_vla.msg import PolicyMetadata as PolicyMetadataMessage
from sqap_vla.msg import TokenMask
from std_msgs.msg import Header
from trajectory_msgs.msg import JointTrajectory, JointTrajectoryPoint

from sqap_vla_ros.control.trajectory import Trajectory
from sqap_vla_ros.core.action_chunk import ActionChunk
from sqap_vla_ros.core.policy import PolicyMetadata
from sqap_vla_ros.perception.transforms import quaternion_from_matrix


def time_message(stamp_ns: int) -> Time:
    """Make a time message from nanoseconds."""
    return Time(sec=stamp_ns // 10**9, nanosec=stamp_ns % 10**9)


def duration_message(seconds: float) -> Duration:
    """Make a duration message, rounded to nanoseconds."""
    total_ns = round(seconds * 1e9)
    return Duration(sec=total_ns // 10**9, nanosec=total_ns % 10**9)


_ACTION_SPACES = {"tool_deltas": 0, "joint_deltas": 1, "joint_positions": 2}
"""The constants ACTION_SPACE_… of the message."""


def pose_message(T: NDArray[np.float64]) -> Pose:
    """Make a pose message from a float64 (4, 4) transform."""
    x, y, z = (float(value) for value in T[:3, 3])
    qx, qy, qz, qw = (float(value) for value in quaternion_from_matrix(T))
    return Pose(position=Point(x=x, y=y, z=z), orientation=Quaternion(x=qx, y=qy, z=qz, w=qw))


def chunk_message(chunk: ActionChunk, base_frame: str, epoch: int, sequence: int, policy_id: str) -> ActionChunkMessage:
    """Make the chunk as it goes out: with the image, all that is needed to plan it again."""
    return ActionChunkMessage(
        header=Header(stamp=time_message(chunk.stamp_ns), frame_id=base_frame),
        epoch=epoch,
        sequence=sequence,
        action_space=_ACTION_SPACES[chunk.space.kind],
        time_step=chunk.time_step_s,
        horizon=len(chunk.actions),
        data=array("d", chunk.actions.astype(np.float64).tobytes()),
        tool_pose=pose_message(chunk.T_base_tool),
        instruction=chunk.instruction,
        seed=chunk.seed,
        committed_steps=chunk.committed_steps,
        policy_id=policy_id,
        inference_time=float(sum(chunk.timings_s.values())),
    )


def token_mask_message(chunk: ActionChunk, camera_frame: str) -> TokenMask:
    """Which tokens were kept, with the tool's pixel that the ring was drawn around."""
    u, v = (float("nan"), float("nan")) if chunk.tool_px is None else (float(value) for value in chunk.tool_px)
    return TokenMask(
        header=Header(stamp=time_message(chunk.stamp_ns), frame_id=camera_frame),
        rows=chunk.selection.rows,
        columns=chunk.selection.columns,
        reason=array("B", chunk.selection.reasons.tobytes()),
        tool_valid=chunk.tool_px is not None,
        tool_u=u,
        tool_v=v,
        tool_reason=chunk.no_ring_reason,
    )


def trajectory_message(
    trajectory: Trajectory, joints: tuple[str, ...], start_ns: int, base_frame: str
) -> JointTrajectory:
    """Make the command: positions and velocities at times after `start_ns` on the ROS clock."""
    return JointTrajectory(
        header=Header(stamp=time_message(start_ns), frame_id=base_frame),
        joint_names=list(joints),
        points=[
            JointTrajectoryPoint(
                positions=array("d", position.tobytes()),
                velocities=array("d", velocity.tobytes()),
                time_from_start=duration_message(time_s),
            )
            for time_s, position, velocity in zip(
                trajectory.time_from_start, trajectory.positions, trajectory.velocities, strict=True
            )
        ],
    )


def gripper_message(joint: str, position: float, travel_time_s: float = 0.5) -> JointTrajectory:
    """Make the gripper's command: one joint, one point, at once (stamp zero)."""
    point = JointTrajectoryPoint(positions=[position], time_from_start=duration_message(travel_time_s))
    return JointTrajectory(joint_names=[joint], points=[point])


def metadata_message(metadata: PolicyMetadata, robot: str, now_ns: int) -> PolicyMetadataMessage:
    """Describe what is running."""
    return PolicyMetadataMessage(
        stamp=time_message(now_ns),
        policy=metadata.policy,
        policy_id=metadata.policy_id,
        checkpoint=metadata.checkpoint,
        checkpoint_sha256=metadata.checkpoint_sha256,
        statistics_key=metadata.statistics_key,
        recipe=metadata.recipe,
        weights=metadata.weights,
        weight_bits=metadata.weight_bits,
        activation_bits=metadata.activation_bits,
        visual_tokens=metadata.visual_tokens,
        kept_tokens=metadata.kept_tokens,
        parameters=metadata.parameters,
        memory=metadata.memory_bytes,
        device=metadata.device,
        robot=robot,
        time_step=metadata.time_step_s,
        horizon=metadata.horizon,
    )

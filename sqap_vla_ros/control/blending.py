"""Makes one path of chunks that overlap: by the time for which a pose is scheduled, never by its number in the chunk.

There are four methods (`command.blending` in the robot's settings):

    none        the newest chunk alone; the trajectory joins it to the motion.
    ensemble    each delta is the mean of what the last chunks say about the same moment, those that agree with the
                newest counting more (CogACT's adaptive ensemble, arXiv 2411.19650). Published for one chunk per step.
    temporal    each pose is the mean of where the last chunks have the tool at the same moment (ACT's temporal
                ensemble, arXiv 2304.13705, by time); a chunk counts by how much of it is still to come.
    real_time   the policy is given the committed prefix and plans on from there (see `continuation`).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation, Slerp

from sqap_vla_ros.config.robot import ActionConvention, Frames
from sqap_vla_ros.core.action_chunk import ActionChunk, CommittedActions
from sqap_vla_ros.core.types import Array
from sqap_vla_ros.perception.conventions import integrate, label

# Chunks that are blended at most, and the weight of agreement in an ensemble; both as published for BridgeData.
BLENDED_CHUNKS = 7
ENSEMBLE_ALPHA = 0.1


@dataclass(frozen=True)
class TimedPoses:
    """Tool poses by time.

    Attributes:
        due_ns: int64 (poses,), when each is scheduled, ROS clock, ascending.
        poses: float64 (poses, 4, 4), T_base_tool.
    """

    due_ns: NDArray[np.int64]
    poses: Array

    def at(self, times_ns: NDArray[np.int64]) -> Array:
        """Poses float64 (times, 4, 4); before the first and after the last the path stands still."""
        seconds = (self.due_ns - self.due_ns[0]) * 1e-9
        wanted = np.clip((times_ns - self.due_ns[0]) * 1e-9, 0.0, seconds[-1])
        poses = np.tile(np.eye(4), (len(wanted), 1, 1))
        poses[:, :3, :3] = Slerp(seconds, Rotation.from_matrix(self.poses[:, :3, :3]))(wanted).as_matrix()
        for axis in range(3):
            poses[:, axis, 3] = np.interp(wanted, seconds, self.poses[:, axis, 3])
        return poses


@dataclass(frozen=True)
class Followed:
    """What a trajectory follows.

    Attributes:
        targets: Of the tool.
        plans: Chunks that led to the targets with the poses that each leads to, oldest first.
    """

    targets: TimedPoses
    plans: tuple[tuple[ActionChunk, TimedPoses], ...]

    def overlapping(self, chunk: ActionChunk) -> tuple[tuple[ActionChunk, TimedPoses], ...]:
        """The plans that reach into a new chunk, as many as are blended."""
        last = self.plans[1 - BLENDED_CHUNKS :]
        return tuple((old, path) for old, path in last if old.stamp_ns < chunk.stamp_ns < path.due_ns[-1])


def ensemble(chunks: Sequence[ActionChunk]) -> Array:
    """The newest chunk's actions, each mixed with those that earlier chunks have for the same moment.

    Args:
        chunks: Oldest first; the same time step.

    Returns:
        float64 (horizon, 7), the actions of the last chunk's grid of time.
    """
    newest = chunks[-1]
    step_ns = newest.time_step_s * 1e9
    candidates = np.zeros((len(chunks), *newest.actions.shape))
    given = np.zeros((len(chunks), len(newest.actions), 1))
    for row, chunk in enumerate(chunks):
        age = round((newest.stamp_ns - chunk.stamp_ns) / step_ns)
        left = chunk.actions[age : age + len(newest.actions)]
        candidates[row, : len(left)], given[row, : len(left)] = left, 1.0
    return mixed_by_agreement(candidates, given, ENSEMBLE_ALPHA)


def mixed_by_agreement(candidates: Array, given: Array, alpha: float) -> Array:
    """Mean of candidates for the same moments, weighted by agreement with the newest (CogACT's adaptive ensemble).

    Args:
        candidates: float64 (chunks, moments, dimensions), oldest first.
        given: float64 (chunks, moments, 1), 1 where a chunk has a candidate and 0 where it has none.
        alpha: Weight of agreement: a candidate counts exp(alpha * cosine to the newest).

    Returns:
        float64 (moments, dimensions).
    """
    newest = candidates[-1]
    lengths = np.linalg.norm(candidates, axis=2, keepdims=True) * np.linalg.norm(newest, axis=1)[:, None]
    cosines = (candidates * newest).sum(axis=2, keepdims=True) / (lengths + 1e-7)
    weights = given * np.exp(alpha * cosines)
    relative = weights / weights.sum(axis=0)  # first: one candidate alone stays what it is, to the last bit
    mixed: Array = (relative * candidates).sum(axis=0)
    return mixed


def average(paths: Sequence[TimedPoses]) -> Array:
    """Poses of the newest path, each mixed with where the earlier paths have the tool at that moment.

    The weight of a path falls steadily, to nothing where it ends: what lies far ahead is known less well, and no path
    leaves with a step.

    Args:
        paths: Oldest first; each begins before the next.

    Returns:
        float64 (poses, 4, 4), at the last path's times.
    """
    newest = paths[-1]
    times_ns, rotation = newest.due_ns, Rotation.from_matrix(newest.poses[:, :3, :3])
    # The newest path alone has a last pose: there its weight must not be nothing.
    total = np.clip((times_ns[-1] - times_ns) / (times_ns[-1] - times_ns[0]), 1e-9, 1)[:, None]
    shift, turn = np.zeros((2, len(times_ns), 3))
    for path in paths[:-1]:
        begin_ns, end_ns = path.due_ns[0], path.due_ns[-1]
        weight = np.clip((end_ns - times_ns) / (end_ns - begin_ns), 0, 1)[:, None]
        poses = path.at(times_ns)
        shift += weight * (poses[:, :3, 3] - newest.poses[:, :3, 3])
        turn += weight * (Rotation.from_matrix(poses[:, :3, :3]) * rotation.inv()).as_rotvec()
        total += weight
    mixed = newest.poses.copy()
    mixed[:, :3, 3] += shift / total
    mixed[:, :3, :3] = (Rotation.from_rotvec(turn / total) * rotation).as_matrix()
    return mixed


def continuation(
    active: ActionChunk,
    stamp_ns: int,
    T_base_tool: Array,
    delay_s: float,
    convention: ActionConvention,
    frames: Frames,
) -> CommittedActions | None:
    """The committed prefix: the active chunk as actions of a new one that is about to be planned.

    Args:
        active: The chunk that is being followed.
        stamp_ns: Of the observation that the new chunk is planned on.
        T_base_tool: float64 (4, 4), the tool pose at that moment. Where deltas start from the measured pose, the first
            one makes up for its distance from the active path.
        delay_s: From that stamp until the new chunk takes over.
        convention: What the deltas mean.
        frames: Where the policy's tool frame sits in the tool frame.

    Returns:
        What is committed; None when the active chunk ends before the new one's first pose is due.
    """
    step_ns = round(active.time_step_s * 1e9)
    poses = np.concatenate(
        [active.T_base_tool[None], integrate(active.actions, active.T_base_tool, convention, frames)]
    )
    path = TimedPoses(active.stamp_ns + step_ns * np.arange(len(poses)), poses)
    steps = (int(path.due_ns[-1]) - stamp_ns) // step_ns
    if steps < 1:
        return None
    due_ns = stamp_ns + step_ns * np.arange(steps + 1)
    ahead = path.at(due_ns)
    if convention.anchor == "measured":
        ahead[0] = T_base_tool
    actions = label(ahead, np.zeros(steps + 1), convention, frames)
    # A pose between two of the active chunk is on the way to the later one, whose gripper value is due.
    rows = -((active.stamp_ns - due_ns[1:]) // step_ns) - 1
    actions[:, 6] = active.actions[np.minimum(rows, len(active.actions) - 1), 6]
    return CommittedActions(actions, min(max(math.ceil(delay_s * 1e9 / step_ns), 1), steps))

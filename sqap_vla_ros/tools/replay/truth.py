"""The truth: the recorded motion of the tool after a tick.

The tool's motion comes from the transforms or, where they have none, from the tool poses of recorded chunks. The
gripper's motion comes from its commands or, without any, from the actions of recorded chunks. The truth of a tick is
recorded after it, so this module reads the bag a second time, ahead of the replay by a bounded time and memory.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import numpy as np

from sqap_vla_ros.bags.reader import Bag, BagDamage
from sqap_vla_ros.bags.topics import CHUNK_TYPE, TRANSFORM_TYPE, BagTopics
from sqap_vla_ros.config.robot import Robot
from sqap_vla_ros.core.clock import STAMP_BACK_NS, stamp_ns, time_ns
from sqap_vla_ros.core.types import Array
from sqap_vla_ros.perception.transform_tree import TransformError, TransformTree
from sqap_vla_ros.perception.transforms import transform_from_message
from sqap_vla_ros.tools.replay.metrics import Motion, gripper_states

COMMAND_TYPE = "trajectory_msgs/msg/JointTrajectory"
# Recording time that is read ahead of the replay, beyond the horizon, in search of the truth.
LOOK_AHEAD_NS = 10 * 10**9
# A chunk is recorded after it was planned, later than its stamp; so much is read beyond the horizon for it.
_SETTLED_NS = 10**9


class Truth:
    """The recorded motion of tool and gripper, to be queried in the order of the ticks.

    Args:
        bag: The recording.
        topics: Topics of its chunks and transforms.
        robot: Frames, action convention, gripper, and the largest gap between transforms.
        horizon: Number of steps.
        time_step_s: Time between two steps.
    """

    def __init__(self, bag: Bag, topics: BagTopics, robot: Robot, horizon: int, time_step_s: float) -> None:
        self._types = bag.topic_types
        self._robot = robot
        self._horizon = horizon
        self._time_step_s = time_step_s
        self._steps_ns = round(time_step_s * 1e9) * np.arange(1, horizon + 1)
        commands = robot.topics.gripper_command
        gripper = {commands} if self._types.get(commands) == COMMAND_TYPE else set()
        self._messages = _until_damage(bag.messages({topics.chunk, *topics.transforms, *gripper}))
        self._next = next(self._messages, None)
        cache_s = 3 * (LOOK_AHEAD_NS * 1e-9 + horizon * time_step_s)
        self._transforms = TransformTree(cache_s, robot.freshness.transform)
        self._chunk_poses = TransformTree(cache_s, robot.freshness.transform)
        self._newest_ns: dict[str, int] = {}  # stamp by child frame
        self._clock_ns = 0  # offset of stamps from recording times, if they come from another clock
        self._commands = _History()
        self._chunks = _History()

    def motion(self, at_ns: int, T_base_tool: Array, recorded_ns: int) -> Motion:
        """Return the motion that followed a tick.

        Args:
            at_ns: Stamp of the tick's image.
            T_base_tool: float64 (4, 4), the tool pose at that time.
            recorded_ns: Recording time of the last message that the replay has read.

        Returns:
            Poses and gripper states; NaN past the end of the recording and in its gaps.
        """
        times_ns = at_ns + self._steps_ns
        self._read_ahead(int(times_ns[-1]), recorded_ns)
        self._commands.forget_before(at_ns)
        self._chunks.forget_before(at_ns)
        poses = np.stack([self._pose(time) for time in times_ns.tolist()])
        gripper = np.array([self._gripper(time) for time in times_ns.tolist()])
        return Motion(at_ns, self._time_step_s, T_base_tool, poses, gripper)

    def _pose(self, at_ns: int) -> Array:
        frames = self._robot.frames
        for tree in (self._transforms, self._chunk_poses):
            try:
                return tree.lookup(frames.base, frames.tool, at_ns)
            except TransformError:
                continue
        return np.full((4, 4), np.nan)

    def _gripper(self, at_ns: int) -> float:
        """Gripper state during the step that ends at a time: 1 open, 0 closed, NaN unknown."""
        begin_ns = at_ns - int(self._steps_ns[0])
        if (command := self._commands.last_at(begin_ns)) is not None:
            return float(command[1])
        if (chunk := self._chunks.last_at(begin_ns)) is None:
            return np.nan
        chunk_ns, (step_ns, states) = chunk
        step = (begin_ns - chunk_ns) // step_ns
        return float(states[step]) if step < len(states) else np.nan

    def _read_ahead(self, due_ns: int, recorded_ns: int) -> None:
        """Read until the tool's pose at a time is known, within the look-ahead and not across a jump of the clock.

        Messages that the replay has read already are always taken, so that this reader follows it across jumps.
        """
        limit_ns = recorded_ns + LOOK_AHEAD_NS + int(self._steps_ns[-1])
        while self._next is not None:
            topic, message_ns, message = self._next
            back = self._goes_back(topic, message)
            if message_ns > recorded_ns and (back or message_ns > limit_ns or self._reaches(due_ns + _SETTLED_NS)):
                return
            if back:
                self._forget()
            # A message that cannot be used is ignored.
            with suppress(TransformError, ValueError, OverflowError, IndexError, AttributeError):
                self._take(topic, message_ns, message)
            self._next = next(self._messages, None)

    def _reaches(self, at_ns: int) -> bool:
        frames = self._robot.frames
        for tree in (self._transforms, self._chunk_poses):
            if (latest_ns := tree.latest_ns(frames.base, frames.tool)) is not None:
                return latest_ns >= at_ns
        return False

    def _take(self, topic: str, recorded_ns: int, message: Any) -> None:
        kind = self._types[topic]
        if kind == TRANSFORM_TYPE:
            static = topic.endswith("tf_static")
            self._transforms.add_message(message, static)
            if not static:
                stamps = _stamps(message)
                self._newest_ns |= stamps
                ahead_ns = max(stamps.values(), default=recorded_ns) - recorded_ns
                self._clock_ns = ahead_ns if abs(ahead_ns) > STAMP_BACK_NS else 0
        elif kind == CHUNK_TYPE:
            self._take_chunk(message)
        elif kind == COMMAND_TYPE:
            command = self._robot.command
            position = message.points[-1].positions[list(message.joint_names).index(command.gripper_joint)]
            opens = abs(position - command.gripper_open) < abs(position - command.gripper_closed)
            self._commands.add(stamp_ns(message) or recorded_ns + self._clock_ns, opens)

    def _take_chunk(self, chunk: Any) -> None:
        frames, at_ns, step_ns = self._robot.frames, stamp_ns(chunk), round(chunk.time_step * 1e9)
        if chunk.header.frame_id == frames.base:
            self._chunk_poses.add(frames.base, frames.tool, at_ns, transform_from_message(chunk.tool_pose))
        actions = np.asarray(chunk.data, np.float64).reshape(chunk.horizon, 7)
        if step_ns <= 0:
            raise ValueError(f"time_step is {chunk.time_step} s")
        self._chunks.add(at_ns, (step_ns, gripper_states(actions[:, 6], self._robot.action)))

    def _goes_back(self, topic: str, message: Any) -> bool:
        if self._types[topic] != TRANSFORM_TYPE or topic.endswith("tf_static"):
            return False
        frames, stamps = self._robot.frames, _stamps(message)
        with suppress(TransformError):  # other frames' publishers may have clocks of their own
            chain = self._transforms.children_between(frames.base, frames.tool)
            stamps = {child: ns for child, ns in stamps.items() if child in chain}
        return any(ns < self._newest_ns.get(child, ns) - STAMP_BACK_NS for child, ns in stamps.items())

    def _forget(self) -> None:
        self._transforms.clear()
        self._chunk_poses.clear()
        self._newest_ns.clear()
        self._commands, self._chunks = _History(), _History()


class _History:
    """Values by time; of those before the last query only the newest is kept."""

    def __init__(self) -> None:
        self._times_ns: list[int] = []
        self._values: list[Any] = []

    def add(self, at_ns: int, value: Any) -> None:
        place = bisect_right(self._times_ns, at_ns)
        self._times_ns.insert(place, at_ns)
        self._values.insert(place, value)

    def last_at(self, at_ns: int) -> tuple[int, Any] | None:
        """Return the newest entry that is not later than a time."""
        place = bisect_right(self._times_ns, at_ns)
        return (self._times_ns[place - 1], self._values[place - 1]) if place else None

    def forget_before(self, at_ns: int) -> None:
        count = max(bisect_left(self._times_ns, at_ns) - 1, 0)
        del self._times_ns[:count], self._values[:count]


def _stamps(message: Any) -> dict[str, int]:
    return {transform.child_frame_id: time_ns(transform.header.stamp) for transform in message.transforms}


def _until_damage(messages: Iterator[tuple[str, int, Any]]) -> Iterator[tuple[str, int, Any]]:
    try:
        yield from messages
    except BagDamage:  # the replay reads the damage too, and reports it
        return

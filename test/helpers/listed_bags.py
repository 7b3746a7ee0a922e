"""A bag that is a list of messages, and messages that tell what a policy planned and how the tool moved."""

from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from paths import ROOT
from rosbags.typesys import get_types_from_msg
from synthetic_bags import STORE, T, transforms

from sqap_vla_ros.bags.reader import Bag, BagDamage
from sqap_vla_ros.bags.topics import CHUNK_TYPE, MASK_TYPE, TRANSFORM_TYPE, BagTopics
from sqap_vla_ros.tools.replay.truth import COMMAND_TYPE

for _kind in (CHUNK_TYPE, MASK_TYPE):
    _definition = ROOT / "msg" / f"{_kind.rpartition('/')[2]}.msg"
    STORE.register(get_types_from_msg(_definition.read_text(), _kind))

TYPES = {
    "/image": "sensor_msgs/msg/Image",
    "/tf": TRANSFORM_TYPE,
    "/chunk": CHUNK_TYPE,
    "/mask": MASK_TYPE,
    "/gripper": COMMAND_TYPE,
}
TOPICS = BagTopics(
    image="/image", camera_info="", instruction="", chunk="/chunk", token_mask="/mask", transforms=("/tf",)
)
Entry = tuple[str, int, Any]


class ListedBag(Bag):
    """Gives (topic, record time, message) of a list, in order of record time.

    Args:
        entries: The messages.
        damaged: Whether the recording ends in damage.

    Attributes:
        read: How many messages were taken.
    """

    def __init__(self, entries: Sequence[Entry], damaged: bool = False) -> None:
        self.path = Path("listed")
        self.read = 0
        self._entries = sorted(entries, key=lambda entry: entry[1])
        self._damaged = damaged

    @property
    def topic_types(self) -> dict[str, str]:
        """Of the topics that the list has."""
        return {topic: TYPES[topic] for topic, _, _ in self._entries}

    def messages(self, topics: Collection[str]) -> Iterator[Entry]:
        """Those of the topics."""
        return (entry for entry in self._all() if entry[0] in topics)

    def _all(self) -> Iterator[Entry]:
        for entry in self._entries:
            self.read += 1
            yield entry
        if self._damaged:
            raise BagDamage("damaged here")


def tool_at(at_ns: int, x_m: float, recorded_ns: int | None = None) -> Entry:
    """A transform that puts the tool at x."""
    return "/tf", at_ns if recorded_ns is None else recorded_ns, transforms(at_ns, "base", "tool", (x_m, 0.0, 0.0))


def chunk_at(at_ns: int, x_m: float, gripper: Sequence[float], step_s: float, recorded_ns: int) -> Entry:
    """A recorded chunk, planned with the tool at x."""
    data = np.zeros((len(gripper), 7))
    data[:, 6] = gripper
    pose = T["geometry_msgs/msg/Pose"](
        position=T["geometry_msgs/msg/Point"](x=x_m, y=0.0, z=0.0),
        orientation=T["geometry_msgs/msg/Quaternion"](x=0.0, y=0.0, z=0.0, w=1.0),
    )
    message = STORE.types[CHUNK_TYPE](
        header=_header(at_ns),
        epoch=0,
        sequence=0,
        action_space=0,
        time_step=step_s,
        horizon=len(gripper),
        data=data.ravel(),
        tool_pose=pose,
        instruction="",
        seed=0,
        committed_steps=0,
        policy_id="",
        inference_time=0.0,
    )
    return "/chunk", recorded_ns, message


def mask_at(at_ns: int, tool_px: tuple[float, float]) -> Entry:
    """A recorded token mask with the tool at a pixel."""
    message = STORE.types[MASK_TYPE](
        header=_header(at_ns),
        rows=16,
        columns=16,
        reason=np.zeros(256, np.uint8),
        tool_valid=True,
        tool_u=tool_px[0],
        tool_v=tool_px[1],
        tool_reason="",
    )
    return "/mask", at_ns, message


def gripper_to(at_ns: int, position: float) -> Entry:
    """A command to the gripper, without a stamp: at once."""
    point = T["trajectory_msgs/msg/JointTrajectoryPoint"](
        positions=np.array([position]),
        velocities=np.array([]),
        accelerations=np.array([]),
        effort=np.array([]),
        time_from_start=T["builtin_interfaces/msg/Duration"](sec=0, nanosec=10**8),
    )
    message = T["trajectory_msgs/msg/JointTrajectory"](header=_header(0), joint_names=["finger"], points=[point])
    return "/gripper", at_ns, message


def _header(at_ns: int) -> Any:
    stamp = T["builtin_interfaces/msg/Time"](sec=at_ns // 10**9, nanosec=at_ns % 10**9)
    return T["std_msgs/msg/Header"](stamp=stamp, frame_id="base")

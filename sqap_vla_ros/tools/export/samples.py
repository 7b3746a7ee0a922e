"""Samples of a recording: what the node would have planned on, with the joints, the gripper and the camera's pose.

All belong to the stamp of the image: transforms are interpolated by the transform tree, joints linearly between the two
messages around the stamp. A moment that is not bracketed is no sample, and is counted.
"""

from collections import deque
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sqap_vla_ros.bags.observations import Extrinsic, observations
from sqap_vla_ros.bags.reader import BagDamage
from sqap_vla_ros.bags.robot_bag import RobotBag
from sqap_vla_ros.bags.topics import BagTopics
from sqap_vla_ros.config.robot import Configuration
from sqap_vla_ros.core.clock import stamp_ns
from sqap_vla_ros.core.observation import Observation
from sqap_vla_ros.perception.camera import CameraError, CameraModel
from sqap_vla_ros.perception.transform_tree import TransformError, TransformTree

_COMMAND_TYPE = "trajectory_msgs/msg/JointTrajectory"
_KEPT_JOINT_STATES = 4000  # four seconds at 1 kHz: longer than an image waits


@dataclass(frozen=True)
class Sample:
    """One moment of a recording.

    Attributes:
        recorded_ns: Recording time that was reached when it was complete.
        observation: What the node would have planned on.
        joints: float64 (joints,), measured positions of `SampleReader.joints` [rad, m]; None: none are recorded.
        opens: Whether the gripper is open, or is to be; None: nothing says.
        T_base_camera: float64 (4, 4), pose of the camera's optical frame, metres; None: unknown.
    """

    recorded_ns: int
    observation: Observation
    joints: NDArray[np.float64] | None
    opens: bool | None
    T_base_camera: NDArray[np.float64] | None


class SampleReader:
    """Reads the samples of one recording.

    Args:
        bag: The recording.
        topics: Its topics.
        configuration: The robot's settings, with the topics of the bag.
        extrinsic: Pose of the camera, if the bag does not have it.

    Attributes:
        joints: Names of the measured joints that samples hold, in the robot file's order; empty: none are recorded.
        camera: Calibration of the camera; None before the first image, or without one.
        camera_frame: Optical frame of the camera.
        rejected: Why images are no samples, with the number of them.
        damage: The damage at which the recording ended; empty: it was read to its end.
    """

    def __init__(
        self, bag: RobotBag, topics: BagTopics, configuration: Configuration, extrinsic: Extrinsic | None
    ) -> None:
        self._bag, self._topics, self._robot, self._extrinsic = bag, topics, configuration, extrinsic
        self._tree = TransformTree(max_gap_s=configuration.freshness.transform)
        if extrinsic:
            self._tree.add(extrinsic.parent, extrinsic.child, 0, extrinsic.T_parent_child, static=True)
        self._joint_states: deque[tuple[int, dict[str, float]]] = deque(maxlen=_KEPT_JOINT_STATES)
        self._commanded: bool | None = None
        commands = configuration.topics.gripper_command
        self._commands = commands if bag.topic_types.get(commands) == _COMMAND_TYPE else ""
        self._now_ns = 0
        self.joints = self._measured_joints()
        self.camera: CameraModel | None = None
        self.camera_frame = configuration.frames.camera
        self.rejected: dict[str, int] = {}
        self.damage = ""

    def read(self, on_progress: Callable[[int], None]) -> Iterator[Sample]:
        """All samples, in the order of their stamps, up to a damage.

        Args:
            on_progress: Called with the recording time of each message, nanoseconds.
        """
        found = observations(
            self._bag,
            self._topics,
            self._robot,
            extrinsic=self._extrinsic,
            on_progress=on_progress,
            on_message=self._take,
            further_topics={self._bag.joint_states, self._commands} - {""},
        )
        try:
            for outcome in found:
                if not isinstance(outcome, Observation):
                    self._reject(outcome[1])
                elif self.joints and self._joints_at(outcome.stamp_ns) is None:
                    self._reject("no joint states around the image's stamp")
                else:
                    yield self._sample(outcome)
        except BagDamage as error:
            self.damage = str(error)

    def _take(self, topic: str, recorded_ns: int, message: Any) -> None:
        self._now_ns = recorded_ns
        if topic in self._topics.transforms:
            self._tree.add_message(message, static=topic.endswith("tf_static"))
        elif topic == self._topics.image:
            self.camera_frame = self.camera_frame or message.header.frame_id
        elif topic == self._topics.camera_info:
            with suppress(CameraError):  # then there is no ring either
                self.camera = CameraModel.from_camera_info(message)
        elif topic == self._bag.joint_states:
            self._joint_states.append((stamp_ns(message), dict(zip(message.name, message.position, strict=False))))
        elif topic == self._commands:
            command = self._robot.command
            with suppress(ValueError, IndexError):
                position = message.points[-1].positions[list(message.joint_names).index(command.gripper_joint)]
                self._commanded = self._is_open(position)

    def _sample(self, observation: Observation) -> Sample:
        at_ns, frames = observation.stamp_ns, self._robot.frames
        T_base_camera = None
        if self.camera_frame:
            with suppress(TransformError):
                T_base_camera = self._tree.lookup(frames.base, self.camera_frame, at_ns)
        joints = self._joints_at(at_ns) if self.joints else None
        opens = self._commanded
        if opens is None and joints is not None and self._robot.command.gripper_joint in self.joints:
            opens = self._is_open(joints[-1])
        return Sample(self._now_ns, observation, joints, opens, T_base_camera)

    def _joints_at(self, at_ns: int) -> NDArray[np.float64] | None:
        """Positions by linear interpolation; None where the messages do not bracket the time, or lack a joint."""
        later = next((index for index, (ns, _) in enumerate(self._joint_states) if ns >= at_ns), None)
        if later is None:
            return None
        after_ns, after = self._joint_states[later]
        before_ns, before = self._joint_states[max(later - 1, 0)]
        if after_ns != at_ns and (later == 0 or after_ns - before_ns > self._robot.freshness.joint_states * 1e9):
            return None
        share = 1.0 if after_ns == before_ns else (at_ns - before_ns) / (after_ns - before_ns)
        nan = float("nan")
        positions = [(1 - share) * before.get(name, nan) + share * after.get(name, nan) for name in self.joints]
        return np.array(positions) if np.isfinite(positions).all() else None

    def _measured_joints(self) -> tuple[str, ...]:
        """Those of the robot file that the first joint state holds; none unless the whole arm is among them."""
        command = self._robot.command
        with suppress(BagDamage):
            for _, _, message in self._bag.messages({self._bag.joint_states} - {""}):
                if set(command.joints) <= set(message.name):
                    gripper = {command.gripper_joint} & set(message.name)
                    return (*command.joints, *gripper)
                break
        return ()

    def _reject(self, reason: str) -> None:
        self.rejected[reason] = self.rejected.get(reason, 0) + 1

    def _is_open(self, position: float) -> bool:
        command = self._robot.command
        return abs(position - command.gripper_open) < abs(position - command.gripper_closed)

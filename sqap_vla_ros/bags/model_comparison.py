"""The robot model, compared with recorded or live transforms while they are read."""

from collections import deque
from typing import Any

from sqap_vla_ros.config.robot import Configuration
from sqap_vla_ros.control.commands import JointState
from sqap_vla_ros.control.joint_states import JointStates
from sqap_vla_ros.control.kinematics import Kinematics
from sqap_vla_ros.control.model_agreement import disagreement
from sqap_vla_ros.control.model_limits import velocity_doubts
from sqap_vla_ros.core.errors import in_one_line
from sqap_vla_ros.core.reasons import ReasonCounter
from sqap_vla_ros.perception.transform_tree import TransformTree

_KEPT = 512


class ModelComparison:
    """Compares a robot model with transforms, at moments that the caller chooses.

    Args:
        configuration: Frames, joints.

    Attributes:
        unusable: Why the model cannot be used; empty if it can. None: there is none.
        no_joints: Why there are no joint states of the arm; empty if there are.
        doubts: What is hardly meant in the model.
        compared: How often model and transforms were compared.
        differences: How they differed, a sentence each.
    """

    def __init__(self, configuration: Configuration) -> None:
        self._configuration = configuration
        self._joints = JointStates(configuration.command.joints, configuration.topics.joint_states)
        self._kinematics: Kinematics | None = None
        self._states: deque[JointState] = deque(maxlen=_KEPT)
        self.unusable: str | None = None
        self.no_joints = f"no joint states received on {configuration.topics.joint_states}"
        self.doubts: tuple[str, ...] = ()
        self.compared = 0
        self.differences = ReasonCounter()

    def set_model(self, model: str) -> None:
        """Take URDF text, or the path of a file."""
        configuration = self._configuration
        try:
            frames, joints = configuration.frames, configuration.command.joints
            self._kinematics = Kinematics(model, joints, frames.base, frames.tool)
        except Exception as error:  # a robot description can make a parser raise anything
            self._kinematics, self.unusable = None, in_one_line(error)
        else:
            self.unusable = ""
            self.doubts = velocity_doubts(joints, self._kinematics.velocity, configuration.limits)

    def add_joint_states(self, message: Any) -> None:
        """Take a recorded JointState message."""
        state = self._joints.add(message, self._states[-1] if self._states else None)
        if isinstance(state, JointState):
            self.take(state)
        elif state is not None and not self._states:
            self.no_joints = state

    def take(self, state: JointState) -> None:
        """Take the arm's joints."""
        if self._states and state.stamp_ns < self._states[-1].stamp_ns:
            self._states.clear()
        self._states.append(state)
        self.no_joints = ""

    def compare(self, tree: TransformTree) -> str:
        """Compare with the newest transforms; returns how they differ, or an empty string."""
        if self._kinematics is None or not self._states:
            return ""
        self.compared += 1
        sentence = disagreement(self._kinematics, self._configuration.frames, tree, self._states)
        if sentence:
            self.differences.add(sentence)
        return sentence

    def problem(self) -> str:
        """What is wrong with the model, in one sentence; empty when nothing was found."""
        if self.unusable:
            return self.unusable
        if not self.differences.total:
            return ""
        first = next(iter(self.differences.most_common()))
        return f"at {self.differences.total} of {self.compared} moments {first}"

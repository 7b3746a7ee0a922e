"""Evidence from a live set-up: a few seconds of the messages that the node would receive."""

from collections.abc import Callable
from typing import Any

from sqap_vla_ros.config.robot import Configuration
from sqap_vla_ros.control.commands import JointState
from sqap_vla_ros.core.policy import ONE_CAMERA, PolicyNeeds
from sqap_vla_ros.ros.listening import listen
from sqap_vla_ros.tools.doctor.evidence import Evidence


class _EvidenceSink:
    """Adds what the subscriptions receive to the evidence, with the time of arrival on the ROS clock."""

    def __init__(self, evidence: Evidence, now_ns: Callable[[], int]) -> None:
        self.configuration = evidence.configuration
        self.needs = evidence.needs
        self.joint_state: JointState | None = None
        self.no_joint_state_reason = f"no joint states received on {self.configuration.topics.joint_states}"
        self._evidence = evidence
        self._now_ns = now_ns

    def offer_image(self, message: Any) -> str:
        self._evidence.add_image(message, self._now_ns())
        return ""

    def set_camera_info(self, message: Any) -> bool:
        self._evidence.add_camera_info(message)
        return False  # several calibrations are one of the doctor's findings

    def offer_further_image(self, name: str, message: Any) -> str:
        self._evidence.add_further_image(name, message, self._now_ns())
        return ""

    def set_further_camera_info(self, name: str, message: Any) -> None:
        self._evidence.add_further_camera_info(name, message)

    def add_joint_states(self, message: Any) -> None:
        self._evidence.add_joint_states(message)

    def add_transforms(self, message: Any, static: bool) -> tuple[str, ...]:
        self._evidence.add_transforms(message, static, self._now_ns())
        return ()

    def take_joint_state(self, state: JointState) -> None:
        self.joint_state = state
        self._evidence.model.take(state)

    def reject_joint_states(self, reason: str) -> None:
        self.no_joint_state_reason = reason

    def measure_tool(self) -> None:
        pass  # the transforms themselves are the evidence

    def poll(self) -> None:
        self._evidence.poll(self._now_ns())

    def take_robot_description(self, text: str) -> None:
        self._evidence.model.set_model(text)
        self._evidence.robot_problem = self._evidence.model.unusable

    def take_instruction(self, text: str) -> None:
        self._evidence.add_instruction(text)


def read_live(
    configuration: Configuration,
    seconds: float,
    use_sim_time: bool,
    namespace: str,
    on_progress: Callable[[float], None],
    needs: PolicyNeeds = ONE_CAMERA,
) -> Evidence:
    """Collect evidence from a running set-up.

    Args:
        configuration: Topics, frames, and the source of the robot's model.
        seconds: How long to listen.
        use_sim_time: Whether stamps are of a simulated clock, /clock.
        namespace: Of the node.
        on_progress: Called with the seconds that have passed.
        needs: Cameras and state that the policy needs.
    """
    evidence = Evidence(configuration, needs)
    missing = f"none received on {configuration.topics.robot_description}"
    evidence.robot_problem = "" if configuration.command.moves_tool else missing

    def make_sink(now_ns: Callable[[], int]) -> _EvidenceSink:
        sink = _EvidenceSink(evidence, now_ns)
        if configuration.command.robot_model:
            sink.take_robot_description(configuration.command.robot_model)
        return sink

    sink, evidence.controllers = listen(make_sink, seconds, use_sim_time, namespace, on_progress)
    known = configuration.command.moves_tool or sink.joint_state is not None
    evidence.joint_problem = "" if known else sink.no_joint_state_reason
    return evidence

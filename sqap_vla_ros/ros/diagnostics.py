# Copyright 2026 The sqap_vla maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""What the node reports about itself: PolicyStatus for programs, /diagnostics for people and monitors."""

import math

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from rclpy.node import Node
from sqap_vla.msg import PolicyStatus
from std_msgs.msg import Header

from sqap_vla_ros.control.safety.states import MotionState
from sqap_vla_ros.core.clock import Clock
from sqap_vla_ros.core.policy import PolicyMetadata
from sqap_vla_ros.core.rejection import Cause, Rejection
from sqap_vla_ros.ros.control_loop import ControlLoop
from sqap_vla_ros.ros.conversions import time_message
from sqap_vla_ros.ros.statistics import percentile

_LEVELS = {
    MotionState.UNCONFIGURED: DiagnosticStatus.WARN,
    MotionState.INACTIVE: DiagnosticStatus.OK,
    MotionState.WAITING: DiagnosticStatus.WARN,
    MotionState.RUNNING: DiagnosticStatus.OK,
    MotionState.FAULT: DiagnosticStatus.ERROR,
    MotionState.STOPPED: DiagnosticStatus.WARN,
}


def unconfigured_status(why: Rejection | None, progress: str, clock: Clock) -> PolicyStatus:
    """
    Report the state of a node without a policy.

    :param why: Why the last `configure` failed, or that somebody stopped the arm; None otherwise.
    :param progress: What the policy's process does while it loads, a sentence.
    :param clock: For the stamp.
    """
    details = [progress] if progress else []
    if why is not None:
        details.append(
            f"{why.sentence}; call ~/resume to go on" if why.cause is Cause.STOPPED_BY_USER else why.sentence
        )
    status = PolicyStatus(stamp=time_message(clock.now_ns()), detail="; ".join(details))
    status.cause = why.cause if why else ""
    status.image_age = status.camera_info_age = status.transform_age = status.joint_state_age = math.nan
    status.latency_p50 = status.latency_p95 = status.overhead_p99 = math.nan
    return status


def status_message(loop: ControlLoop, metadata: PolicyMetadata, clock: Clock) -> PolicyStatus:
    """Report the state of a configured node."""
    now_ns = clock.now_ns()
    status = PolicyStatus(stamp=time_message(now_ns))
    state, why = loop.supervisor.state()
    status.state = state.value
    if why is not None:
        status.cause, status.detail = why.cause.value, why.sentence
    elif loop.supervisor.is_dry_run:
        status.detail = "dry run: nothing is commanded"
    status.instruction = loop.inputs.instruction
    status.controller = loop.supervisor.controller
    status.policy_id, status.weights = metadata.policy_id, metadata.weights
    ages = loop.inputs.ages_s(now_ns)
    status.image_age, status.camera_info_age = ages.image, ages.camera_info
    status.transform_age, status.joint_state_age = ages.transform, ages.joint_states
    statistics = loop.inputs.statistics
    status.latency_p50 = percentile(statistics.latencies_s, 50)
    status.latency_p95 = percentile(statistics.latencies_s, 95)
    status.overhead_p99 = percentile(statistics.overheads_s, 99)
    status.plan_rate = statistics.plan_rate_hz(clock.steady_ns() * 1e-9)
    status.images_received = statistics.images_received
    status.images_dropped = loop.inputs.images_dropped
    status.images_refused = statistics.images_refused
    status.chunks_published = statistics.chunks_published
    status.chunks_without_ring = statistics.chunks_without_ring
    status.commands_published = statistics.commands_published
    status.commands_clipped = statistics.commands_clipped
    status.commands_refused = statistics.commands_refused
    if statistics.last_rejection is not None:
        status.last_refusal = statistics.last_rejection.sentence
        status.last_rejection_cause = statistics.last_rejection.cause.value
    return status


def diagnostics_message(status: PolicyStatus, node: Node) -> DiagnosticArray:
    """
    Report a state as a diagnostic: the level, one sentence, and the cause and the figures as keys and values.

    :param status: The state.
    :param node: It names itself and, by the parameter robot_name, the hardware.
    """
    state = MotionState(status.state)
    failed = status.cause == Cause.CONFIGURATION_FAILED
    stands_still = state is MotionState.RUNNING and status.cause
    level = DiagnosticStatus.ERROR if failed else DiagnosticStatus.WARN if stands_still else _LEVELS[state]
    values = [
        KeyValue(key=field, value=f"{value:.4g}" if isinstance(value, float) else str(value))
        for field in status.get_fields_and_field_types()
        if field not in ("stamp", "state", "detail")
        for value in [getattr(status, field)]
    ]
    name = state.name.lower()
    message = f"{name}: {status.detail}" if status.detail else name
    diagnostic = DiagnosticStatus(
        level=level,
        name=f"{node.get_fully_qualified_name()}: policy",
        message=message,
        hardware_id=node.get_parameter("robot_name").value,
        values=values,
    )
    return DiagnosticArray(header=Header(stamp=status.stamp), status=[diagnostic])

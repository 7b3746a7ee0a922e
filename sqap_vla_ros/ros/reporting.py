"""What the node says about itself: PolicyStatus for programs, /diagnostics for people and monitors."""

import math

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from sqap_vla.msg import PolicyStatus
from std_msgs.msg import Header

from sqap_vla_ros.control.safety.states import MotionState
from sqap_vla_ros.core.policy import PolicyMetadata
from sqap_vla_ros.ros.conversions import time_message
from sqap_vla_ros.ros.pipeline import Pipeline
from sqap_vla_ros.ros.statistics import percentile

_STATE_WORDS = {
    PolicyStatus.UNCONFIGURED: "unconfigured",
    PolicyStatus.INACTIVE: "inactive",
    PolicyStatus.WAITING: "waiting",
    PolicyStatus.RUNNING: "running",
    PolicyStatus.FAULT: "fault",
}


def status_message(
    pipeline: Pipeline | None,
    metadata: PolicyMetadata | None,
    active: bool,
    problem: str,
    now_ns: int,
    monotonic_s: float,
) -> PolicyStatus:
    """The node's state in one message.

    Args:
        pipeline: Of the configured node, or None.
        metadata: Of the loaded policy, or None.
        active: Whether the node is active.
        problem: In words, why the last `configure` failed; empty otherwise.
        now_ns: ROS clock.
        monotonic_s: Monotonic clock.
    """
    nan = math.nan
    status = PolicyStatus(stamp=time_message(now_ns), detail=problem)
    status.image_age = status.camera_info_age = status.transform_age = status.joint_state_age = nan
    status.latency_p50 = status.latency_p95 = status.overhead_p99 = nan
    if pipeline is None or metadata is None:
        return status
    status.state, status.detail = _state(pipeline, active, now_ns)
    status.instruction = pipeline.instruction
    status.policy_id, status.weights = metadata.policy_id, metadata.weights
    ages = pipeline.ages_s(now_ns)
    status.image_age, status.camera_info_age = ages.image, ages.camera_info
    status.transform_age, status.joint_state_age = ages.transform, ages.joint_states
    statistics = pipeline.statistics
    status.latency_p50 = percentile(statistics.latencies_s, 50)
    status.latency_p95 = percentile(statistics.latencies_s, 95)
    status.overhead_p99 = percentile(statistics.overheads_s, 99)
    status.plan_rate = statistics.plan_rate_hz(monotonic_s)
    status.images_received = statistics.images_received
    status.images_dropped = pipeline.assembler.dropped
    status.images_refused = statistics.images_refused
    status.chunks_published = statistics.chunks_published
    status.chunks_without_ring = statistics.chunks_without_ring
    status.commands_published = statistics.commands_published
    status.commands_clipped = statistics.commands_clipped
    status.commands_refused = statistics.commands_refused
    status.last_refusal = statistics.last_rejection.sentence if statistics.last_rejection else ""
    return status


def _state(pipeline: Pipeline, active: bool, now_ns: int) -> tuple[int, str]:
    unplanned = pipeline.statistics.unplanned(pipeline.configuration.freshness.image)
    state, why = pipeline.gate.state(pipeline.gate_inputs(now_ns), active=active, unplanned=unplanned)
    if state is MotionState.STOPPED:
        return PolicyStatus.WAITING, why.sentence if why else ""
    if why is not None:
        return state.value, why.sentence
    return state.value, "dry run: nothing is commanded" if pipeline.configuration.dry_run else ""


def diagnostics_message(status: PolicyStatus, node_name: str) -> DiagnosticArray:
    """The same state as a diagnostic: the level, one sentence, and the figures as key and value."""
    levels = {
        PolicyStatus.RUNNING: DiagnosticStatus.OK,
        PolicyStatus.INACTIVE: DiagnosticStatus.OK,
        PolicyStatus.FAULT: DiagnosticStatus.ERROR,
    }
    level = levels.get(status.state, DiagnosticStatus.WARN)
    if status.state == PolicyStatus.UNCONFIGURED and status.detail:
        level = DiagnosticStatus.ERROR
    values = [
        KeyValue(key=field, value=f"{value:.4g}" if isinstance(value, float) else str(value))
        for field in status.get_fields_and_field_types()
        if field not in ("stamp", "state", "detail")
        for value in [getattr(status, field)]
    ]
    words = _STATE_WORDS[status.state]
    message = f"{words}: {status.detail}" if status.detail else words
    diagnostic = DiagnosticStatus(level=level, name=f"{node_name}: policy", message=message, values=values)
    return DiagnosticArray(header=Header(stamp=status.stamp), status=[diagnostic])

# Copyright 2026 The sqap_vla maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""
The node: camera images in, arm trajectories out.

A lifecycle node. Configured, it has loaded the policy (one plan done, so that nothing slow is left for the first
image); active, it plans on the newest image and commands the arm; deactivated, it first brings the arm to rest. Its
callbacks only move data: the policy runs in a process of its own, and `ControlLoop` decides.
"""

from typing import Any

import rclpy.clock
from diagnostic_msgs.msg import DiagnosticArray
from rclpy.clock import ClockType
from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn
from sqap_vla.msg import PolicyMetadata as PolicyMetadataMessage
from sqap_vla.msg import PolicyStatus

from sqap_vla_ros.config.files import ConfigurationError
from sqap_vla_ros.config.robot import LONGEST_INSTRUCTION, Configuration
from sqap_vla_ros.control.jerk_qp import require_solver
from sqap_vla_ros.control.outputs import output_of
from sqap_vla_ros.control.tool_space import ToolSpace
from sqap_vla_ros.core.errors import in_one_line
from sqap_vla_ros.core.instruction import warning_about
from sqap_vla_ros.core.policy import PolicyMetadata
from sqap_vla_ros.core.rejection import Cause, Rejection, Response
from sqap_vla_ros.perception.needs import require
from sqap_vla_ros.policies.registry import load_policy
from sqap_vla_ros.ros import conversions, diagnostics
from sqap_vla_ros.ros.arm_publishers import check_gripper
from sqap_vla_ros.ros.control_loop import ControlLoop
from sqap_vla_ros.ros.execute_action import ExecuteAction
from sqap_vla_ros.ros.parameters import NodeParameters
from sqap_vla_ros.ros.policy_messages import Failed, PolicyFactory, Progress, Ready
from sqap_vla_ros.ros.policy_process import PolicyProcess
from sqap_vla_ros.ros.policy_runner import PolicyRunner
from sqap_vla_ros.ros.publishers import UNWATCHED, Publishers
from sqap_vla_ros.ros.ros_clock import RosClock
from sqap_vla_ros.ros.statistics import TickStatistics
from sqap_vla_ros.ros.stop_services import StopServices
from sqap_vla_ros.ros.subscriptions import LATCHED, Subscriptions

STATUS_PERIOD_S = 0.2
POLL_PERIOD_S = 0.02
REMINDER_S = 10.0  # a log that is looked at hours later must still say why the node does nothing


class PolicyNode(LifecycleNode):
    """
    The policy on real topics.

    :param policy_factory: Builds the policy in its process.
    :param node_arguments: For rclpy's node (parameter overrides, namespace, context).

    :ivar execute: Server of the action `~/execute`.
    :ivar interrupted: Set (by a signal handler) to give up waiting for a policy that is still loading.
    """

    def __init__(self, policy_factory: PolicyFactory = load_policy, **node_arguments: Any) -> None:
        super().__init__("sqap_vla", **node_arguments)
        self._policy_factory = policy_factory
        self._settings = NodeParameters(self, self._parameter_changed)
        self._clocks = RosClock(self)
        self._policy: PolicyRunner | None = None
        self._loop: ControlLoop | None = None
        self._topic_inputs: Subscriptions | None = None
        self._topic_outputs: Publishers | None = None
        self._metadata: PolicyMetadata | None = None
        self._stream_timer: Any = None
        self._had_fault = False
        self._problem: Rejection | None = None
        self._progress = ""
        self.interrupted = False
        self._wake = self.create_guard_condition(self._handle_reports)
        self._status_publisher = self.create_publisher(PolicyStatus, "~/status", 10, event_callbacks=UNWATCHED)
        self._diagnostics = self.create_publisher(DiagnosticArray, "/diagnostics", 10, event_callbacks=UNWATCHED)
        self._metadata_publisher = self.create_publisher(
            PolicyMetadataMessage, "~/metadata", LATCHED, event_callbacks=UNWATCHED
        )
        self.execute = ExecuteAction(self, lambda: self._loop, self._clocks)
        self._stopping = StopServices(self, lambda: self._loop, self._clocks, on_stop=self.execute.watch)
        # Steady time: the status must go on, and waiting must end, also while a simulated clock stands still.
        steady = rclpy.clock.Clock(clock_type=ClockType.STEADY_TIME)
        self.create_timer(STATUS_PERIOD_S, self._report_status, clock=steady)
        self.create_timer(POLL_PERIOD_S, self._poll, clock=steady)

    @property
    def statistics(self) -> TickStatistics | None:
        """Return counts and times since activation; None while nothing is configured."""
        return None if self._loop is None else self._loop.inputs.statistics

    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Load the policy, plan once, subscribe to everything but the image."""
        try:
            self._configure(self._settings.configuration())
        except Exception as error:  # the cause reaches log and status as a sentence, and the node goes on unconfigured
            self._problem = Rejection(Cause.CONFIGURATION_FAILED, Response.HOLD, in_one_line(error))
            self.get_logger().error(f"not configured: {self._problem.sentence}")
            self._release()
            return TransitionCallbackReturn.FAILURE
        return super().on_configure(state)

    def _configure(self, configuration: Configuration) -> None:
        self._problem = None
        check_gripper(configuration)
        tool_space = None
        if configuration.command.moves_tool:
            tool_space = ToolSpace(configuration.limits)
            require_solver()
        policy = self._policy = PolicyRunner(
            lambda on_report: PolicyProcess(self._policy_factory, configuration, on_report),
            self._wake.trigger,
            self._clocks,
            configuration.plan_timeout,
        )
        metadata = self._await_policy(policy)
        require(metadata.needs, configuration, metadata.policy)
        output = output_of(configuration, tool_space)
        publishers = self._topic_outputs = Publishers(self, configuration, output, metadata.policy_id)
        log = self.get_logger()
        loop = ControlLoop(configuration, tool_space, policy, publishers, self._clocks, log, metadata.needs)
        self._loop = loop
        if self._stopping.stopped is not None:
            loop.supervisor.stop(self._stopping.stopped)
        if output.streams:
            # Steady time: a clock that is set back would silence the timer, and with it leave the last twist in force.
            simulated = self.get_parameter("use_sim_time").value
            clock = self.get_clock() if simulated else rclpy.clock.Clock(clock_type=ClockType.STEADY_TIME)
            spacing_s = configuration.command.point_spacing
            self._stream_timer = self.create_timer(spacing_s, loop.supervisor.stream, clock=clock)
        self._topic_inputs = Subscriptions(
            self,
            loop.inputs,
            on_input=loop.begin_tick,
            on_robot_description=loop.supervisor.set_robot_description,
            on_instruction=self._receive_instruction,
            on_enable=loop.supervisor.gate.enable,
            on_speed_scaling=loop.inputs.take_speed_scaling,
        )
        self._metadata = metadata
        self._settings.locked = True
        robot, now_ns = configuration.robot_name, self._clocks.now_ns()
        self._metadata_publisher.publish(conversions.metadata_message(metadata, robot, now_ns))
        self.get_logger().info(
            f"configured: policy {metadata.policy_id} on {metadata.device}, weights: {metadata.weights}, "
            f"{metadata.kept_tokens} of {metadata.visual_tokens} tokens"
        )
        if not (configuration.tried_on_hardware or configuration.dry_run):
            self.get_logger().warning(f"the settings of robot '{configuration.robot_name}' were not tried on hardware")
        if configuration.dry_run:
            self.get_logger().warning("dry run: nothing is commanded; set dry_run to false to move the arm")

    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Start planning on images."""
        assert self._loop is not None and self._topic_inputs is not None and self._topic_outputs is not None
        try:
            self._topic_inputs.watch_image_topic()
        except Exception as error:
            self.get_logger().error(f"not activated: {in_one_line(error)}")
            return TransitionCallbackReturn.FAILURE
        self._topic_outputs.restart_count()
        self._loop.supervisor.activate()
        if inhibited := self._loop.supervisor.inhibit(self._clocks.now_ns()):
            self.get_logger().info(f"active, and waiting ({inhibited.cause}): {inhibited.sentence}")
        return super().on_activate(state)

    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Bring the arm to rest, then stop planning."""
        self._halt()
        return super().on_deactivate(state)

    def on_cleanup(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Unload the policy."""
        self._release()
        return super().on_cleanup(state)

    def on_shutdown(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Bring the arm to rest and end the policy's process."""
        self.close()
        return super().on_shutdown(state)

    def on_error(self, state: LifecycleState) -> TransitionCallbackReturn:
        """After an error in a transition: the arm at rest, the node unconfigured and alive."""
        self.close()
        return TransitionCallbackReturn.SUCCESS

    def start(self) -> bool:
        """Configure and activate, for a node that nobody else takes through its life cycle; returns whether it is."""
        is_configured = self.trigger_configure() == TransitionCallbackReturn.SUCCESS
        return is_configured and self.trigger_activate() == TransitionCallbackReturn.SUCCESS

    def close(self) -> None:
        """Leave nothing behind: the arm's ramp to rest published, the policy's process ended."""
        self._halt()
        self._release()

    def destroy_node(self) -> None:
        """End what the node's own destruction leaves."""
        self.execute.destroy()
        super().destroy_node()

    def _halt(self) -> None:
        """No new plans first, whatever follows; then the ramp."""
        if self._topic_inputs is not None:
            self._topic_inputs.ignore_images()
        if self._loop is not None:
            self._loop.supervisor.deactivate()
            self.execute.abort("the node was deactivated or shut down")

    def _release(self) -> None:
        self.execute.finish()
        if self._topic_inputs is not None:
            self._topic_inputs.destroy()
            self._topic_inputs = None
        if self._topic_outputs is not None:
            self._topic_outputs.destroy()
            self._topic_outputs = None
        if self._stream_timer is not None:
            self.destroy_timer(self._stream_timer)
            self._stream_timer = None
        if self._loop is not None:
            self._stopping.stopped = self._loop.supervisor.gate.stopped
            self._loop = None
        if self._policy is not None:
            self._policy.close()
            self._policy = None
        self._metadata, self._progress = None, ""
        self._settings.locked = False

    def _await_policy(self, policy: PolicyRunner) -> PolicyMetadata:
        """Publish the status meanwhile: the executor stands still."""
        while self.context.ok() and not self.interrupted:
            self._report_status()
            self._stopping.serve_waiting()
            report = policy.wait_for_report(STATUS_PERIOD_S)
            if isinstance(report, Progress):
                self._progress = report.text
                self.get_logger().info(report.text)
            elif isinstance(report, Ready):
                return report.metadata
            elif isinstance(report, Failed):
                raise ConfigurationError(report.reason)
        raise ConfigurationError("interrupted while the policy was loading")

    def _receive_instruction(self, text: str) -> None:
        if len(text) > LONGEST_INSTRUCTION:
            self.get_logger().warning(
                f"instruction rejected: {len(text)} characters, at most {LONGEST_INSTRUCTION} are allowed",
                throttle_duration_sec=1.0,
            )
        elif self._loop is not None and self._loop.supervisor.set_instruction(text):
            self.execute.preempt(text)
            self.get_logger().info(f"instruction: {text!r}", throttle_duration_sec=0.1)
            if warning := warning_about(text):
                self.get_logger().warning(warning, throttle_duration_sec=1.0)

    def _parameter_changed(self, name: str, value: Any) -> None:
        if name == "instruction":
            self._receive_instruction(value)
        elif name == "dry_run" and self._loop is not None:
            self._loop.supervisor.set_dry_run(value)

    def _poll(self) -> None:
        if self._loop is not None:
            self._loop.supervisor.watch()
            self.execute.watch()
            self._loop.begin_tick()

    def _handle_reports(self) -> None:
        if self._loop is not None:
            self._loop.handle_reports()

    def _report_status(self) -> None:
        if self._loop is None or self._metadata is None:
            if self._problem is not None:
                again = f"start the node again, or: ros2 lifecycle set {self.get_fully_qualified_name()} configure"
                reminder = f"still not configured: {self._problem.sentence}; correct it, then {again}"
                self.get_logger().error(reminder, throttle_duration_sec=REMINDER_S, skip_first=True)
            why = self._problem or self._stopping.stopped
            status = diagnostics.unconfigured_status(why, self._progress, self._clocks)
        else:
            supervisor = self._loop.supervisor
            if supervisor.is_active and self._topic_inputs is not None:
                self._topic_inputs.watch_image_topic()
                supervisor.unreachable = self._topic_inputs.incompatible()
            status = diagnostics.status_message(self._loop, self._metadata, self._clocks)
        has_fault = status.state == PolicyStatus.FAULT
        if has_fault and not self._had_fault:
            advice = "nothing is commanded (if it lasts: deactivate, clean up and configure)"
            self.get_logger().error(f"{status.detail}; {advice}")
        self._had_fault = has_fault
        self._status_publisher.publish(status)
        self._diagnostics.publish(diagnostics.diagnostics_message(status, self))

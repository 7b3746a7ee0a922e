"""The node: camera images in, arm trajectories out.

A lifecycle node. Configured, it has loaded the policy (one plan done, so that nothing slow is left for the first
image); active, it plans on the latest image and commands the arm; deactivated, it first brings the arm to rest. Its
callbacks only move data: thinking happens in the worker's process, deciding in `Pipeline`.
"""

import queue
import time
from typing import Any

from diagnostic_msgs.msg import DiagnosticArray
from rclpy.clock import Clock, ClockType
from rclpy.event_handler import PublisherEventCallbacks
from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn
from sqap_vla.msg import ActionChunk, PolicyStatus, TokenMask
from sqap_vla.msg import PolicyMetadata as PolicyMetadataMessage
from trajectory_msgs.msg import JointTrajectory

from sqap_vla_ros.config import Configuration
from sqap_vla_ros.config_files import ConfigurationError
from sqap_vla_ros.control.commander import Command, Commander
from sqap_vla_ros.control.kinematics import Kinematics
from sqap_vla_ros.errors import in_one_line
from sqap_vla_ros.node import conversions, reporting
from sqap_vla_ros.node.inputs import LATCHED, Inputs
from sqap_vla_ros.node.parameters import NodeParameters
from sqap_vla_ros.node.pipeline import Pipeline, Tick
from sqap_vla_ros.node.statistics import TickStatistics
from sqap_vla_ros.node.worker import Failed, Planned, PolicyFactory, Progress, Ready
from sqap_vla_ros.policy import load_policy
from sqap_vla_ros.policy_config import PolicyMetadata

STATUS_PERIOD_S = 0.2
POLL_PERIOD_S = 0.02
# Every watched event makes each of the executor's rounds longer; for what only people look at, that is not worth it.
_UNWATCHED = PublisherEventCallbacks(use_default_callbacks=False)


class PolicyNode(LifecycleNode):
    """The policy on real topics.

    Args:
        policy_factory: Builds the policy in the worker's process.
        **node_arguments: For rclpy's node (parameter overrides, namespace, context).

    Attributes:
        interrupted: Set (by a signal handler) to give up waiting for a policy that is still loading.
    """

    def __init__(self, policy_factory: PolicyFactory = load_policy, **node_arguments: Any) -> None:
        super().__init__("sqap_vla", **node_arguments)
        self._policy_factory = policy_factory
        self._settings = NodeParameters(self, self._parameter_changed)
        self._pipeline: Pipeline | None = None
        self._inputs: Inputs | None = None
        self._metadata: PolicyMetadata | None = None
        self._outputs: list[Any] = []
        self._active = False
        self._had_fault = False
        self._problem = ""
        self._sequence = 0
        self.interrupted = False
        self._wake = self.create_guard_condition(self._handle_reports)
        self._status_publisher = self.create_publisher(PolicyStatus, "~/status", 10, event_callbacks=_UNWATCHED)
        self._diagnostics_publisher = self.create_publisher(
            DiagnosticArray, "/diagnostics", 10, event_callbacks=_UNWATCHED
        )
        self._metadata_publisher = self.create_publisher(
            PolicyMetadataMessage, "~/metadata", LATCHED, event_callbacks=_UNWATCHED
        )
        # Steady time: the status must go on, and waiting must end, also while a simulated clock stands still.
        steady = Clock(clock_type=ClockType.STEADY_TIME)
        self.create_timer(STATUS_PERIOD_S, self._report_status, clock=steady)
        self.create_timer(POLL_PERIOD_S, self._advance, clock=steady)

    @property
    def statistics(self) -> TickStatistics | None:
        """Counts and times since activation; None while nothing is configured."""
        return None if self._pipeline is None else self._pipeline.statistics

    # Lifecycle

    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Load the policy, plan once, subscribe to everything but the image."""
        try:
            self._configure()
        except Exception as error:  # whatever it is: a sentence in log and status, and the node goes on unconfigured
            self._problem = in_one_line(error)
            self.get_logger().error(f"not configured: {self._problem}")
            self._release()
            return TransitionCallbackReturn.FAILURE
        return super().on_configure(state)

    def _configure(self) -> None:
        configuration = self._settings.configuration()
        self._pipeline = Pipeline(configuration, self._policy_factory, self._wake.trigger)
        metadata = self._await_policy(self._pipeline)
        if configuration.command.robot_model:
            self._pipeline.commander = self._commander(configuration.command.robot_model)
        self._create_outputs(configuration)
        self._inputs = Inputs(
            self, self._pipeline, self._advance, self._receive_robot_description, self._receive_instruction
        )
        self._metadata = metadata
        self._problem = ""
        self._settings.locked = True
        self._metadata_publisher.publish(
            conversions.metadata_message(self._metadata, configuration.robot_name, self._now_ns())
        )
        self.get_logger().info(
            f"configured: policy {self._metadata.policy_id} on {self._metadata.device}, "
            f"weights: {self._metadata.weights}, {self._metadata.kept_tokens} of {self._metadata.visual_tokens} tokens"
        )
        if not (configuration.tried_on_hardware or configuration.dry_run):
            self.get_logger().warning(f"the settings of robot '{configuration.robot_name}' were not tried on hardware")
        if configuration.dry_run:
            self.get_logger().warning("dry run: nothing is commanded; set dry_run to false to move the arm")

    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Start planning on images."""
        assert self._pipeline is not None and self._inputs is not None
        try:
            self._inputs.watch_image_topic()
        except Exception as error:
            self._problem = in_one_line(error)
            self.get_logger().error(f"not activated: {self._problem}")
            return TransitionCallbackReturn.FAILURE
        self._pipeline.activate()
        self._sequence = 0
        self._active = True
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

    def start(self) -> None:
        """Configure and activate, for a node that nobody else takes through its life cycle."""
        if self.trigger_configure() == TransitionCallbackReturn.SUCCESS:
            self.trigger_activate()

    def close(self) -> None:
        """Leave nothing behind: the arm's ramp to rest published, the policy's process ended."""
        self._halt()
        self._release()

    def _halt(self) -> None:
        """No new plans first, whatever follows; then the ramp."""
        was_active, self._active = self._active, False
        if self._inputs is not None:
            self._inputs.ignore_images()
        if self._pipeline is not None and was_active:
            self._pipeline.begin_epoch()
            self._ramp_to_rest(self._pipeline)

    def _ramp_to_rest(self, pipeline: Pipeline) -> None:
        """Bring the arm to rest; without a ramp it comes to rest at the end of its trajectory."""
        if pipeline.commander is None:
            return
        try:
            ramp = pipeline.commander.stop(self._now_ns())
            if ramp is not None:
                self._publish_command(pipeline, ramp)
        except Exception as error:
            self.get_logger().error(f"no ramp to rest, the arm ends its last trajectory: {in_one_line(error)}")

    def _release(self) -> None:
        if self._inputs is not None:
            self._inputs.destroy()
            self._inputs = None
        for publisher in self._outputs:
            self._managed_entities.discard(publisher)
            self.destroy_publisher(publisher)
        self._outputs = []
        if self._pipeline is not None:
            self._pipeline.worker.close()
            self._pipeline = None
        self._metadata = None
        self._settings.locked = False

    def _await_policy(self, pipeline: Pipeline) -> PolicyMetadata:
        """The executor stands still meanwhile, so the status is published from here."""
        while self.context.ok() and not self.interrupted:
            self._report_status()
            try:
                report = pipeline.reports.get(timeout=STATUS_PERIOD_S)
            except queue.Empty:
                continue
            if isinstance(report, Progress):
                self._problem = report.text
                self.get_logger().info(report.text)
            elif isinstance(report, Ready):
                return report.metadata
            elif isinstance(report, Failed):
                raise ConfigurationError(report.reason)
        raise ConfigurationError("interrupted while the policy was loading")

    def _create_outputs(self, configuration: Configuration) -> None:
        topics = configuration.topics
        self._chunk_publisher = self.create_lifecycle_publisher(ActionChunk, "~/chunk", 10, event_callbacks=_UNWATCHED)
        self._mask_publisher = self.create_lifecycle_publisher(
            TokenMask, "~/token_mask", 10, event_callbacks=_UNWATCHED
        )
        self._command_publisher = self.create_lifecycle_publisher(JointTrajectory, topics.command, 1)
        self._outputs = [self._chunk_publisher, self._mask_publisher, self._command_publisher]
        self._gripper_publisher = None
        if topics.gripper_command:
            self._gripper_publisher = self.create_lifecycle_publisher(JointTrajectory, topics.gripper_command, 1)
            self._outputs.append(self._gripper_publisher)

    # Inputs

    def _now_ns(self) -> int:
        return self.get_clock().now().nanoseconds

    def _receive_instruction(self, text: str) -> None:
        if self._pipeline is not None and self._pipeline.set_instruction(text):
            self.get_logger().info(f"instruction: {text!r}")

    def _receive_robot_description(self, description: str) -> None:
        """A model for the arm; another one than before replaces it once the arm has been told to rest."""
        assert self._pipeline is not None
        if description == self._pipeline.robot_description:
            return
        self._ramp_to_rest(self._pipeline)
        self._pipeline.robot_description, self._pipeline.commander = description, None
        try:
            self._pipeline.commander = self._commander(description)
        except Exception as error:
            self._pipeline.no_commander_reason = in_one_line(error)
            self.get_logger().error(f"no commands: {self._pipeline.no_commander_reason}")

    def _commander(self, model: str) -> Commander:
        assert self._pipeline is not None
        configuration = self._pipeline.configuration
        frames = configuration.frames
        return Commander(configuration, Kinematics(model, configuration.command.joints, frames.base, frames.tool))

    def _parameter_changed(self, name: str, value: Any) -> None:
        if name == "instruction":
            self._receive_instruction(value)
        elif name == "dry_run" and self._pipeline is not None:
            if value and self._active:
                self._ramp_to_rest(self._pipeline)
            self._pipeline.configuration = self._pipeline.configuration.model_copy(update={"dry_run": value})

    # Ticks

    def _handle_reports(self) -> None:
        """What the worker's thread has put into the pipeline's queue."""
        pipeline = self._pipeline
        if pipeline is None or not self._settings.locked:
            return
        while not pipeline.reports.empty():
            report = pipeline.reports.get()
            if isinstance(report, Failed):
                pipeline.dead = report.reason
            elif isinstance(report, Planned):
                tick = pipeline.finish(report, self._now_ns())
                if tick is not None and self._active:
                    self._publish_tick(pipeline, tick)
        self._advance()

    def _advance(self) -> None:
        if self._active and self._pipeline is not None:
            refusal = self._pipeline.advance(self._now_ns())
            if refusal:
                self._refuse(refusal)

    def _publish_tick(self, pipeline: Pipeline, tick: Tick) -> None:
        assert self._metadata is not None
        statistics, configuration = pipeline.statistics, pipeline.configuration
        if tick.command is not None:
            if not configuration.dry_run:
                self._publish_command(pipeline, tick.command)
                statistics.commands_published += 1
            published_ns = time.monotonic_ns()
            statistics.commands_clipped += bool(tick.command.clipped)
            statistics.latencies_s.append((self._now_ns() - tick.observation.stamp_ns) * 1e-9)
            statistics.overheads_s.append(tick.overhead_s(published_ns))
        else:
            self._refuse(tick.refusal)
        if tick.chunk is None:
            return
        self._sequence += 1
        statistics.count_chunk(with_ring=tick.chunk.tool_px is not None)
        self._chunk_publisher.publish(
            conversions.chunk_message(
                tick.chunk, configuration.frames.base, pipeline.epoch, self._sequence, self._metadata.policy_id
            )
        )
        self._mask_publisher.publish(conversions.token_mask_message(tick.chunk, pipeline.camera_frame))

    def _publish_command(self, pipeline: Pipeline, command: Command) -> None:
        assert pipeline.commander is not None
        configuration = pipeline.configuration
        self._command_publisher.publish(
            conversions.trajectory_message(
                command.trajectory, configuration.command.joints, command.start_ns, configuration.frames.base
            )
        )
        if command.gripper is not None and self._gripper_publisher is not None:
            self._gripper_publisher.publish(
                conversions.gripper_message(configuration.command.gripper_joint, command.gripper)
            )
        pipeline.commander.published(command, self._now_ns())

    def _refuse(self, reason: str) -> None:
        assert self._pipeline is not None
        if self._pipeline.statistics.refuse(reason):
            self.get_logger().warning(f"no command: {reason}")

    def _report_status(self) -> None:
        if self._active and self._inputs is not None:
            self._inputs.watch_image_topic()
        fault = "" if self._pipeline is None or self._metadata is None else self._pipeline.fault
        if fault and not self._had_fault:
            self.get_logger().error(f"{fault}; nothing is commanded (deactivate, clean up and configure to start anew)")
        self._had_fault = bool(fault)
        status = reporting.status_message(
            self._pipeline, self._metadata, self._active, self._problem, self._now_ns(), time.monotonic()
        )
        self._status_publisher.publish(status)
        self._diagnostics_publisher.publish(reporting.diagnostics_message(status, self.get_fully_qualified_name()))

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
from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn
from sqap_vla.msg import PolicyMetadata as PolicyMetadataMessage
from sqap_vla.msg import PolicyStatus
from std_srvs.srv import Trigger

from sqap_vla_ros.config.files import ConfigurationError
from sqap_vla_ros.config.robot import LONGEST_INSTRUCTION
from sqap_vla_ros.control.commander import Commander
from sqap_vla_ros.control.kinematics import Kinematics
from sqap_vla_ros.control.outputs import output_of
from sqap_vla_ros.control.tool_space import ToolSpace
from sqap_vla_ros.core.errors import in_one_line
from sqap_vla_ros.core.policy import PolicyMetadata
from sqap_vla_ros.core.rejection import Cause, Rejection, Response
from sqap_vla_ros.policies.registry import load_policy
from sqap_vla_ros.ros import conversions, reporting
from sqap_vla_ros.ros.inputs import LATCHED, Inputs, urdf
from sqap_vla_ros.ros.outputs import check_gripper
from sqap_vla_ros.ros.parameters import NodeParameters
from sqap_vla_ros.ros.pipeline import Pipeline, Tick
from sqap_vla_ros.ros.publishers import UNWATCHED, Publishers
from sqap_vla_ros.ros.statistics import TickStatistics
from sqap_vla_ros.ros.supervisor import Supervisor
from sqap_vla_ros.ros.worker import Failed, Planned, PolicyFactory, Progress, Ready

STATUS_PERIOD_S = 0.2
POLL_PERIOD_S = 0.02


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
        self._tick_publishers: Publishers | None = None
        self._supervisor: Supervisor | None = None
        self._stream_timer: Any = None
        self._stopped: Rejection | None = None  # a stop outlives the configuration that it came in
        self._active = False
        self._had_fault = False
        self._problem = ""
        self.interrupted = False
        self._wake = self.create_guard_condition(self._handle_reports)
        self._status_publisher = self.create_publisher(PolicyStatus, "~/status", 10, event_callbacks=UNWATCHED)
        self._diagnostics_publisher = self.create_publisher(
            DiagnosticArray, "/diagnostics", 10, event_callbacks=UNWATCHED
        )
        self._metadata_publisher = self.create_publisher(
            PolicyMetadataMessage, "~/metadata", LATCHED, event_callbacks=UNWATCHED
        )
        self.create_service(Trigger, "~/stop", self._handle_stop)
        self.create_service(Trigger, "~/resume", self._handle_resume)
        # Steady time: the status must go on, and waiting must end, also while a simulated clock stands still.
        steady = Clock(clock_type=ClockType.STEADY_TIME)
        self.create_timer(STATUS_PERIOD_S, self._report_status, clock=steady)
        self.create_timer(POLL_PERIOD_S, self._poll, clock=steady)

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
        check_gripper(configuration)
        self._pipeline = Pipeline(configuration, self._policy_factory, self._wake.trigger)
        if self._stopped is not None:  # before anything can fail, or the failure would undo the stop
            self._pipeline.gate.stop(self._stopped)
        metadata = self._await_policy(self._pipeline)
        space = ToolSpace(configuration.limits) if configuration.command.moves_tool else None
        if space is not None:
            self._pipeline.tool_space, self._pipeline.commander = space, Commander(configuration, space)
        elif configuration.command.robot_model:
            self._pipeline.commander = self._commander(configuration.command.robot_model)
        output = output_of(configuration, space)
        self._tick_publishers = Publishers(self, configuration, output)
        self._supervisor = Supervisor(self, self._pipeline, self._tick_publishers)
        if output.streams:
            # Steady time: a clock that is set back would silence the timer, and with it leave the last twist in force.
            simulated = self.get_parameter("use_sim_time").value
            clock = self.get_clock() if simulated else Clock(clock_type=ClockType.STEADY_TIME)
            self._stream_timer = self.create_timer(
                configuration.command.point_spacing, self._supervisor.stream, clock=clock
            )
        self._inputs = Inputs(
            self,
            self._pipeline,
            on_input=self._advance,
            on_robot_description=self._receive_robot_description,
            on_instruction=self._receive_instruction,
            on_enable=self._pipeline.gate.enable,
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
        assert self._pipeline is not None and self._inputs is not None and self._tick_publishers is not None
        try:
            self._inputs.watch_image_topic()
        except Exception as error:
            self._problem = in_one_line(error)
            self.get_logger().error(f"not activated: {self._problem}")
            return TransitionCallbackReturn.FAILURE
        self._pipeline.activate()
        self._tick_publishers.restart_count()
        self._active = True
        if inhibited := self._pipeline.inhibit(self._now_ns()):
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
        if self._pipeline is not None and self._supervisor is not None and was_active:
            self._pipeline.begin_epoch()
            self._supervisor.hold(Cause.NOT_ACTIVE, "the node is no longer active")
            self._supervisor.finish_stream()

    def _release(self) -> None:
        if self._inputs is not None:
            self._inputs.destroy()
            self._inputs = None
        if self._tick_publishers is not None:
            self._tick_publishers.destroy()
            self._tick_publishers = self._supervisor = None
        if self._stream_timer is not None:
            self.destroy_timer(self._stream_timer)
            self._stream_timer = None
        if self._pipeline is not None:
            self._stopped = self._pipeline.gate.stopped
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

    # Inputs

    def _now_ns(self) -> int:
        return self.get_clock().now().nanoseconds

    def _receive_instruction(self, text: str) -> None:
        if len(text) > LONGEST_INSTRUCTION:
            self.get_logger().warning(
                f"instruction refused: {len(text)} characters, at most {LONGEST_INSTRUCTION} are allowed",
                throttle_duration_sec=1.0,
            )
        elif self._pipeline is not None and self._pipeline.set_instruction(text):
            self.get_logger().info(f"instruction: {text!r}", throttle_duration_sec=0.1)

    def _receive_robot_description(self, description: str) -> None:
        """A model for the arm; another one than before replaces it once the arm has been told to rest."""
        assert self._pipeline is not None and self._supervisor is not None
        if description == self._pipeline.robot_description:
            return
        self._supervisor.hold(Cause.ROBOT_MODEL_CHANGED, "the robot description has changed")
        self._pipeline.robot_description, self._pipeline.commander = description, None
        try:
            self._pipeline.commander = self._commander(urdf(description))
        except Exception as error:
            problem = in_one_line(error)
            self._pipeline.no_commander = Rejection(Cause.ROBOT_MODEL_UNUSABLE, Response.HOLD, problem)
            self.get_logger().error(f"no commands: {problem}")

    def _commander(self, model: str) -> Commander:
        assert self._pipeline is not None
        configuration = self._pipeline.configuration
        frames = configuration.frames
        return Commander(configuration, Kinematics(model, configuration.command.joints, frames.base, frames.tool))

    def _parameter_changed(self, name: str, value: Any) -> None:
        if name == "instruction":
            self._receive_instruction(value)
        elif name == "dry_run" and self._pipeline is not None:
            if value and self._active and self._supervisor is not None:
                self._supervisor.hold(Cause.DRY_RUN, "dry_run was set")
            self._pipeline.configuration = self._pipeline.configuration.model_copy(update={"dry_run": value})

    def _handle_stop(self, _: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        """Nothing moves from now on; also before the node is active, or configured."""
        self._stopped = Rejection(Cause.STOPPED_BY_USER, Response.STOP, "stopped by ~/stop")
        if self._supervisor is not None:
            self._supervisor.stop(self._stopped)
        response.success, response.message = True, f"{self._stopped.sentence}; call ~/resume to go on"
        return response

    def _handle_resume(self, _: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        """Undo a stop; what else keeps the arm from moving is told."""
        pipeline = self._pipeline
        stopped = self._stopped if pipeline is None else pipeline.gate.stopped
        self._stopped = None
        if self._supervisor is not None and stopped:
            self._supervisor.resume()
        waiting = None if pipeline is None else pipeline.inhibit(self._now_ns())
        response.success = stopped is not None
        response.message = "resumed" if stopped else "it was not stopped"
        if waiting:
            response.message += f"; waiting: {waiting.sentence}"
        self.get_logger().info(f"~/resume: {response.message}")
        return response

    # Ticks

    def _poll(self) -> None:
        if self._active and self._supervisor is not None:
            self._supervisor.watch()
        self._advance()

    def _handle_reports(self) -> None:
        """What the worker's thread has put into the pipeline's queue."""
        pipeline = self._pipeline
        if pipeline is None or self._supervisor is None:
            return
        self._supervisor.watch_clock()
        while not pipeline.reports.empty():
            report = pipeline.reports.get()
            if isinstance(report, Failed):
                pipeline.dead, pipeline.starting = report.reason, ""
            elif isinstance(report, Progress):
                self.get_logger().info(report.text)
            elif isinstance(report, Ready):
                pipeline.starting = ""
                self.get_logger().info("the policy was started again")
            elif isinstance(report, Planned):
                now_ns, read_ns = self._now_ns(), time.monotonic_ns()
                tick = pipeline.finish(report, now_ns)
                if tick is not None and self._active:
                    self._publish_tick(pipeline, tick, now_ns, read_ns)
        self._advance()

    def _advance(self) -> None:
        if self._active and self._pipeline is not None and self._supervisor is not None:
            rejection = self._pipeline.advance()
            if rejection is not None:
                self._supervisor.watch_clock()  # first: a ramp joins the motion in the new time
                self._supervisor.respond(rejection)
                self._reject(rejection)

    def _publish_tick(self, pipeline: Pipeline, tick: Tick, now_ns: int, read_ns: int) -> None:
        assert self._metadata is not None and self._supervisor is not None and self._tick_publishers is not None
        statistics, rejection = pipeline.statistics, tick.rejection
        if tick.command is not None and not pipeline.configuration.dry_run:
            rejection = self._supervisor.send(tick.command, now_ns, read_ns)
            statistics.commands_published += rejection is None
        if rejection is not None:
            self._supervisor.respond(rejection)
            self._reject(rejection)
        elif tick.command is not None:
            published_ns = time.monotonic_ns()
            statistics.commands_clipped += bool(tick.command.clipped)
            statistics.latencies_s.append((self._now_ns() - tick.observation.stamp_ns) * 1e-9)
            statistics.overheads_s.append(tick.overhead_s(published_ns))
        if tick.chunk is not None:
            statistics.count_chunk(with_ring=tick.chunk.tool_px is not None)
            self._tick_publishers.publish_plan(tick, pipeline, self._metadata.policy_id)

    def _reject(self, rejection: Rejection) -> None:
        assert self._pipeline is not None
        if self._pipeline.statistics.reject(rejection):
            self.get_logger().warning(f"no command ({rejection.cause}): {rejection.sentence}")

    def _report_status(self) -> None:
        if self._active and self._inputs is not None and self._pipeline is not None:
            self._inputs.watch_image_topic()
            self._pipeline.unreachable = self._inputs.incompatible()
        fault = None if self._pipeline is None or self._metadata is None else self._pipeline.fault
        if fault and not self._had_fault:
            self.get_logger().error(
                f"{fault.sentence}; nothing is commanded (if it lasts: deactivate, clean up and configure)"
            )
        self._had_fault = bool(fault)
        status = reporting.status_message(
            self._pipeline, self._metadata, self._active, self._problem, self._now_ns(), time.monotonic()
        )
        self._status_publisher.publish(status)
        self._diagnostics_publisher.publish(reporting.diagnostics_message(status, self.get_fully_qualified_name()))

"""Sends commands, and brings the arm to rest whenever it must be.

A trajectory ends at rest by itself; this is for not waiting until then. Many times a second it asks whether the arm may
move (`MotionGate`), whether the policy lives, whether a controller listens and whether the clock runs, and publishes
the ramp to rest once when not.
"""

import time

from rclpy.lifecycle import LifecycleNode

from sqap_vla_ros.control.commander import Command
from sqap_vla_ros.core.errors import in_one_line
from sqap_vla_ros.core.rejection import Cause, Rejection, Response
from sqap_vla_ros.ros.pipeline import Pipeline
from sqap_vla_ros.ros.publishers import Publishers

LONGEST_RAMP_S = 2.0
# A ramp that was computed too late to join the motion is computed again, so often at most.
RAMP_ATTEMPTS = 3


class Supervisor:
    """The only one who publishes commands.

    Args:
        node: For its clock and log.
        pipeline: What is planned, and the motion gate.
        publishers: Where commands go.
    """

    def __init__(self, node: LifecycleNode, pipeline: Pipeline, publishers: Publishers) -> None:
        self._node = node
        self._pipeline = pipeline
        self._publishers = publishers
        self._resting = True  # as far as commands go: the ramp was sent after the last one, or none was sent
        self._streaming = False

    def send(self, command: Command, now_ns: int, read_ns: int) -> Rejection | None:
        """Publish a command: the arm moves. Returns why not; None: it does.

        Args:
            command: The last one.
            now_ns: ROS clock, as it was read for the command.
            read_ns: When that was, monotonic clock.
        """
        late = self._publish(command, now_ns, read_ns)
        if late is None:
            self._resting = False
        return late

    def stream(self) -> None:
        """Send what is due of a command that is streamed, also while the arm is being brought to rest."""
        self.watch_clock()  # first: in the old time another place of the trajectory would be due
        self._streaming = self._publishers.stream(self._now_ns(), self._pipeline.measured_tool)

    def finish_stream(self) -> None:
        """Stream a ramp to its end: nobody calls `stream` any more when the node is being deactivated.

        In real time: a simulated clock stands still while this thread is busy, and one twist would go out for ever.
        """
        begin_ns, begin_s, passed_s = self._now_ns(), time.monotonic(), 0.0
        while passed_s < LONGEST_RAMP_S:
            if not self._publishers.stream(begin_ns + round(passed_s * 1e9), self._pipeline.measured_tool):
                break
            time.sleep(self._pipeline.configuration.command.point_spacing)
            passed_s = time.monotonic() - begin_s
        self._streaming = False

    def watch(self) -> None:
        """Bring the arm to rest if it may not move; call often."""
        self.watch_clock()
        pipeline = self._pipeline
        if self._publishers.lost_listener() and pipeline.commander is not None:
            self.hold(Cause.CONTROLLER_LOST, "the arm's controller no longer listens")
            pipeline.commander.forget()
        pipeline.controller = None if pipeline.configuration.dry_run else self._publishers.no_controller
        fault = pipeline.fault
        if inhibited := pipeline.inhibit(self._now_ns()):
            self.hold(inhibited.cause, inhibited.sentence)
        # Ending a process takes so long that a ramp that is being streamed would break off: that comes first.
        may_restart = pipeline.configuration.restart_policy and not (pipeline.starting or self._streaming)
        if fault and may_restart and pipeline.restart(fault.sentence):
            self._node.get_logger().error(pipeline.starting)
            sentence = f"stopped because {fault.sentence}; the policy was started again"
            self.stop(Rejection(fault.cause, Response.STOP, sentence))

    def watch_clock(self) -> None:
        """A clock that was set makes all stamps meaningless, and what the controller was told lies in the old time."""
        jump_ns = self._pipeline.clock_jump_ns(self._now_ns())
        if jump_ns:
            direction = "ahead" if jump_ns > 0 else "back"
            self.hold(Cause.CLOCK_JUMP, f"the clock was set {direction} by {abs(jump_ns) * 1e-9:.2f} s", jump_ns)
            self._publishers.clock_set(jump_ns)
            self._pipeline.forget_time()

    def respond(self, rejection: Rejection) -> None:
        """Do what follows from a rejected command."""
        if rejection.response is Response.HOLD:
            self.hold(rejection.cause, rejection.sentence)
        elif rejection.response is Response.STOP:
            self.stop(rejection)

    def stop(self, rejection: Rejection) -> None:
        """Bring the arm to rest, and keep it there until `resume`."""
        self._pipeline.gate.stop(rejection)
        self.hold(rejection.cause, rejection.sentence)

    def resume(self) -> None:
        """Let the arm move again, by plans made from now on."""
        self._pipeline.gate.resume()
        self._pipeline.begin_epoch()

    def hold(self, cause: Cause, sentence: str, clock_jump_ns: int = 0) -> None:
        """Bring the arm to rest, until the next command.

        Without a ramp (there is none within the limits, or it failed) it comes to rest at its trajectory's end.

        Args:
            cause: Why, as a code.
            sentence: Why, for the log.
            clock_jump_ns: By how much the clock was set since the last command: the ramp joins that one, in its time.
        """
        commander = self._pipeline.commander
        if self._resting or commander is None:
            return
        self._resting = True
        try:
            for _ in range(RAMP_ATTEMPTS):
                now_ns, read_ns = self._now_ns() - clock_jump_ns, time.monotonic_ns()
                ramp = commander.stop(now_ns)
                if ramp is None:
                    return
                if self._publish(ramp, now_ns, read_ns) is None:
                    self._node.get_logger().warning(f"the arm is brought to rest ({cause}): {sentence}")
                    return
            self._resting = False  # `watch` tries again while the cause lasts
            problem = "this machine is too busy to compute one in time"
        except Exception as error:
            problem = in_one_line(error)
        self._node.get_logger().error(
            f"no ramp to rest, the arm ends its last trajectory: {problem}", throttle_duration_sec=1.0
        )

    def _publish(self, command: Command, now_ns: int, read_ns: int) -> Rejection | None:
        """Publish what can still join the motion; returns why it cannot."""
        commander = self._pipeline.commander
        assert commander is not None
        # Real time: a simulated clock stands still while this thread computes.
        late = commander.late(command, now_ns + time.monotonic_ns() - read_ns)
        if late is None:
            commander.published(command, gripper_reached=self._publishers.publish_command(command))
        return late

    def _now_ns(self) -> int:
        return self._node.get_clock().now().nanoseconds

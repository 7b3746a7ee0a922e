"""Bringing an arm to rest whose commands are streamed; time, policy and output are driven by hand."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hand_driven_loop import HandClock, HandDrivenOutput, HandDrivenPolicy, S

from sqap_vla_ros.config.robot import Command as CommandSettings
from sqap_vla_ros.config.robot import Configuration, Limits
from sqap_vla_ros.control.commands import Command, JointState, PreparedCommand
from sqap_vla_ros.control.outputs import ToolTwist, output_of
from sqap_vla_ros.control.tool_space import ToolSpace
from sqap_vla_ros.core.action_chunk import ActionChunk
from sqap_vla_ros.core.observation import Observation
from sqap_vla_ros.core.rejection import Cause
from sqap_vla_ros.core.token_selection import keep_all
from sqap_vla_ros.perception.transforms import rotation_from_rpy, transform_from
from sqap_vla_ros.ros.latest_inputs import LatestInputs
from sqap_vla_ros.ros.policy_messages import Planned
from sqap_vla_ros.ros.policy_runner import PolicyRunner
from sqap_vla_ros.ros.supervisor import Supervisor

START = transform_from((0.4, 0.0, 0.3), rotation_from_rpy((np.pi, 0, 0)))


class Twists(HandDrivenOutput):
    """Streams commands as the node does."""

    def __init__(self, configuration: Configuration, space: ToolSpace) -> None:
        super().__init__()
        self.output = output_of(configuration, space)
        self.sent: list[ToolTwist] = []

    def publish_command(self, command: Command) -> bool:
        self.output.follow(command)
        return True

    def stream(self, now_ns: int, measured: object) -> bool:
        message = self.output.due(now_ns, None)
        if isinstance(message, ToolTwist):
            self.sent.append(message)
        return message is not None

    def clock_set(self, by_ns: int) -> None:
        self.output.clock_set(by_ns)


class Streaming:
    """A supervisor of twists; no image ever comes, so that the gate is closed whenever it is asked."""

    def __init__(self) -> None:
        limits = Limits(workspace_min=(0.2, -0.4, 0.05), workspace_max=(0.75, 0.4, 0.7))
        command = CommandSettings(output="servo_twist")
        configuration = Configuration(limits=limits, command=command, restart_policy=True, dry_run=False)
        self.space, self.clock = ToolSpace(limits), HandClock()
        self.output = Twists(configuration, self.space)
        self.processes: list[HandDrivenPolicy] = []
        self.runner = PolicyRunner(self._start, lambda: None, self.clock, configuration.plan_timeout)
        inputs = LatestInputs(configuration, self.clock, self.space)
        log: Any = SimpleNamespace(info=lambda text: None, warning=lambda text: None, error=lambda text, **_: None)
        self.supervisor = Supervisor(configuration, self.space, inputs, self.runner, self.output, self.clock, log)
        self.supervisor.activate()

    def _start(self, on_report: Any) -> HandDrivenPolicy:
        self.processes.append(HandDrivenPolicy(on_report))
        return self.processes[-1]

    @property
    def speeds(self) -> np.ndarray:
        return np.array([message.linear[0] for message in self.output.sent])

    def run(self, seconds: float) -> None:
        for _ in range(round(seconds / 0.02)):
            self.clock.pass_time(0.02)
            self.supervisor.stream()

    def move(self) -> None:
        position, now_ns = self.space.coordinates(START), self.clock.now_ns()
        chunk = ActionChunk(now_ns, np.tile([0.02, 0, 0, 0, 0, 0, 1.0], (16, 1)), 0.2, START, "", 0, keep_all())
        sender = self.supervisor.sender
        assert sender.commander is not None
        prepared = sender.commander.prepare(chunk, now_ns, JointState(position, np.zeros(6), now_ns))
        assert isinstance(prepared, PreparedCommand)
        assert sender.send(prepared, now_ns, self.clock.steady_ns()) is None
        self.run(0.6)
        assert self.speeds[-1] > 0.05

    def plan_once_and_hang(self) -> None:
        """A policy that has planned once is asked again, and does not answer."""
        observation = Observation(1, np.zeros((4, 4, 3), np.uint8), "pick", START)
        chunk = ActionChunk(1, np.zeros((16, 7)), 0.2, START, "pick", 0, keep_all())
        self.runner.submit(observation, None, self.clock.steady_ns(), 0)
        assert self.processes[-1].asked is not None
        assert self.runner.finish(Planned(self.processes[-1].asked[0], chunk, "", 0, 0)) is not None
        self.runner.submit(observation, None, self.clock.steady_ns() - 60 * S, 0)


@pytest.mark.parametrize("by_s", [-10, 10])
def test_a_clock_that_is_set_ends_a_stream_at_rest_and_nothing_of_it_comes_later(by_s: int) -> None:
    streaming = Streaming()
    streaming.move()
    streaming.clock.ros_ns += by_s * S
    count = len(streaming.output.sent)
    streaming.run(1.0)
    speeds = streaming.speeds[count - 1 :]
    assert np.abs(np.diff(speeds)).max() <= 1.5 * 0.02 and speeds[-1] == 0
    count = len(streaming.output.sent)
    streaming.run(14.0)
    assert len(streaming.output.sent) == count


def test_a_node_that_is_deactivated_streams_to_rest_also_while_a_simulated_clock_stands_still() -> None:
    streaming = Streaming()
    streaming.move()
    now_ns = streaming.clock.now_ns()
    streaming.supervisor.deactivate()
    assert streaming.clock.now_ns() == now_ns and streaming.speeds[-1] == 0


def test_a_policy_is_started_again_only_when_the_ramp_was_streamed() -> None:
    streaming = Streaming()
    streaming.move()
    streaming.plan_once_and_hang()
    streaming.supervisor.watch()
    assert len(streaming.processes) == 1
    streaming.run(1.5)
    assert streaming.speeds[-1] == 0
    streaming.supervisor.watch()
    assert len(streaming.processes) == 2 and streaming.processes[0].is_killed
    stopped = streaming.supervisor.gate.stopped
    assert stopped is not None and stopped.cause is Cause.POLICY_TIMEOUT


def test_a_ramp_that_always_came_too_late_is_tried_again() -> None:
    streaming = Streaming()
    streaming.move()
    streaming.clock.computing_ns = S // 8
    streaming.supervisor.watch()
    streaming.clock.computing_ns = 0
    moving = streaming.speeds[-1]
    streaming.run(0.1)
    assert streaming.speeds[-1] == pytest.approx(moving, rel=0.2)
    streaming.supervisor.watch()
    streaming.run(0.4)
    assert streaming.speeds[-1] < 0.5 * moving

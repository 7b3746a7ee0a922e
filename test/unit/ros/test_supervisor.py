"""Bringing an arm to rest whose commands are streamed; nothing here needs a running node."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from sqap_vla_ros.config.robot import Command as CommandSettings
from sqap_vla_ros.config.robot import Configuration, Limits
from sqap_vla_ros.control.commander import Command, Commander, JointState
from sqap_vla_ros.control.outputs import ToolTwist, output_of
from sqap_vla_ros.control.tool_space import ToolSpace
from sqap_vla_ros.core.action_chunk import ActionChunk
from sqap_vla_ros.core.rejection import Cause, Rejection, Response
from sqap_vla_ros.core.token_selection import keep_all
from sqap_vla_ros.perception.transforms import rotation_from_rpy, transform_from
from sqap_vla_ros.ros.supervisor import Supervisor

BEGIN_NS = 1_700_000_000 * 10**9
S = 10**9
HANGS = Rejection(Cause.POLICY_TIMEOUT, Response.HOLD, "it hangs")
LATE = Rejection(Cause.COMMAND_LATE, Response.DROP, "it branches off in the past")
START = transform_from((0.4, 0.0, 0.3), rotation_from_rpy((np.pi, 0, 0)))


class Streaming:
    """A supervisor of twists, with a clock that is set by hand, and what it publishes."""

    def __init__(self) -> None:
        limits = Limits(workspace_min=(0.2, -0.4, 0.05), workspace_max=(0.75, 0.4, 0.7))
        command = CommandSettings(output="servo_twist")
        self.configuration = Configuration(limits=limits, command=command, restart_policy=True, dry_run=False)
        self.space = ToolSpace(limits)
        self.commander = Commander(self.configuration, self.space)
        self.output = output_of(self.configuration, self.space)
        self.now_ns = BEGIN_NS
        self.jump_ns = 0
        self.told: list[ToolTwist] = []
        self.restarts: list[str] = []
        self.fault = ""
        log = SimpleNamespace(warning=lambda text: None, error=lambda text, **_: None)
        node: Any = SimpleNamespace(
            get_clock=lambda: SimpleNamespace(now=lambda: SimpleNamespace(nanoseconds=self.now_ns)),
            get_logger=lambda: log,
        )
        self.supervisor = Supervisor(node, self.as_pipeline(), self.as_publishers())

    def as_pipeline(self) -> Any:
        return SimpleNamespace(
            configuration=self.configuration,
            commander=self.commander,
            measured_tool=None,
            gate=SimpleNamespace(stop=lambda rejection: None, resume=lambda: True),
            controller=None,
            fault=None,
            starting="",
            inhibit=lambda now_ns: None,
            clock_jump_ns=self.take_jump,
            forget_time=self.commander.forget,
            restart=lambda cause: self.restarts.append(cause) or True,
        )

    def as_publishers(self) -> Any:
        return SimpleNamespace(
            publish_command=self.publish_command,
            stream=self.stream,
            clock_set=self.output.clock_set,
            lost_listener=lambda: False,
            no_controller=None,
        )

    def take_jump(self, now_ns: int) -> int:
        jump_ns, self.jump_ns = self.jump_ns, 0
        return jump_ns

    def set_clock(self, by_ns: int) -> None:
        self.now_ns += by_ns
        self.jump_ns += by_ns

    def publish_command(self, command: Command) -> bool:
        self.output.follow(command)
        return True

    def stream(self, now_ns: int, measured: object) -> bool:
        message = self.output.due(now_ns, None)
        if isinstance(message, ToolTwist):
            self.told.append(message)
        return message is not None

    def run(self, seconds: float) -> None:
        for _ in range(round(seconds / 0.02)):
            self.now_ns += S // 50
            self.supervisor.stream()

    def move(self) -> None:
        position = self.space.coordinates(START)
        chunk = ActionChunk(self.now_ns, np.tile([0.02, 0, 0, 0, 0, 0, 1.0], (16, 1)), 0.2, START, "", 0, keep_all())
        command = self.commander.command(chunk, self.now_ns, JointState(position, np.zeros(6), self.now_ns))
        assert isinstance(command, Command)
        self.publish_command(command)
        self.commander.published(command)
        self.supervisor._resting = False
        self.run(0.6)
        assert self.told[-1].linear[0] > 0.05


@pytest.mark.parametrize("by_s", [-10, 10])
def test_a_clock_that_is_set_ends_a_stream_at_rest_and_nothing_of_it_comes_later(by_s: int) -> None:
    streaming = Streaming()
    streaming.move()
    streaming.set_clock(by_s * S)
    count = len(streaming.told)
    streaming.run(1.0)
    speeds = np.array([message.linear[0] for message in streaming.told[count - 1 :]])
    assert np.abs(np.diff(speeds)).max() <= 1.5 * 0.02 and speeds[-1] == 0
    count = len(streaming.told)
    streaming.run(14.0)
    assert len(streaming.told) == count


def test_a_node_that_is_deactivated_streams_to_rest_also_while_a_simulated_clock_stands_still() -> None:
    streaming = Streaming()
    streaming.move()
    streaming.supervisor.hold(Cause.NOT_ACTIVE, "the node is no longer active")
    streaming.supervisor.finish_stream()
    assert streaming.told[-1].linear[0] == 0


def test_a_policy_is_started_again_only_when_the_ramp_was_streamed() -> None:
    streaming = Streaming()
    streaming.move()
    pipeline: Any = streaming.supervisor._pipeline
    pipeline.fault = HANGS
    pipeline.inhibit = lambda now_ns: HANGS
    streaming.supervisor.watch()
    assert streaming.restarts == []
    streaming.run(1.5)
    assert streaming.told[-1].linear[0] == 0
    streaming.supervisor.watch()
    assert streaming.restarts == ["it hangs"]


def test_a_ramp_that_always_came_too_late_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    streaming = Streaming()
    streaming.move()
    pipeline: Any = streaming.supervisor._pipeline
    pipeline.inhibit = lambda now_ns: HANGS
    with monkeypatch.context() as busy:
        busy.setattr(streaming.commander, "late", lambda command, now_ns: LATE)
        streaming.supervisor.watch()
    moving = streaming.told[-1].linear[0]
    streaming.supervisor.watch()
    streaming.run(0.3)
    assert streaming.told[-1].linear[0] < 0.5 * moving

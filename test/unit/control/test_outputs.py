"""Commands as what is published, and how each output stops."""

from dataclasses import dataclass, field

import numpy as np
import pytest

from sqap_vla_ros.config.robot import Command as CommandSettings
from sqap_vla_ros.config.robot import Limits, Robot
from sqap_vla_ros.control.commander import Commander
from sqap_vla_ros.control.commands import Command, JointState, PreparedCommand
from sqap_vla_ros.control.outputs import AT_REST_S, Message, ToolPose, ToolTwist, output_of
from sqap_vla_ros.control.tool_space import ToolSpace
from sqap_vla_ros.control.trajectory import Trajectory
from sqap_vla_ros.core.action_chunk import ActionChunk
from sqap_vla_ros.core.token_selection import keep_all
from sqap_vla_ros.perception.transforms import rotation_from_rpy, rotation_from_vector, transform_from

MS = 10**6
PERIOD_NS = 20 * MS
START = transform_from((0.4, 0.0, 0.3), rotation_from_rpy((np.pi, 0, 0)))
LIMITS = Limits(workspace_min=(0.2, -0.4, 0.05), workspace_max=(0.75, 0.4, 0.7))


@dataclass
class StreamedTool:
    """A tool that does what it is sent: goes to poses, and integrates twists with an error."""

    output_name: str
    drift_m_s: float = 0.0
    transform_age_ns: int = 0
    now_ns: int = 1_700_000_000 * 10**9
    T_base_tool: np.ndarray = field(default_factory=START.copy)
    sent: list[Message | None] = field(default_factory=list)
    poses: list[tuple[int, np.ndarray]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.robot = Robot(limits=LIMITS, command=CommandSettings(output=self.output_name))
        self.space = ToolSpace(LIMITS)
        self.commander = Commander(self.robot, self.space)
        self.output = output_of(self.robot, self.space)
        self.near = self.space.coordinates(self.T_base_tool)

    def command(self, translation: tuple[float, ...], rotation: tuple[float, ...] = (0, 0, 0)) -> None:
        actions = np.tile([*translation, *rotation, 1.0], (16, 1))
        chunk = ActionChunk(self.now_ns, actions, 0.2, self.T_base_tool, "pick", 0, keep_all())
        self.near = self.space.coordinates(self.T_base_tool, self.near)
        prepared = self.commander.prepare(chunk, self.now_ns, JointState(self.near, np.zeros(6), self.now_ns))
        assert isinstance(prepared, PreparedCommand)
        self.publish(prepared)

    def publish(self, prepared: PreparedCommand) -> None:
        """Stream a command at the moment when it was asked for."""
        assert prepared.publish_through(lambda command: self.output.follow(command) is None, self.now_ns) is None

    def run(self, seconds: float) -> None:
        end_ns = self.now_ns + round(seconds * 1e9)
        while self.now_ns < end_ns:
            self.now_ns += PERIOD_NS
            self.poses.append((self.now_ns, self.T_base_tool.copy()))
            known = [pose for pose in self.poses if pose[0] <= self.now_ns - self.transform_age_ns]
            message = self.output.due(self.now_ns, known[-1] if known else None)
            self.sent.append(message)
            if isinstance(message, ToolPose):
                self.T_base_tool = message.T_base_tool
            elif isinstance(message, ToolTwist):
                dt = PERIOD_NS * 1e-9
                self.T_base_tool[:3, 3] += (message.linear + (self.drift_m_s, 0, 0)) * dt
                self.T_base_tool[:3, :3] = rotation_from_vector(message.angular * dt) @ self.T_base_tool[:3, :3]

    def speeds(self) -> np.ndarray:
        """Told translation velocities, float64 (messages, 3)."""
        if self.output_name == "servo_twist":
            return np.array([message.linear for message in self.sent if isinstance(message, ToolTwist)])
        places = [message.T_base_tool[:3, 3] for message in self.sent if isinstance(message, ToolPose)]
        return np.diff(places, axis=0) / (PERIOD_NS * 1e-9)


STREAMS = ["servo_twist", "servo_pose", "cartesian_pose"]


@pytest.mark.parametrize("name", STREAMS)
def test_the_tool_follows_its_chunks(name: str) -> None:
    tool = StreamedTool(name)
    for _ in range(10):
        tool.command((0.01, 0.02, 0.0), (0, 0, 0.04))
        tool.run(0.2)
    moved = tool.T_base_tool[:3, 3] - START[:3, 3]
    assert moved[1] > 0.12 and moved[0] == pytest.approx(moved[1] / 2, rel=0.05)
    turned = tool.T_base_tool[:3, :3] @ START[:3, :3].T
    assert np.arctan2(turned[1, 0], turned[0, 0]) > 0.24


@pytest.mark.parametrize("name", STREAMS)
def test_the_tool_keeps_its_limits_and_comes_to_rest_without_a_new_command(name: str) -> None:
    tool = StreamedTool(name)
    rng = np.random.default_rng(0)
    for _ in range(15):
        tool.command(tuple(rng.normal(size=3) * 0.02))
        tool.run(0.14)
    tool.run(3.0)
    speeds = tool.speeds()
    velocity, acceleration = tool.robot.limits.tool_velocity[0], tool.robot.limits.tool_acceleration[0]
    assert np.linalg.norm(speeds, axis=1).max() <= velocity * 1.001
    changes = np.linalg.norm(np.diff(speeds, axis=0), axis=1) / (PERIOD_NS * 1e-9)
    assert changes.max() <= acceleration * 1.05  # twists are corrected a little beside the planned motion
    np.testing.assert_allclose(speeds[-5:], 0, atol=1e-9)


def stopped_while_moving(name: str) -> tuple[StreamedTool, Command]:
    """A tool that moves, and the ramp that was just published."""
    tool = StreamedTool(name)
    for _ in range(5):
        tool.command((0.02, 0.0, 0.0))
        tool.run(0.2)
    ramp = tool.commander.prepare_stop(tool.now_ns)
    assert ramp is not None
    tool.publish(ramp)
    return tool, ramp.command


@pytest.mark.parametrize("name", STREAMS)
def test_after_a_stop_the_rest_is_sent_for_a_while_and_then_nothing(name: str) -> None:
    tool, ramp = stopped_while_moving(name)
    begin = len(tool.sent)
    tool.run(2.0)
    sent = [message for message in tool.sent[begin:] if message is not None]
    assert tool.sent[-1] is None
    duration_s = (ramp.start_ns - tool.now_ns) * 1e-9 + 2.0 + ramp.trajectory.time_from_start[-1]
    assert len(sent) * PERIOD_NS * 1e-9 == pytest.approx(duration_s + AT_REST_S, abs=0.05)
    assert duration_s < 0.6
    speeds = tool.speeds()[-round(AT_REST_S * 1e9 / PERIOD_NS) + 2 :]
    np.testing.assert_allclose(speeds, 0, atol=1e-9)


def test_velocities_make_up_for_a_tool_that_drifts() -> None:
    straight, drifting = StreamedTool("servo_twist"), StreamedTool("servo_twist", drift_m_s=0.02)
    for tool in (straight, drifting):
        tool.command((0.0, 0.02, 0.0))
        tool.run(1.4)
    error = np.linalg.norm(drifting.T_base_tool[:3, 3] - straight.T_base_tool[:3, 3])
    assert 0.005 < error < 0.014  # 0.028 m without correction, 0.02 / 2 with it while the arm moves


@pytest.mark.parametrize("transform_age_ns", [80 * MS, 150 * MS])
def test_late_transforms_do_not_speed_the_tool_up(transform_age_ns: int) -> None:
    at_once, late = StreamedTool("servo_twist"), StreamedTool("servo_twist", transform_age_ns=transform_age_ns)
    for tool in (at_once, late):
        for _ in range(20):
            tool.command((0.01, 0.0, 0.0))
            tool.run(0.14)
    np.testing.assert_allclose(late.speeds()[-70:], at_once.speeds()[-70:], atol=1e-3)


@pytest.mark.parametrize("by_s", [-10, 10])
@pytest.mark.parametrize("name", STREAMS)
def test_a_stop_goes_on_in_the_new_time_when_the_clock_is_set(name: str, by_s: int) -> None:
    tool, _ = stopped_while_moving(name)
    tool.run(0.02)
    tool.now_ns += by_s * 10**9
    tool.output.clock_set(by_s * 10**9)
    begin = len(tool.sent)
    tool.run(15.0)
    count = sum(message is not None for message in tool.sent[begin:])
    assert 0.3 < count * PERIOD_NS * 1e-9 < 0.9
    assert tool.sent[begin + count :] == [None] * (len(tool.sent) - begin - count)  # nothing of it comes later
    assert np.linalg.norm(np.diff(tool.speeds(), axis=0), axis=1).max() <= 1.5 * PERIOD_NS * 1e-9 * 1.001


@pytest.mark.parametrize("name", ["servo_pose", "cartesian_pose"])
def test_after_a_silence_poses_do_not_jump(name: str) -> None:
    tool = StreamedTool(name)
    tool.command((0.0, 0.04, 0.0))
    tool.run(0.6)
    before = tool.T_base_tool[1, 3]
    tool.now_ns += 400 * MS  # a busy machine, or a clock that was set ahead a little
    tool.run(0.02)
    assert 0.0 < tool.T_base_tool[1, 3] - before <= 0.1 * tool.robot.limits.tool_velocity[0]
    tool.run(3.0)
    steps = np.diff([message.T_base_tool[1, 3] for message in tool.sent[31:] if isinstance(message, ToolPose)])
    assert steps.max() <= 0.02 * tool.robot.limits.tool_velocity[0] and abs(steps[-1]) < 1e-9


def test_velocities_keep_their_acceleration_when_the_measured_pose_jumps() -> None:
    tool = StreamedTool("servo_twist")
    tool.command((0.02, 0.0, 0.0))
    tool.run(0.4)
    tool.T_base_tool[:3, 3] += (0.0, 0.5, 0.0)
    tool.run(3.0)
    changes = np.linalg.norm(np.diff(tool.speeds(), axis=0), axis=1) / (PERIOD_NS * 1e-9)
    assert changes.max() <= tool.robot.limits.tool_acceleration[0] * 1.001
    np.testing.assert_array_equal(tool.speeds()[-1], 0)


def test_a_blocked_tool_is_not_pushed_on_during_a_stop() -> None:
    tool = StreamedTool("servo_twist")
    tool.command((0.01, 0.0, 0.0))
    tool.run(0.6)
    tool.T_base_tool[0, 3] -= 0.08
    ramp = tool.commander.prepare_stop(tool.now_ns)
    assert ramp is not None
    tool.publish(ramp)
    begin = len(tool.speeds())
    tool.run(1.0)
    forwards = tool.speeds()[begin:, 0]
    assert forwards.max() <= tool.speeds()[begin - 1, 0] + 1e-3
    assert np.diff(forwards).max() < 1e-3 and forwards[-1] == 0


def test_nothing_is_due_before_the_first_command() -> None:
    tool = StreamedTool("servo_pose")
    tool.run(0.1)
    assert tool.sent == [None] * 5


def test_joint_trajectories_go_out_whole() -> None:
    still = np.zeros((1, 6))
    command, output = Command(Trajectory(np.ones(1), still, still, still), 0, 0, None, ()), output_of(Robot(), None)
    assert output.follow(command) is command
    assert not output.streams and output.due(10**9, None) is None

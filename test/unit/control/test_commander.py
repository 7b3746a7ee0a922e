"""The commander and a joint_trajectory_controller in closed loop, on clocks that the test drives."""

from collections import deque
from dataclasses import dataclass, field
from types import SimpleNamespace

import numpy as np
import pytest
from control_robots import PANDA_HOME, PANDA_JOINTS

from sqap_vla_ros.config.robot import ActionConvention, Frames, Limits, Robot, Topics
from sqap_vla_ros.config.robot import Command as CommandSettings
from sqap_vla_ros.control import commander
from sqap_vla_ros.control.commander import Commander
from sqap_vla_ros.control.commands import Command, JointState, PreparedCommand
from sqap_vla_ros.control.kinematics import Kinematics
from sqap_vla_ros.control.latency import WARM_UP
from sqap_vla_ros.control.trajectory import JointLimits
from sqap_vla_ros.core.action_chunk import ActionChunk
from sqap_vla_ros.core.rejection import Cause, RejectedError, Rejection, Response
from sqap_vla_ros.core.token_selection import keep_all
from sqap_vla_ros.simulation.joint_trajectory_controller import JointTrajectoryController

MS = 10**6
EPOCH_NS = 1_700_000_000 * 10**9  # a clock as on a robot: float64 seconds are coarse there
LIMITS = Limits(workspace_min=(0.2, -0.4, 0.05), workspace_max=(0.75, 0.4, 0.7))
STEP_S = 0.2


def settings(**fields: object) -> Robot:
    command = command_settings()
    frames, topics = Frames(base="base", tool="right_hand"), Topics(gripper_command="/gripper")
    return Robot(**{"frames": frames, "topics": topics, "limits": LIMITS, "command": command, **fields})


def command_settings(**fields: object) -> CommandSettings:
    return CommandSettings(**{"joints": PANDA_JOINTS, "gripper_joint": "finger", **fields})


def steady(translation: tuple[float, float, float] = (0, 0, 0), gripper: float = 1.0) -> np.ndarray:
    return np.tile([*translation, 0, 0, 0, gripper], (16, 1))


@dataclass
class Arm:
    """An arm that does exactly what its controller wants."""

    kinematics: Kinematics
    robot: Robot
    now_ns: int = EPOCH_NS
    messages: deque[tuple[int, SimpleNamespace]] = field(default_factory=deque)
    path: list[np.ndarray] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.commander = Commander(self.robot, self.kinematics)
        each = np.ones(7)
        limits = self.robot.limits
        self.bounds = JointLimits(
            self.kinematics.lower,
            self.kinematics.upper,
            limits.joint_velocity[0] * each,
            limits.joint_acceleration[0] * each,
            limits.joint_jerk[0] * each,
        )
        self.controller = JointTrajectoryController(PANDA_JOINTS, PANDA_HOME, self.bounds)
        self.state = self.controller.desired(self.now_ns * 1e-9)

    @property
    def joint_state(self) -> JointState:
        return JointState(self.state[0], self.state[1], self.now_ns)

    @property
    def T_base_tool(self) -> np.ndarray:
        return self.kinematics.forward(self.state[0])

    def chunk(self, actions: np.ndarray) -> ActionChunk:
        return ActionChunk(self.now_ns, actions, STEP_S, self.T_base_tool, "pick", 0, keep_all())

    def prepare(self, chunk: ActionChunk, joint_state: JointState | None = None) -> PreparedCommand | Rejection:
        return self.commander.prepare(chunk, self.now_ns, joint_state or self.joint_state)

    def command(self, chunk: ActionChunk, transport_ns: int = 2 * MS) -> Command | Rejection:
        answer = self.prepare(chunk)
        if isinstance(answer, Rejection):
            return answer
        self.publish(answer, transport_ns)
        return answer.command

    def publish(self, prepared: PreparedCommand, transport_ns: int = 2 * MS) -> None:
        """Send a command at the moment when it was asked for."""

        def send(command: Command) -> bool:
            self.transmit(command, transport_ns)
            return True

        assert prepared.publish_through(send, self.now_ns) is None

    def transmit(self, command: Command, transport_ns: int = 2 * MS) -> None:
        points = [
            SimpleNamespace(
                time_from_start=time_message(round(t * 1e9)), positions=q, velocities=v, accelerations=[], effort=[]
            )
            for t, q, v in zip(
                command.trajectory.time_from_start,
                command.trajectory.positions,
                command.trajectory.velocities,
                strict=True,
            )
        ]
        header = SimpleNamespace(stamp=time_message(command.start_ns))
        message = SimpleNamespace(header=header, joint_names=PANDA_JOINTS, points=points)
        self.messages.append((self.now_ns + transport_ns, message))

    def run(self, seconds: float) -> None:
        """Let the controller run at 500 Hz."""
        end_ns = self.now_ns + round(seconds * 1e9)
        while self.now_ns < end_ns:
            self.now_ns += 2 * MS
            while self.messages and self.messages[0][0] <= self.now_ns:
                assert self.controller.accept(self.messages.popleft()[1], self.now_ns * 1e-9) is None
            self.state = self.controller.desired(self.now_ns * 1e-9)
            self.path.append(self.state[0])

    @property
    def travel(self) -> float:
        return float(np.abs(np.diff(self.path, axis=0)).sum())

    @property
    def rests(self) -> bool:
        return not self.state[1].any() and not self.state[2].any()


def time_message(nanoseconds: int) -> SimpleNamespace:
    return SimpleNamespace(sec=nanoseconds // 10**9, nanosec=nanoseconds % 10**9)


@pytest.fixture
def arm(panda: Kinematics) -> Arm:
    return Arm(panda, settings())


def wander(arm: Arm, seconds: float, delays_s: tuple[float, float], seed: int) -> list[Command | Rejection]:
    """A random walk of chunks at 5 Hz, each commanded some time after its observation."""
    random = np.random.default_rng(seed)
    drift, answers, end_ns = np.zeros(6), [], arm.now_ns + round(seconds * 1e9)
    while arm.now_ns < end_ns:
        drift = 0.8 * drift + random.normal(size=6) * 0.01
        actions = steady()
        actions[:, :6] = drift + random.normal(size=(16, 6)) * 0.003
        chunk, delay_s = arm.chunk(actions), random.uniform(*delays_s)
        arm.run(delay_s)
        answers.append(arm.command(chunk, round(random.uniform(0.001, 0.02) * 1e9)))
        arm.run(max(STEP_S - delay_s, 0.002))
    return answers


@pytest.mark.parametrize("anchor", ["measured", "previous_target"])
@pytest.mark.parametrize("jerk", [50.0, 5000.0])
def test_a_random_walk_of_chunks_never_violates_a_limit_and_ends_at_rest(
    panda: Kinematics, anchor: str, jerk: float
) -> None:
    limits = LIMITS.model_copy(update={"joint_jerk": (jerk,)})
    arm = Arm(panda, settings(action=ActionConvention(anchor=anchor), limits=limits))
    answers = wander(arm, 5.0, (0.05, 0.3), seed=1)
    assert sum(isinstance(answer, Command) for answer in answers) > 0.9 * len(answers)
    arm.run(3.0)
    assert arm.controller.violations == []
    assert arm.rests
    assert arm.travel > 1


@pytest.mark.parametrize("blending", ["ensemble", "temporal", "real_time"])
def test_no_way_of_blending_violates_a_limit(panda: Kinematics, blending: str) -> None:
    arm = Arm(panda, settings(command=command_settings(blending=blending)))
    answers = wander(arm, 3.0, (0.05, 0.3), seed=2)
    assert all(isinstance(answer, Command) for answer in answers)
    arm.run(3.0)
    assert arm.controller.violations == []
    assert arm.rests


def turning_back(panda: Kinematics, blending: str) -> Arm:
    """Half a second after the arm was sent to go left, it is sent to go right."""
    arm = Arm(panda, settings(command=command_settings(blending=blending, horizon=1.0)))
    for speed in (0.02, -0.02):
        arm.command(arm.chunk(steady((0, speed, 0))))
        arm.run(0.5)
    return arm


@pytest.mark.parametrize("blending", ["ensemble", "temporal"])
def test_a_blended_arm_turns_back_later_than_one_that_follows_the_newest_chunk(
    panda: Kinematics, blending: str
) -> None:
    newest, blended = turning_back(panda, "none"), turning_back(panda, blending)
    assert blended.T_base_tool[1, 3] > newest.T_base_tool[1, 3] + 0.005


def test_the_next_chunk_goes_on_from_the_running_one(panda: Kinematics) -> None:
    arm = Arm(panda, settings(command=command_settings(blending="real_time")))
    for _ in range(WARM_UP + 1):
        assert arm.commander.continuation(arm.now_ns, arm.T_base_tool) is None  # no delay is measured yet
        chunk = arm.chunk(steady((0.01, 0.005, 0)))
        arm.run(0.1)
        arm.command(chunk)
        arm.run(0.1)
    committed = arm.commander.continuation(arm.now_ns, arm.T_base_tool)
    assert committed is not None and committed.steps == 1  # 0.1 s of delay and the lead, in steps of 0.2 s
    assert len(committed.actions) == 15
    np.testing.assert_allclose(committed.actions[1:, :3], np.tile((0.01, 0.005, 0), (14, 1)), atol=1e-9)


def test_nothing_is_committed_by_an_arm_at_rest(panda: Kinematics) -> None:
    arm = Arm(panda, settings(command=command_settings(blending="real_time")))
    for _ in range(WARM_UP + 2):
        arm.command(arm.chunk(steady((0.005, 0, 0))))
        arm.run(0.2)
    assert arm.commander.continuation(arm.now_ns, arm.T_base_tool) is not None
    arm.run(2.0)
    assert arm.commander.continuation(arm.now_ns, arm.T_base_tool) is None


def test_nothing_is_committed_where_it_was_not_asked_for(arm: Arm) -> None:
    for _ in range(WARM_UP + 2):
        arm.command(arm.chunk(steady((0.005, 0, 0))))
        arm.run(0.2)
    assert arm.commander.continuation(arm.now_ns, arm.T_base_tool) is None


def test_the_tool_stays_in_the_workspace_while_the_policy_pushes_out(arm: Arm) -> None:
    for _ in range(25):
        arm.command(arm.chunk(steady((0.03, 0.04, 0.01))))
        arm.run(0.2)
    tool = np.array([arm.kinematics.forward(q)[:3, 3] for q in arm.path])
    assert (tool <= np.array(LIMITS.workspace_max) + 1e-4).all()  # between two points it may bulge by less
    assert tool[:, 0].max() > 0.7  # and gets as far as it may


def test_what_swings_out_of_the_workspace_is_planned_again_more_slowly(
    panda: Kinematics, monkeypatch: pytest.MonkeyPatch
) -> None:
    box = {"workspace_min": (0.3, -0.15, 0.15), "workspace_max": (0.6, 0.15, 0.4)}
    robot = settings(limits=LIMITS.model_copy(update=box))
    answers = wander(Arm(panda, robot), 7.0, (0.05, 0.3), seed=7)
    slowed = [text for answer in answers if isinstance(answer, Command) for text in answer.clipped if "speed" in text]
    assert slowed
    monkeypatch.setattr(commander, "SLOWER", (1,))
    without = wander(Arm(panda, robot), 7.0, (0.05, 0.3), seed=7)
    assert sum(isinstance(answer, Rejection) for answer in answers) < sum(isinstance(w, Rejection) for w in without)


def test_steady_chunks_move_the_tool_at_their_speed(arm: Arm) -> None:
    start = arm.T_base_tool
    for _ in range(10):
        chunk = arm.chunk(steady((0, 0.015, 0)))
        arm.run(0.1)
        assert isinstance(arm.command(chunk), Command)
        arm.run(0.1)
    first = arm.T_base_tool
    chunk = arm.chunk(steady((0, 0.015, 0)))
    arm.run(0.2)
    speed = (arm.T_base_tool[:3, 3] - first[:3, 3]) / 0.2
    np.testing.assert_allclose(speed, (0, 0.015 / STEP_S, 0), atol=0.01)
    np.testing.assert_allclose(arm.T_base_tool[:3, :3], start[:3, :3], atol=0.01)


def test_poses_are_reached_when_they_are_due(arm: Arm) -> None:
    start = arm.T_base_tool
    arm.command(arm.chunk(steady((0.01, 0, 0))))
    arm.run(0.8)
    assert arm.T_base_tool[0, 3] - start[0, 3] == pytest.approx(0.04, abs=0.003)


def test_silence_stops_the_arm(arm: Arm) -> None:
    arm.command(arm.chunk(steady((0.02, 0, 0))))
    arm.run(2.0)
    assert arm.rests
    assert arm.controller.violations == []
    assert arm.T_base_tool[0, 3] - arm.kinematics.forward(PANDA_HOME)[0, 3] < 0.16  # of 0.32 in the chunk


def test_the_configured_horizon_bounds_the_trajectory(panda: Kinematics) -> None:
    arm = Arm(panda, settings(command=command_settings(horizon=0.3)))
    answer = arm.command(arm.chunk(steady((0.02, 0, 0))))
    assert isinstance(answer, Command)
    end_ns = answer.start_ns + round(answer.trajectory.time_from_start[-1] * 1e9)
    assert end_ns - arm.now_ns < 900 * MS  # lead, horizon, and the longest ramp


def test_a_stop_is_a_ramp_without_violations(arm: Arm) -> None:
    for _ in range(4):
        arm.command(arm.chunk(steady((0.02, 0.02, 0))))
        arm.run(0.2)
    assert not arm.rests
    ramp = arm.commander.prepare_stop(arm.now_ns)
    assert ramp is not None and ramp.command.gripper is None
    arm.publish(ramp)
    arm.run(0.6)
    assert arm.rests
    assert arm.controller.violations == []


def test_there_is_nothing_to_stop_at_rest(arm: Arm) -> None:
    assert arm.commander.prepare_stop(arm.now_ns) is None


def test_commands_go_on_after_a_stop(arm: Arm) -> None:
    arm.command(arm.chunk(steady((0.02, 0, 0))))
    arm.run(0.3)
    ramp = arm.commander.prepare_stop(arm.now_ns)
    assert ramp is not None
    arm.publish(ramp)
    arm.run(0.1)
    assert isinstance(arm.command(arm.chunk(steady((0, 0.02, 0)))), Command)
    arm.run(2.0)
    assert arm.controller.violations == []


def test_a_reset_while_moving_keeps_the_motion_smooth(arm: Arm) -> None:
    for actions in (steady((0.02, 0, 0)), steady((0, 0.02, 0))):
        arm.command(arm.chunk(actions))
        arm.run(0.3)
        arm.commander.reset()
    arm.run(2.0)
    assert arm.controller.violations == []


def test_a_command_that_took_too_long_is_rejected_and_the_next_one_allows_for_it(arm: Arm) -> None:
    arm.command(arm.chunk(steady((0.02, 0, 0))))
    arm.run(0.3)
    answers = []
    for _ in range(2):
        prepared = arm.prepare(arm.chunk(steady((0.02, 0, 0))))
        assert isinstance(prepared, PreparedCommand)
        arm.run(0.08)
        answers.append(prepared.publish_through(lambda command: True, arm.now_ns))
    rejected, allowed = answers
    assert isinstance(rejected, Rejection) and rejected.cause is Cause.COMMAND_LATE
    assert allowed is None


def test_a_command_leaves_the_running_one_as_late_as_joint_states_are_old(arm: Arm) -> None:
    arm.command(arm.chunk(steady((0.02, 0, 0))))
    arm.run(0.3)
    old = JointState(*arm.state[:2], arm.now_ns - 150 * MS)
    prepared = arm.prepare(arm.chunk(steady((0.02, 0, 0))), old)
    assert isinstance(prepared, PreparedCommand)
    assert prepared.command.branch_ns >= arm.now_ns + 150 * MS


def test_a_message_that_comes_late_within_the_lead_makes_no_jump(arm: Arm) -> None:
    for k in range(6):
        arm.command(arm.chunk(steady((0.02, 0, 0.02 * (-1) ** k))), transport_ns=35 * MS)
        arm.run(0.25)
    assert arm.controller.violations == []


def test_published_times_increase_from_above_zero(arm: Arm) -> None:
    for _ in range(3):
        answer = arm.command(arm.chunk(steady((0.01, 0, 0))))
        assert isinstance(answer, Command)
        assert (np.diff(answer.trajectory.time_from_start, prepend=0) > 0).all()
        arm.run(0.13)


def test_a_chunk_of_the_past_is_rejected(arm: Arm) -> None:
    robot = settings(freshness={"image": 100, "joint_states": 1})
    fresh, chunk = Commander(robot, arm.kinematics), arm.chunk(steady())
    arm.run(3.3)
    answer = fresh.prepare(chunk, arm.now_ns, arm.joint_state)
    assert isinstance(answer, Rejection) and answer.cause is Cause.CHUNK_OUTDATED
    assert answer.response is Response.DROP and "0.100 s ago" in answer.sentence


def test_an_old_image_is_rejected(arm: Arm) -> None:
    chunk = arm.chunk(steady())
    arm.run(0.6)
    answer = arm.command(chunk)
    assert isinstance(answer, Rejection) and answer.cause is Cause.IMAGE_STALE


def test_old_joint_states_are_rejected(arm: Arm) -> None:
    old = arm.joint_state
    arm.run(0.3)
    answer = arm.prepare(arm.chunk(steady()), old)
    assert isinstance(answer, Rejection) and answer.cause is Cause.JOINT_STATES_STALE


def test_actions_that_are_not_finite_are_rejected(arm: Arm) -> None:
    actions = steady()
    actions[5, 2] = np.nan
    assert isinstance(arm.command(arm.chunk(actions)), Rejection)


def test_a_tool_pose_in_another_frame_is_rejected(arm: Arm) -> None:
    chunk = arm.chunk(steady())
    chunk.T_base_tool[0, 3] += 0.3
    answer = arm.command(chunk)
    assert isinstance(answer, Rejection) and answer.cause is Cause.TARGET_FAR_FROM_TOOL


def test_an_arm_that_stands_still_against_its_trajectory_is_noticed(arm: Arm) -> None:
    arm.command(arm.chunk(steady((0.05, 0, 0))))
    blocked = arm.state
    arm.run(0.9)
    arm.state = blocked
    chunk = arm.chunk(steady())
    answer = arm.prepare(chunk)
    assert isinstance(answer, Rejection) and answer.cause is Cause.NOT_FOLLOWING


def test_an_arm_that_others_move_is_left_alone(arm: Arm) -> None:
    moving = JointState(PANDA_HOME, np.array([0, 0.3, 0, 0, 0, 0, 0]), arm.now_ns)
    answer = arm.prepare(arm.chunk(steady()), moving)
    assert isinstance(answer, Rejection) and answer.cause is Cause.ALREADY_MOVING


def test_clipping_is_reported(arm: Arm) -> None:
    answer = arm.command(arm.chunk(steady((0.1, 0, 0))))
    assert isinstance(answer, Command)
    assert any(text.startswith("translation of 16 actions") for text in answer.clipped)


def test_the_gripper_is_sent_on_change(arm: Arm) -> None:
    sent = []
    for value in (1.0, 0.9, 0.1):
        answer = arm.command(arm.chunk(steady(gripper=value)))
        assert isinstance(answer, Command)
        sent.append(answer.gripper)
        arm.run(0.2)
    assert sent == [0.04, None, 0.0]


def test_a_gripper_that_was_not_there_is_commanded_again(arm: Arm) -> None:
    sent = []
    for reached in (False, True, True):
        prepared = arm.prepare(arm.chunk(steady(gripper=1.0)))
        assert isinstance(prepared, PreparedCommand)
        assert prepared.publish_through(lambda command, reached=reached: reached, arm.now_ns) is None
        sent.append(prepared.command.gripper)
    assert sent == [0.04, 0.04, None]


def test_the_gripper_value_is_the_one_that_is_due(arm: Arm) -> None:
    actions = steady()
    actions[:2, 6] = 0.0
    chunk = arm.chunk(actions)
    arm.run(0.45)  # the first two actions are past
    answer = arm.command(chunk)
    assert isinstance(answer, Command) and answer.gripper == 0.04


def test_measured_anchors_start_from_the_observed_pose(arm: Arm) -> None:
    still = steady()
    arm.command(arm.chunk(steady((0.02, 0, 0))))
    arm.run(0.5)
    chunk = arm.chunk(still)
    arm.command(chunk)
    arm.run(2.0)
    np.testing.assert_allclose(arm.T_base_tool[:3, 3], chunk.T_base_tool[:3, 3], atol=2e-3)


def test_previous_targets_are_kept_where_the_arm_lags_behind(panda: Kinematics) -> None:
    """Still chunks end where the last target was, wherever the arm was when it was observed."""
    arm = Arm(panda, settings(action=ActionConvention(anchor="previous_target")))
    start = arm.T_base_tool[0, 3]
    arm.command(arm.chunk(steady((0.03, 0, 0))))
    arm.run(0.3)  # the target is at 0.045 m by now, the arm is still gathering speed
    lagging = arm.chunk(steady())
    assert lagging.T_base_tool[0, 3] - start < 0.042
    arm.command(lagging)
    arm.run(2.0)
    assert arm.T_base_tool[0, 3] - start == pytest.approx(0.045, abs=1e-3)


def test_a_command_that_is_not_published_leaves_no_trace(arm: Arm) -> None:
    assert isinstance(arm.prepare(arm.chunk(steady((0.02, 0, 0)))), PreparedCommand)
    arm.run(0.3)
    assert arm.commander.prepare_stop(arm.now_ns) is None


def test_only_the_last_command_can_be_sent_and_only_once(arm: Arm) -> None:
    sent: list[Command] = []

    def send(command: Command) -> bool:
        sent.append(command)
        return True

    first = arm.prepare(arm.chunk(steady((0.02, 0, 0))))
    second = arm.prepare(arm.chunk(steady((0.02, 0, 0))))
    assert isinstance(first, PreparedCommand) and isinstance(second, PreparedCommand)
    with pytest.raises(ValueError, match="only the last command"):
        first.publish_through(send, arm.now_ns)
    assert second.publish_through(send, arm.now_ns) is None
    with pytest.raises(ValueError, match="only the last command"):
        second.publish_through(send, arm.now_ns)
    assert sent == [second.command]


def test_a_command_that_the_controller_does_not_take_leaves_no_trace(arm: Arm) -> None:
    def send(command: Command) -> bool:
        raise RejectedError(Cause.CONTROLLER_REJECTED, Response.DROP, "not now")

    prepared = arm.prepare(arm.chunk(steady((0.02, 0, 0))))
    assert isinstance(prepared, PreparedCommand)
    rejection = prepared.publish_through(send, arm.now_ns)
    assert rejection is not None and rejection.cause is Cause.CONTROLLER_REJECTED
    assert arm.commander.prepare_stop(arm.now_ns) is None


def test_a_clock_that_is_set_back_starts_anew(arm: Arm) -> None:
    arm.command(arm.chunk(steady((0.02, 0, 0))))
    arm.run(2.0)
    arm.now_ns = EPOCH_NS - 50 * 10**9
    prepared = arm.prepare(arm.chunk(steady((0.02, 0, 0))))
    assert isinstance(prepared, PreparedCommand)
    np.testing.assert_allclose(prepared.command.trajectory.positions[0], arm.state[0], atol=1e-9)


def test_a_clock_that_goes_back_a_little_does_not_keep_the_arm_from_stopping(arm: Arm) -> None:
    for _ in range(2):
        arm.command(arm.chunk(steady((0.02, 0, 0))))
        arm.run(0.5)
    arm.command(arm.chunk(steady((0.02, 0, 0))))
    set_back_ns = arm.now_ns - 50 * 10**6
    ramp = arm.commander.prepare_stop(set_back_ns)
    assert ramp is not None and np.abs(ramp.command.trajectory.velocities[0]).max() > 0.01
    assert ramp.publish_through(lambda command: True, set_back_ns) is None


def test_an_arm_moved_by_hand_after_a_trajectory_starts_from_where_it_is(arm: Arm) -> None:
    arm.command(arm.chunk(steady((0.01, 0, 0))))
    arm.run(2.0)
    elsewhere = arm.state[0] + 0.2
    arm.state = (elsewhere, np.zeros(7), np.zeros(7))
    prepared = arm.prepare(arm.chunk(steady()))
    assert isinstance(prepared, PreparedCommand)
    np.testing.assert_allclose(prepared.command.trajectory.positions[0], elsewhere, atol=1e-9)


@pytest.mark.parametrize("nudge", [0.01, 0.03, 0.049])
def test_an_arm_that_was_nudged_while_its_controller_was_off_goes_back_within_the_limits(
    arm: Arm, nudge: float
) -> None:
    arm.command(arm.chunk(steady((0.01, 0, 0))))
    arm.run(2.0)
    arm.controller = JointTrajectoryController(PANDA_JOINTS, arm.state[0] + nudge, arm.bounds)
    arm.run(0.1)
    assert isinstance(arm.command(arm.chunk(steady())), Command)
    arm.run(2.0)
    assert not arm.controller.violations and arm.rests


def test_velocity_limits_of_the_model_count_as_well(chain: Kinematics) -> None:
    joints = ("pan", "lift", "elbow", "wrist1", "wrist2", "wrist3")
    limits = Limits(joint_velocity=(1.0,), workspace_min=(-2, -2, -2), workspace_max=(2, 2, 2))
    robot = Robot(frames=Frames(base="base", tool="tool0"), limits=limits, command=CommandSettings(joints=joints))
    q = np.array([0.3, 0.5, 0.8, -0.4, 0.7, 0.2])
    actions = np.tile([0, 0, 0, 0, 0, 0.25, 1.0], (16, 1))
    chunk = ActionChunk(10**12, actions, STEP_S, chain.forward(q), "turn", 0, keep_all())
    answer = Commander(robot, chain).prepare(chunk, 10**12, JointState(q, np.zeros(6), 10**12))
    assert isinstance(answer, PreparedCommand)
    assert np.abs(answer.command.trajectory.velocities[:, 5]).max() <= 0.5 + 1e-6

"""The commander and a joint_trajectory_controller in closed loop, on clocks that the test drives."""

import numpy as np
import pytest
from commanded_arm import LIMITS, MS, STEP_S, Arm, command_settings, settings, steady
from control_robots import PANDA_HOME

from sqap_vla_ros.config.robot import ActionConvention
from sqap_vla_ros.control import commander
from sqap_vla_ros.control.commands import Command, JointState, PreparedCommand
from sqap_vla_ros.control.kinematics import Kinematics
from sqap_vla_ros.control.latency import WARM_UP
from sqap_vla_ros.core.rejection import Cause, Rejection


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

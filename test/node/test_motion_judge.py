import numpy as np
from trajectory_msgs.msg import JointTrajectory

from benchmarks.motion_judge import BEHIND_S, MotionJudge
from sqap_vla_ros.control.trajectory import JointLimits, Trajectory
from sqap_vla_ros.node.conversions import trajectory_message

START_NS = 10**12
LIMITS = JointLimits(*(bound * np.ones(1) for bound in (-2.0, 2.0, 0.5, 5.0, 100.0)))


def to_and_fro() -> JointTrajectory:
    """Away by 1 cm and back within 1.2 s; at rest there after 0.6 s."""
    times = np.arange(1, 61) * 0.02
    phase = 2 * np.pi * times / times[-1]
    positions = 0.005 * (1 - np.cos(phase))[:, None]
    velocities = 0.005 * (2 * np.pi / times[-1]) * np.sin(phase)[:, None]
    velocities[-1] = 0.0
    return trajectory_message(Trajectory(times, positions, velocities, velocities), ("joint1",), START_NS, "base")


def judge_of(received_s: float, handed_over_s: float) -> MotionJudge:
    judge = MotionJudge(("joint1",), np.zeros(1), LIMITS, START_NS)
    judge.watch(START_NS + round(handed_over_s * 1e9))
    judge.receive(START_NS + round(received_s * 1e9), to_and_fro())
    judge.watch(START_NS + 3 * 10**9)
    return judge


def test_a_command_counts_from_its_reception_however_late_it_is_handed_over() -> None:
    assert judge_of(0.01, 0.9 * BEHIND_S).violations == []


def test_a_command_that_is_received_late_is_a_jump() -> None:
    assert {violation.kind for violation in judge_of(0.5, 0.5).violations} == {"jump"}


def test_the_account_is_kept_over_a_restart() -> None:
    judge = judge_of(0.5, 0.5)
    before = list(judge.violations)
    judge.restart(START_NS + 4 * 10**9, np.ones(1))
    judge.watch(START_NS + 7 * 10**9)
    assert judge.violations == before != []

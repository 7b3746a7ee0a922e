import numpy as np
from trajectory_msgs.msg import JointTrajectory

from sqap_vla_ros.control.trajectory import JointLimits, Trajectory
from sqap_vla_ros.ros.conversions import trajectory_message
from sqap_vla_ros.testing.ideal_controller import IdealController

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


def received_at(received_s: float) -> IdealController:
    """A controller that got the command then, and was asked for the first time long after."""
    controller = IdealController(("joint1",), np.zeros(1), LIMITS, START_NS)
    controller.receive(START_NS + round(received_s * 1e9), to_and_fro())
    controller.follow(START_NS + 3 * 10**9)
    return controller


def test_a_command_counts_from_its_reception_however_late_the_controller_is_asked() -> None:
    controller = received_at(0.01)
    assert controller.violations == controller.rejections == []
    assert controller.follow(START_NS + 4 * 10**9)[0] == 0.0


def test_a_command_that_is_received_late_is_a_jump() -> None:
    assert {violation.kind for violation in received_at(0.5).violations} == {"jump"}


def test_a_command_that_is_received_after_its_end_is_rejected() -> None:
    (rejection,) = received_at(1.5).rejections
    assert "ended 0.300 s ago" in rejection


def test_what_was_wanted_does_not_depend_on_when_it_is_asked() -> None:
    at_ns = START_NS + 3 * 10**8
    often, once = (IdealController(("joint1",), np.zeros(1), LIMITS, START_NS) for _ in range(2))
    for controller in (often, once):
        controller.receive(START_NS + 10**7, to_and_fro())
    for asked_ns in range(START_NS, at_ns, 10**7):
        often.follow(asked_ns)
    assert once.follow(at_ns)[0] == often.follow(at_ns)[0] != 0.0


def test_the_account_is_kept_over_a_restart() -> None:
    controller = received_at(0.5)
    before = list(controller.violations)
    controller.restart(START_NS + 4 * 10**9, np.ones(1))
    controller.follow(START_NS + 7 * 10**9)
    assert controller.violations == before != []

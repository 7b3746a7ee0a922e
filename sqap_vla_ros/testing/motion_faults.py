"""Faults of how the arm moves: a speed slider, an arm that lags, plans that ask for nothing."""

from sqap_vla_ros.core.rejection import Cause
from sqap_vla_ros.testing.fault import Fault
from sqap_vla_ros.testing.fault_actions import Action, instructed, resume_when_started, robot
from sqap_vla_ros.testing.fault_bench import GOOD, SPEED_SCALING_AGE_S, FaultBench
from sqap_vla_ros.testing.fault_moments import not_timed, when_speed_scaling_is_old

# A node of its own: once it has seen another factor than one, it plans with a share of the limits.
_WITH_SLIDER: dict[str, object] = {"freshness.speed_scaling": SPEED_SCALING_AGE_S + 1e-3}
_MOVED_S = 0.5  # how long a hand takes from one end of the slider to the other


def slider(*steps: tuple[float, float]) -> Action:
    return lambda bench: bench.robot.move_slider(*steps)


def _back_to_full_speed(bench: FaultBench) -> None:
    bench.robot.reports_speed_scaling = True
    bench.robot.move_slider((_MOVED_S, 1.0))
    bench.spin(_MOVED_S)


def _silent_at_90_percent(bench: FaultBench) -> None:
    bench.robot.move_slider((_MOVED_S, 0.9))
    bench.spin(2 * _MOVED_S)
    bench.robot.reports_speed_scaling = False


def _fast_again(bench: FaultBench) -> None:
    bench.robot.pace = 1.0
    resume_when_started(bench)


def _slid(name: str, *steps: tuple[float, float], is_tested: bool = False) -> Fault:
    """A slider that is moved while the arm goes on."""
    return Fault(
        name,
        slider(*steps),
        _back_to_full_speed,
        (),
        not_timed,
        "goes on",
        steps[-1][0] + 2.0,
        _WITH_SLIDER,
        robot(reports_speed_scaling=True),
        is_tested,
    )


MOTION_FAULTS = (
    Fault("arm lags", robot(pace=0.5), _fast_again, (Cause.NOT_FOLLOWING,), not_timed, "stop", 2.0, is_tested=False),
    Fault(
        "plans ask for no motion",
        instructed("still"),
        instructed(GOOD),
        (Cause.PLANS_STAND_STILL,),
        not_timed,
        "rests, is named",
        7.0,
        is_tested=False,
    ),
    _slid("speed slider at 90 %", (_MOVED_S, 0.9)),
    _slid("speed slider at 50 %", (_MOVED_S, 0.5)),
    _slid("speed slider at 10 %", (_MOVED_S, 0.1)),
    _slid(
        "speed slider moved to and fro",
        *((_MOVED_S, 0.1), (1.5, 0.1), (1.5 + _MOVED_S, 1.0), (2.5, 0.6), (3.0, 0.9), (3.4, 0.3)),
        is_tested=True,
    ),
    Fault(
        "speed slider at 0 %",
        slider((_MOVED_S, 0.0)),
        _back_to_full_speed,
        (Cause.SPEED_SCALING_UNUSABLE,),
        not_timed,
        "hold",
        2.0,
        _WITH_SLIDER,
        robot(reports_speed_scaling=True),
        is_tested=False,
    ),
    Fault(
        "speed scaling falls silent",
        _silent_at_90_percent,
        _back_to_full_speed,
        (Cause.SPEED_SCALING_UNKNOWN,),
        when_speed_scaling_is_old,
        "hold",
        3.0,
        _WITH_SLIDER,
        robot(reports_speed_scaling=True),
    ),
)

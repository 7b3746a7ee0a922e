"""Events of the table of transitions that are about speed scaling, and about an arm that stands still."""

from collections.abc import Callable

import numpy as np
from hand_driven_loop import HandDrivenLoop


def scaling_falls_silent(bench: HandDrivenLoop) -> None:
    bench.reported_scaling = 0.9
    bench.pass_time(0.1)
    bench.reported_scaling = None
    bench.pass_time(0.8)


def slider_at_zero(bench: HandDrivenLoop) -> None:
    bench.reported_scaling = 0.0
    bench.pass_time(0.1)


def half_as_fast(bench: HandDrivenLoop) -> None:
    bench.speed = 0.15  # of what is missing, in each period
    bench.pass_time(2.0)


def plans_ask_for_no_motion(bench: HandDrivenLoop) -> None:
    bench.answers = lambda observation: bench.chunk(observation, actions=np.tile([0.0] * 6 + [1.0], (16, 1)))
    bench.pass_time(7.0)


def gripper_is_not_there(bench: HandDrivenLoop) -> None:
    bench.output.has_gripper = False
    bench.answers = lambda observation: bench.chunk(
        observation, actions=np.tile([0.0, 0.001, 0, 0, 0, 0, 0.0], (16, 1))
    )
    bench.pass_time(7.0)


MOTION_EVENTS: dict[str, Callable[[HandDrivenLoop], None]] = {
    "the speed scaling's topic falls silent": scaling_falls_silent,
    "the speed slider is moved to zero": slider_at_zero,
    "the arm lags, and nobody reports why": half_as_fast,
    "the plans ask for no motion for 7 s": plans_ask_for_no_motion,
    "the gripper's controller is not there for 7 s": gripper_is_not_there,
}

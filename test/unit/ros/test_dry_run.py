"""A dry run on an arm that others move: everything is planned and checked as if it were sent, without complaint."""

import numpy as np
import pytest
from hand_driven_loop import HOME, HandDrivenLoop

from sqap_vla_ros.control.safety.states import MotionState
from sqap_vla_ros.core.rejection import Cause


def moved_by_hand(speed_rad_s: float, **settings: object) -> HandDrivenLoop:
    """A dry run whose arm somebody moves to and fro, all joints alike."""
    bench = HandDrivenLoop(dry_run=True, **settings)

    def move() -> None:
        passed_s = (bench.clock.steady - 10**9) * 1e-9
        bench._q = HOME + speed_rad_s / 2 * np.sin(2 * passed_s)

    bench._move = move
    bench.supervisor.activate()
    return bench


@pytest.mark.parametrize("speed_rad_s", [0.0, 0.3, 1.5])
def test_plans_are_checked_while_others_move_the_arm(speed_rad_s: float) -> None:
    bench = moved_by_hand(speed_rad_s)
    bench.pass_time(4.0)
    statistics = bench.loop.inputs.statistics
    assert bench.state is MotionState.RUNNING
    assert statistics.commands_refused == 0, statistics.last_rejection
    assert statistics.chunks_published > 50
    assert len(statistics.latencies_s) == statistics.chunks_published  # each led to a command that passed all checks
    assert bench.output.commands == []


@pytest.mark.parametrize(("actions", "cause"), [(np.nan, Cause.CHUNK_INVALID)])
def test_what_would_not_be_sent_is_named_all_the_same(actions: float, cause: Cause) -> None:
    bench = moved_by_hand(0.3)
    bench.pass_time(1.0)
    bench.answers = lambda observation: bench.chunk(observation, actions=np.full((16, 7), actions))
    bench.pass_time(0.1)
    assert bench.cause == cause


def test_an_arm_that_others_move_is_not_commanded() -> None:
    """What the dry run is excused from still holds where commands are sent."""
    bench = moved_by_hand(1.0)
    bench.pass_time(0.2)
    bench.supervisor.set_dry_run(False)
    bench.pass_time(0.2)
    assert bench.cause == Cause.ALREADY_MOVING
    assert bench.output.commands == []

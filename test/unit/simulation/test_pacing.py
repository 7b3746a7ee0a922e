"""Simulated time against wall time."""

import threading

import pytest

from sqap_vla_ros.simulation import pacing


class WallClock(threading.Event):
    """A wall clock that passes only while somebody waits."""

    def __init__(self) -> None:
        super().__init__()
        self.now_s = 100.0

    def wait(self, timeout: float | None = None) -> bool:
        self.now_s += timeout or 0.0
        return False


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> WallClock:
    clock = WallClock()
    monkeypatch.setattr(pacing.time, "monotonic", lambda: clock.now_s)
    return clock


def test_simulated_time_waits_for_wall_time(clock: WallClock) -> None:
    pacer = pacing.Pacer(2.0, clock)
    assert pacer.wait(1.0) == 0.0
    assert clock.now_s == pytest.approx(100.5)


def test_a_factor_of_zero_never_waits(clock: WallClock) -> None:
    pacing.Pacer(0.0, clock).wait(1000.0)
    assert clock.now_s == 100.0


def test_a_hiccup_is_caught_up_with(clock: WallClock) -> None:
    pacer = pacing.Pacer(1.0, clock)
    clock.now_s += 0.015
    assert pacer.wait(0.01) == 0.0
    pacer.wait(0.02)
    assert clock.now_s == pytest.approx(100.02)


def test_time_that_a_slow_machine_loses_stays_lost(clock: WallClock) -> None:
    pacer = pacing.Pacer(1.0, clock)
    clock.now_s += 1.0
    assert pacer.wait(0.01) == pytest.approx(0.97)
    pacer.wait(0.05)
    assert clock.now_s == pytest.approx(101.02)

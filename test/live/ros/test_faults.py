"""Faults, injected into a node in a process of its own: the arm does nothing unsafe, and goes on when they are gone.

`python -m benchmarks.faults` measures the same faults. Limits of time are those of a busy machine here.
"""

import signal
from collections.abc import Iterator

import pytest
import rclpy

from sqap_vla_ros.testing.fault import Fault
from sqap_vla_ros.testing.fault_bench import HORIZON_S, FaultBench
from sqap_vla_ros.testing.fault_cases import FAULTS
from sqap_vla_ros.testing.fault_injection import end_node, meet

HOLD_MS = 150.0
BUSY = 4.0
# What follows the horizon: the lead, and a ramp.
RAMP_S = 1.0


@pytest.fixture(scope="module")
def bench() -> Iterator[FaultBench]:
    rclpy.init()
    with FaultBench() as made:
        yield made
    rclpy.shutdown()


@pytest.mark.parametrize("fault", [fault for fault in FAULTS if fault.is_tested], ids=lambda fault: fault.name)
def test_a_fault_is_named_and_does_no_harm_and_the_arm_goes_on_after_it(bench: FaultBench, fault: Fault) -> None:
    reaction = meet(bench, fault)
    assert reaction.recovered
    assert not reaction.violations
    assert reaction.reported
    assert reaction.hold_ms is None or reaction.hold_ms <= BUSY * HOLD_MS


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL], ids=["SIGTERM", "SIGKILL"])
def test_a_node_that_ends_leaves_the_arm_at_rest(bench: FaultBench, number: signal.Signals) -> None:
    reaction = end_node(bench, number)
    assert not reaction.violations
    assert reaction.rest_s is not None and reaction.rest_s <= HORIZON_S + RAMP_S

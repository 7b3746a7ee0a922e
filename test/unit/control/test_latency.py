import pytest

from sqap_vla_ros.control.latency import (
    FIRST_GUESS_S,
    LONGEST_S,
    SPARE_LEAD_NS,
    SPARE_S,
    TRANSPORT_NS,
    WARM_UP,
    DelayEstimate,
    LeadEstimate,
)


def estimate(delays_s: list[float], period_s: float = 0.2) -> DelayEstimate:
    horizon = DelayEstimate()
    for k, delay_s in enumerate(delays_s):
        now_s = 100 + k * period_s
        horizon.add(round((now_s - delay_s) * 1e9), round(now_s * 1e9))
    return horizon


def test_it_covers_delay_and_period_and_some_time_to_spare() -> None:
    assert estimate([0.1] * 10).horizon_s == pytest.approx(0.1 + 0.2 + SPARE_S)


def test_a_rare_delay_counts() -> None:
    assert estimate([0.1] * 100 + [0.3] * 5).horizon_s == pytest.approx(0.3 + 0.2 + SPARE_S)


def test_the_first_plans_do_not_count() -> None:
    assert estimate([5.0] * WARM_UP + [0.1] * 10).horizon_s == pytest.approx(0.1 + 0.2 + SPARE_S)


def test_before_anything_is_measured_there_is_a_guess() -> None:
    assert estimate([5.0] * WARM_UP).horizon_s == FIRST_GUESS_S


def test_it_is_bounded_whatever_was_measured() -> None:
    assert estimate([60.0] * 10).horizon_s == LONGEST_S


def test_a_pause_is_not_a_period() -> None:
    horizon = estimate([0.1] * 10)
    horizon.interrupt()
    horizon.add(round(1e12 - 0.1e9), round(1e12))
    assert horizon.horizon_s == pytest.approx(0.1 + 0.2 + SPARE_S)


def test_the_lead_covers_what_computing_a_command_took() -> None:
    lead = LeadEstimate()
    assert lead.lead_ns == TRANSPORT_NS + SPARE_LEAD_NS
    for _ in range(50):
        lead.computed(30_000_000)
    assert lead.lead_ns == TRANSPORT_NS + SPARE_LEAD_NS + 30_000_000


def test_the_lead_covers_a_way_that_takes_as_long_as_the_way_back_once_did() -> None:
    lead = LeadEstimate()
    for age_ns in (10_000_000, 90_000_000, 10_000_000):
        lead.received(age_ns)
    assert lead.lead_ns == 90_000_000 + SPARE_LEAD_NS

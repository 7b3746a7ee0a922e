"""The verdict with a noise floor: it keeps its word about chance, and says PASS only of what was judged."""

import numpy as np
import pytest

from sqap_vla_ros.tools.replay.judgement import Distances, Finding, Outcome, judge, sentence, verdict_of

TICKS = 120


def distances(ratio: float, *, seed: int = 0, ticks: int = TICKS, block: int = 4, gripper: float = 0.0) -> Distances:
    """A policy that is `ratio` times as far from the reference as that is from itself, each tick by chance."""
    generator = np.random.default_rng(seed)
    values, floor = ratio * generator.gamma(2.0, 0.001, ticks), generator.gamma(2.0, 0.001, ticks)
    differs = (generator.random(ticks) < gripper).astype(float)
    return Distances(
        {"displacement": values, "rotation": 3 * values, "gripper": differs},
        {"displacement": floor, "rotation": 3 * floor, "gripper": np.zeros(ticks)},
        block,
    )


def outcomes(findings: list[Finding]) -> list[Outcome | None]:
    return [finding.outcome for finding in findings]


@pytest.mark.parametrize(
    ("ratio", "outcome"), [(0.0, Outcome.PASS), (0.5, Outcome.PASS), (2.0, Outcome.FAIL), (50.0, Outcome.FAIL)]
)
def test_what_is_nearer_than_the_floor_passes_and_what_is_farther_fails(ratio: float, outcome: Outcome) -> None:
    findings = judge([distances(ratio)], {})
    assert verdict_of(findings) is outcome
    assert outcomes(findings) == [outcome, outcome, Outcome.PASS]


def test_what_is_about_as_far_as_the_floor_is_undecided() -> None:
    findings = judge([distances(1.0)], {})
    assert verdict_of(findings) is Outcome.UNDECIDED
    assert sentence(findings, [], "1 bag").startswith("UNDECIDED: displacement ")


def test_chance_alone_makes_a_policy_that_is_the_reference_pass_or_fail_in_one_of_forty_at_most_each() -> None:
    drawn = [judge([distances(1.0, seed=seed)], {})[0].outcome for seed in range(400)]
    for outcome in (Outcome.PASS, Outcome.FAIL):
        assert drawn.count(outcome) / 400 < 0.025 + 3 * np.sqrt(0.025 * 0.975 / 400)
    assert drawn.count(Outcome.UNDECIDED) > 340


def test_ticks_that_repeat_one_another_do_not_make_it_surer() -> None:
    once = distances(1.6, ticks=12, block=1)
    repeated = Distances(
        *({name: column.repeat(10) for name, column in part.items()} for part in (once.values, once.floor or {})),
        block=10,
    )
    assert judge([repeated], {})[0].interval == pytest.approx(judge([once], {})[0].interval)


def test_of_five_bags_or_more_each_counts_once() -> None:
    bags = [distances(0.5, seed=seed, ticks=20 * (1 + seed)) for seed in range(5)]
    displacement = judge(bags, {})[0]
    excess = [float((bag.values["displacement"] - (bag.floor or {})["displacement"]).mean()) for bag in bags]
    assert np.mean(displacement.interval) == pytest.approx(np.mean(excess))


@pytest.mark.parametrize("ratio", [0.1, 10.0])
def test_a_few_ticks_decide_nothing(ratio: float) -> None:
    findings = judge([distances(ratio, ticks=16)], {})
    assert verdict_of(findings) is Outcome.UNDECIDED and "too few" in findings[0].words


def test_the_gripper_alone_can_fail() -> None:
    findings = judge([distances(0.5, gripper=0.5)], {})
    assert outcomes(findings) == [Outcome.PASS, Outcome.PASS, Outcome.FAIL]
    assert sentence(findings, [], "1 bag").startswith("FAIL: gripper ")


def test_what_is_not_known_is_not_judged_and_said_so() -> None:
    bag = distances(0.5)
    unknown = Distances({**bag.values, "gripper": np.full(TICKS, np.nan)}, bag.floor, bag.block)
    findings = judge([unknown], {})
    assert outcomes(findings)[2] is None and verdict_of(findings) is Outcome.PASS
    assert "gripper is not judged" in sentence(findings, [], "1 bag")


def test_without_floor_and_limit_nothing_is_judged() -> None:
    bag = distances(0.0)
    findings = judge([Distances(bag.values, None, bag.block)], {})
    assert outcomes(findings) == [None] * 3 and verdict_of(findings) is Outcome.UNDECIDED


@pytest.mark.parametrize(("ratio", "outcome"), [(0.0, Outcome.PASS), (1.0, Outcome.UNDECIDED)])
def test_a_reference_without_noise_is_no_floor(ratio: float, outcome: Outcome) -> None:
    bag = distances(ratio)
    zero = {name: np.zeros(TICKS) for name in bag.values}
    findings = judge([Distances(bag.values, zero, bag.block)], {})
    assert verdict_of(findings) is outcome
    assert outcome is Outcome.PASS or "without noise" in findings[0].words


def test_a_limit_takes_the_place_of_the_floor() -> None:
    bag = distances(2.0)
    p95 = float(np.percentile(bag.values["displacement"], 95))
    for limit, outcome in ((1.01 * p95, Outcome.PASS), (0.99 * p95, Outcome.FAIL)):
        assert judge([bag], {"displacement": limit})[0].outcome is outcome


def test_missing_ticks_fail_whatever_was_planned() -> None:
    findings = judge([distances(0.5)], {})
    assert verdict_of(findings, ["2 ticks are planned in A only"]) is Outcome.FAIL
    assert sentence(findings, ["2 ticks are planned in A only"], "1 bag").startswith("FAIL: 2 ticks")

"""Intervals for success rates, and for their difference over the same episodes.

Both come from Wilson's score interval, which keeps its coverage for the rates that matter here: near one, with 25 to
100 episodes. Episodes of several tasks are pooled; with a rate per task this widens the intervals a little.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod, sqrt

from scipy.stats import binomtest

LEVEL = 0.95


@dataclass(frozen=True)
class Estimate:
    """A share or a difference of shares, with its 95 % interval.

    Attributes:
        value: From 0 to 1; a difference from -1 to 1.
        low: Lower end of the interval.
        high: Upper end of the interval.
        count: Number of episodes, or of pairs of episodes.
    """

    value: float
    low: float
    high: float
    count: int


def success_rate(outcomes: Sequence[bool]) -> Estimate:
    """The share of successes with Wilson's score interval (Wilson 1927, doi:10.1080/01621459.1927.10502953).

    Raises:
        ValueError: There is no outcome.
    """
    if not outcomes:
        raise ValueError("no outcome to estimate a rate from; play an episode first")
    interval = binomtest(sum(outcomes), len(outcomes)).proportion_ci(LEVEL, method="wilson")
    return Estimate(sum(outcomes) / len(outcomes), float(interval.low), float(interval.high), len(outcomes))


def paired_difference(ours: Sequence[bool], theirs: Sequence[bool]) -> Estimate:
    """Our share of successes minus theirs over the same episodes, with Newcombe's score interval.

    Newcombe 1998, "Improved confidence intervals for the difference between binomial proportions based on paired data"
    (Statistics in Medicine 17, 2635-2650), method 10: the Wilson intervals of both shares, put together with the
    correlation of the outcomes, which is corrected for continuity where it is positive.

    Args:
        ours: Our outcomes, episode by episode.
        theirs: Their outcomes of the same episodes, in the same order.

    Raises:
        ValueError: There is no pair, or there are not equally many.
    """
    pairs = list(zip(ours, theirs, strict=True))
    a, b = success_rate(ours), success_rate(theirs)
    both, only_ours, only_theirs, neither = (
        pairs.count(pair) for pair in ((True, True), (True, False), (False, True), (False, False))
    )
    correlation = _correlation(both, only_ours, only_theirs, neither)
    below = _combine(a.value - a.low, b.high - b.value, correlation)
    above = _combine(a.high - a.value, b.value - b.low, correlation)
    difference = a.value - b.value
    return Estimate(difference, max(-1.0, difference - below), min(1.0, difference + above), len(pairs))


def _combine(x: float, y: float, correlation: float) -> float:
    return sqrt(max(0.0, x * x - 2 * correlation * x * y + y * y))


def _correlation(both: int, only_ours: int, only_theirs: int, neither: int) -> float:
    margins = (both + only_ours, only_theirs + neither, both + only_theirs, only_ours + neither)
    if not all(margins):
        return 0.0
    determinant = float(both * neither - only_ours * only_theirs)
    if determinant > 0:
        pairs = sum(margins) / 2
        determinant = max(determinant - pairs / 2, 0.0)
    return determinant / sqrt(prod(margins))

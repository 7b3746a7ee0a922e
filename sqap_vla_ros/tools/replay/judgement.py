"""The verdict: does a policy plan the same as a reference, as far as the reference plans the same as itself?

A diffusion policy draws noise for every plan, so that two plans on one image differ. The distance between two plans of
the reference that differ in their noise alone is the *noise floor*. A policy passes if it is, on average, no farther
from the reference than that.

The interval of that average comes from Student's t over units that are nearly independent: the bags, each of which
counts once, if there are enough of them, since the ticks of a bag show one scene and one task; otherwise stretches of
ticks as long as a horizon, within which plans cover the same time. With as few units as a laboratory has, percentiles
of a bootstrap over the same units are too narrow; t is not.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from math import isfinite, sqrt

import numpy as np
from numpy.typing import NDArray
from scipy.stats import t as students_t

Values = NDArray[np.float64]

LEVEL = 0.95
FEWEST_UNITS = 5
"""Fewer bags than this, and stretches of ticks are the units; fewer stretches, and nothing is decided."""
NOTHING_JUDGED = (
    "no plan was judged, since no noise floor is known; replay the reference with --noise-floor on, or give "
    "--max-displacement, --max-rotation or --max-gripper"
)


class Outcome(Enum):
    """What a verdict begins with. The value is the exit code; 2 is a user's mistake."""

    PASS = 0
    FAIL = 1
    UNDECIDED = 3


@dataclass(frozen=True)
class Quantity:
    """Something in which two plans differ.

    Attributes:
        name: Its name in a sentence.
        unit: Its unit.
        scale: Factor from the SI value, or the share, to the unit.
    """

    name: str
    unit: str
    scale: float

    def number(self, value: float) -> str:
        """A value without its unit; a figure that is not zero does not look like it."""
        scaled = self.scale * value
        return f"{scaled:.2f}" if abs(scaled) >= 0.005 or not scaled else f"{scaled:.1g}"

    def format(self, value: float) -> str:
        """A value with its unit."""
        return self.number(value) + self.unit


QUANTITIES = {
    "displacement": Quantity("displacement", " mm", 1e3),
    "rotation": Quantity("rotation", "°", 180 / np.pi),
    "gripper": Quantity("gripper", " % of the steps", 100.0),
}


@dataclass(frozen=True)
class Distances:
    """How far the plans of one bag are from the reference's.

    Attributes:
        values: float64 (ticks,), by quantity: mean displacement over the horizon (m), rotation at its end (rad), share
            of its steps in which the grippers differ; NaN where unknown.
        floor: The same between two plans of the reference with other noise; None: not measured.
        block: Number of consecutive ticks whose plans cover the same time.
    """

    values: Mapping[str, Values]
    floor: Mapping[str, Values] | None
    block: int


@dataclass(frozen=True)
class Finding:
    """What was found about a quantity.

    Attributes:
        quantity: Which one.
        outcome: Whether it passes; None: there is nothing to judge.
        value: Mean distance to the reference, NaN without ticks.
        floor: Mean distance of the reference from itself, NaN if it was not measured.
        interval: 95 % interval of how far the value lies above the floor, NaN if there is none.
        words: Why the outcome is what it is.
    """

    quantity: Quantity
    outcome: Outcome | None
    value: float
    floor: float
    interval: tuple[float, float]
    words: str


def judge(bags: Sequence[Distances], limits: Mapping[str, float | None]) -> list[Finding]:
    """Judge every quantity: by the user's limit where there is one, otherwise by the noise floor.

    Args:
        bags: The distances in each bag.
        limits: By quantity: for displacement and rotation the limit of 95 % of the ticks, for the gripper that of the
            mean; None: the noise floor.
    """
    deterministic = _is_deterministic(bags)
    return [_judge(name, bags, limits.get(name), deterministic) for name in QUANTITIES]


def verdict_of(findings: Sequence[Finding], problems: Sequence[str] = ()) -> Outcome:
    """The one outcome: it is PASS only if something was judged, and nothing speaks against it.

    Args:
        findings: Result of `judge`.
        problems: What makes the policy fail besides its plans.
    """
    outcomes = {finding.outcome for finding in findings}
    if problems or Outcome.FAIL in outcomes:
        return Outcome.FAIL
    return Outcome.PASS if outcomes - {None} == {Outcome.PASS} else Outcome.UNDECIDED


def sentence(findings: Sequence[Finding], problems: Sequence[str], over: str) -> str:
    """The verdict in one line.

    Args:
        findings: Result of `judge`.
        problems: As for `verdict_of`.
        over: What was judged, as "66 ticks of 1 bag".
    """
    outcome = verdict_of(findings, problems)
    decisive = [finding.words for finding in findings if finding.outcome in (outcome, None) and finding.words]
    if {finding.outcome for finding in findings} == {None}:
        decisive = [NOTHING_JUDGED]
    if outcome is Outcome.FAIL:
        decisive = [*problems, *(finding.words for finding in findings if finding.outcome is Outcome.FAIL)]
    return f"{outcome.name}: {'; '.join(decisive)} (over {over})"


def _judge(name: str, bags: Sequence[Distances], limit: float | None, deterministic: bool) -> Finding:
    quantity = QUANTITIES[name]
    values = np.concatenate([bag.values[name] for bag in bags]) if bags else np.empty(0)
    values = values[np.isfinite(values)]
    nothing = (np.nan, np.nan)
    if not values.size:
        return Finding(quantity, None, np.nan, np.nan, nothing, f"{quantity.name} is not judged: it is not known")
    mean = float(values.mean())
    if limit is not None:
        return _by_limit(quantity, name, values, limit)
    if any(bag.floor is None for bag in bags):
        return Finding(quantity, None, mean, np.nan, nothing, f"{quantity.name} is not judged: no noise floor")
    excesses = [bag.values[name] - bag.floor[name] for bag in bags if bag.floor]
    floors = np.concatenate([bag.floor[name] for bag in bags if bag.floor])
    floor = float(np.nanmean(floors)) if np.isfinite(floors).any() else np.nan
    units, what = _units(excesses, [bag.block for bag in bags])
    low, high = interval = _interval(units)
    against = f"{quantity.name} {quantity.number(mean)}, noise floor {quantity.format(floor)}"
    if deterministic and mean > 0:
        words = f"{quantity.name} {quantity.format(mean)}, and the reference plans without noise: give a limit instead"
        return Finding(quantity, Outcome.UNDECIDED, mean, floor, nothing, words)
    if not isfinite(low):
        words = f"{against}: {len(units)} {what} are too few to tell, at least {FEWEST_UNITS} are needed"
        return Finding(quantity, Outcome.UNDECIDED, mean, floor, interval, words)
    outcome = Outcome.PASS if high <= 0 else Outcome.FAIL if low > 0 else Outcome.UNDECIDED
    ends = f"{quantity.number(low)} to {quantity.number(high)}"
    words = {
        Outcome.PASS: against,
        Outcome.FAIL: f"{against}, above it by {ends} (95 % interval, {len(units)} {what})",
        Outcome.UNDECIDED: f"{against}, difference {ends} (95 % interval, {len(units)} {what}): replay more to tell",
    }[outcome]
    return Finding(quantity, outcome, mean, floor, interval, words)


def _by_limit(quantity: Quantity, name: str, values: Values, limit: float) -> Finding:
    mean = float(values.mean())
    judged = mean if name == "gripper" else float(np.percentile(values, 95))
    within = "on average" if name == "gripper" else "in 95 % of the ticks"
    words = f"{quantity.name} {quantity.format(judged)} {within}, at most {quantity.format(limit)} allowed"
    outcome = Outcome.PASS if judged <= limit else Outcome.FAIL
    return Finding(quantity, outcome, mean, np.nan, (np.nan, np.nan), words)


def _is_deterministic(bags: Sequence[Distances]) -> bool:
    """Whether noise changes no plan of the reference."""
    floors = [bag.floor[name] for bag in bags if bag.floor for name in ("displacement", "rotation")]
    known = [floor[np.isfinite(floor)] for floor in floors]
    return any(floor.size for floor in known) and not any(floor.any() for floor in known)


def _units(excesses: Sequence[Values], blocks: Sequence[int]) -> tuple[Values, str]:
    """Mean excess of each independent unit, and what the units are."""
    known = [(excess[np.isfinite(excess)], block) for excess, block in zip(excesses, blocks, strict=True)]
    known = [(excess, block) for excess, block in known if excess.size]
    if len(known) >= FEWEST_UNITS:
        return np.array([excess.mean() for excess, _ in known]), "bags"
    stretches = [
        stretch.mean() for excess, block in known for stretch in np.array_split(excess, max(len(excess) // block, 1))
    ]
    return np.array(stretches, np.float64), "stretches of ticks"


def _interval(units: Values) -> tuple[float, float]:
    """Student's interval of the mean of independent values; NaN if they are too few."""
    if len(units) < FEWEST_UNITS:
        return np.nan, np.nan
    mean, error = float(units.mean()), float(units.std(ddof=1)) / sqrt(len(units))
    reach = float(students_t.ppf((1 + LEVEL) / 2, len(units) - 1)) * error
    return mean - reach, mean + reach

"""Counting reasons in words: those that differ in their numbers only are one."""

import re
from collections import Counter

_NUMBER = re.compile(r"-?\d[\d.]*")


def same_kind(a: str, b: str) -> bool:
    """Whether two reasons differ in their numbers only."""
    return _NUMBER.sub("#", a) == _NUMBER.sub("#", b)


class ReasonCounter:
    """How often each kind of reason was given, under the words of its first occurrence."""

    def __init__(self) -> None:
        self._first_words: dict[str, str] = {}
        self._counts = Counter[str]()

    def add(self, reason: str, count: int = 1) -> None:
        """Count a reason."""
        self._counts[self._first_words.setdefault(_NUMBER.sub("#", reason), reason)] += count

    @property
    def total(self) -> int:
        """Of all kinds."""
        return self._counts.total()

    def most_common(self) -> dict[str, int]:
        """Words to count, the most frequent first."""
        return dict(self._counts.most_common())

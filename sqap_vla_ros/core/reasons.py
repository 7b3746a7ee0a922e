"""Counts reasons, which are sentences: those that differ in their numbers only are one."""

import re
from collections import Counter

_NUMBER = re.compile(r"-?\d[\d.]*")


class ReasonCounter:
    """How often each kind of reason was given, under the sentence of its first occurrence."""

    def __init__(self) -> None:
        self._first_sentences: dict[str, str] = {}
        self._counts = Counter[str]()

    def add(self, reason: str, count: int = 1) -> None:
        """Count a reason."""
        self._counts[self._first_sentences.setdefault(_NUMBER.sub("#", reason), reason)] += count

    @property
    def total(self) -> int:
        """How many reasons of all kinds were counted."""
        return self._counts.total()

    def most_common(self) -> dict[str, int]:
        """Sentences with their counts, the most frequent first."""
        return dict(self._counts.most_common())

"""A finding about transactions, before it is told as an anomaly with its records."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

MOST_EXAMPLES: Final = 8
"""How many findings of a kind are told in full; the rest are counted."""

MOST_EXAMINED: Final = 4096
"""How many suspects of a kind are examined one by one; past that, counts are lower bounds."""

_FIRST_NAME: Final = 0xE000  # of Unicode's private use area, which ``repr`` escapes: no value of a history holds it


def who(place: int) -> str:
    """What stands for a transaction in a story, by its place among those that the story is about."""
    return chr(_FIRST_NAME + place)


ONE: Final = who(0)
TWO: Final = who(1)


def filled(story: str, labels: Iterable[str]) -> str:
    """The story with labels in the places of its transactions."""
    return story.translate({_FIRST_NAME + place: label for place, label in enumerate(labels)})


@dataclass(frozen=True, slots=True)
class Case:
    """One finding: its anomaly, the transactions that show it (by number), and the words.

    ``story`` names the transactions as ``who(0)``, ``who(1)`` ... in the order of ``txns``.
    """

    name: str
    story: str
    txns: tuple[int, ...]
    key: Any = None
    details: Mapping[str, Any] = field(default_factory=dict)


@dataclass(slots=True)
class Findings:
    """Findings by kind: all counted, the first few kept."""

    cases: list[Case] = field(default_factory=list)
    counts: dict[str, int] = field(default_factory=dict)

    def add(self, case: Case) -> None:
        """Count a finding and keep it while there are few of its kind."""
        count = self.counts[case.name] = self.counts.get(case.name, 0) + 1
        if count <= MOST_EXAMPLES:
            self.cases.append(case)

    def more(self, name: str, count: int) -> None:
        """Count findings that are not told."""
        if count > 0:
            self.counts[name] = self.counts.get(name, 0) + count

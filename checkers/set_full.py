"""Set-full: the life of every element over all reads, not only the last (Jepsen's ``set-full``).

Operations: ``add`` of one element, ``read`` returning all of them.  For one
element, let

- *known* be the completion of its ok add or of the first read that holds it,
  whichever is earlier,
- *last present* and *last absent* be the invocations of the latest ok reads
  that hold it and that, though an add was invoked before they completed, do not.

It is **stable** when it was seen, and no read that began later missed it; **lost**
when a read that began after it was known, and after every read that saw it,
missed it; **never-read** otherwise.  A stable element that a read missed
although that began after it was known is **stale**; its latency runs from known
to just after the last absent read.  Order is that of the records; only
latencies look at clocks.

Unlike Jepsen's, duplicates in one read are found, and so is an element that
nobody had added, or whose adds had all failed.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Literal

from splitvote.checkers.elements import MOST_ANOMALIES, element, in_order, listed, plural, records_of, told
from splitvote.checkers.sets import adds_by_element, why_impossible
from splitvote.checkers.stats import quantiles_ms
from splitvote.harness.history import History
from splitvote.harness.op import Operation
from splitvote.harness.recording import Recording
from splitvote.harness.result import Anomaly, Budget, Result, Verdict

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Numbers = npt.NDArray[np.int64]

Outcome = Literal["stable", "lost", "never-read"]
_WORST: Final = 8
_NEVER: Final = 1 << 62


class SetFullChecker:
    """INVALID for lost, duplicate and unexpected elements, and for stale ones where ``linearizable`` is asked.

    UNKNOWN when no element was ever stable: the run says nothing of the set.
    """

    name = "set-full"

    def __init__(self, *, linearizable: bool = False) -> None:
        self._linearizable = linearizable

    def check(self, recording: Recording, budget: Budget) -> Result:
        """Follow every element through every read."""
        lives = _Lives.of(recording.history, budget)
        outcomes = lives.outcomes()
        by_outcome: dict[Outcome, list[int]] = {"stable": [], "lost": [], "never-read": []}
        for place, outcome in enumerate(outcomes):
            by_outcome[outcome].append(place)
        stale = [place for place in by_outcome["stable"] if lives.is_stale(place)]
        anomalies = [lives.explain("lost", place) for place in by_outcome["lost"][:MOST_ANOMALIES]]
        anomalies += lives.duplicate_anomalies() + lives.unexpected_anomalies()
        if self._linearizable:
            anomalies += [lives.explain("stale", place) for place in stale[:MOST_ANOMALIES]]
        verdict = Verdict.VALID if by_outcome["stable"] else Verdict.UNKNOWN
        summary = _Summary(lives, by_outcome, stale)
        return Result(
            self.name,
            Verdict.INVALID if anomalies else verdict,
            reason=summary.reason(bool(anomalies), self._linearizable),
            anomalies=tuple(anomalies),
            evidence=summary.evidence(),
            stats=summary.stats(),
        )


@dataclass(slots=True)
class _Lives:
    """Elements by place, in the order of their first add, and what the reads say of each (record indices)."""

    elements: list[Any]
    adds: list[list[Operation]]
    reads: list[Operation]
    known: Numbers
    known_by: list[Operation | None]
    last_present: Numbers
    last_absent: Numbers
    duplicates: dict[Any, tuple[int, Operation]] = field(default_factory=dict)
    unexpected: dict[Any, Operation] = field(default_factory=dict)

    @classmethod
    def of(cls, history: History, budget: Budget) -> _Lives:
        """Read the whole history."""
        import numpy as np

        by_element = adds_by_element(history)
        size = len(by_element)
        lives = cls(
            list(by_element),
            list(by_element.values()),
            [operation for operation in history.operations if operation.f == "read" and operation.type == "ok"],
            np.full(size, _NEVER, np.int64),
            [None] * size,
            np.full(size, -1, np.int64),
            np.full(size, -1, np.int64),
        )
        lives._acknowledge()
        lives._follow_reads(budget)
        return lives

    def _acknowledge(self) -> None:
        for place, adds in enumerate(self.adds):
            for add in adds:
                if add.type == "ok" and _completed(add) < self.known[place]:
                    self.known[place] = _completed(add)
                    self.known_by[place] = add

    def _follow_reads(self, budget: Budget) -> None:
        import numpy as np

        place_of = {value: place for place, value in enumerate(self.elements)}
        first_add = np.array([adds[0].invoke.index for adds in self.adds], np.int64)
        first_hope = np.array([_first_hope(adds) for adds in self.adds], np.int64)
        for read in self.reads:
            budget.check(len(read.output or ()) + 1)
            began, ended = read.invoke.index, _completed(read)
            present = np.zeros(len(self.elements), bool)
            present[self._places(read, place_of, first_hope)] = True
            seen = np.flatnonzero(present)
            self._make_known(read, seen[self.known[seen] > ended])
            self.last_present[seen] = np.maximum(self.last_present[seen], began)
            alive = int(np.searchsorted(first_add, ended))
            missing = np.flatnonzero(~present[:alive])
            self.last_absent[missing] = np.maximum(self.last_absent[missing], began)

    def _places(self, read: Operation, place_of: dict[Any, int], first_hope: Numbers) -> Numbers:
        """The places of the elements that the read holds; duplicates and unexpected elements are noted."""
        import numpy as np

        values = read.output or ()
        try:
            found = [place_of.get(value, -1) for value in values]
        except TypeError:  # elements that are lists
            values = [element(value) for value in values]
            found = [place_of.get(value, -1) for value in values]
        if len(set(found)) != len(found):
            self._note_duplicates(read, [element(value) for value in values])
        places = np.array(found, np.int64)
        unhoped = np.append(first_hope, _NEVER)[places] > _completed(read)  # -1 picks the NEVER at the end
        for number in np.flatnonzero(unhoped).tolist():
            self.unexpected.setdefault(element(values[number]), read)
        hoped: Numbers = places[~unhoped]
        return hoped

    def _note_duplicates(self, read: Operation, values: list[Any]) -> None:
        for value, count in Counter(values).items():
            if count > self.duplicates.get(value, (1, read))[0]:
                self.duplicates[value] = (count, read)

    def _make_known(self, read: Operation, places: Numbers) -> None:
        for place in places.tolist():
            self.known[place] = _completed(read)
            self.known_by[place] = read

    def outcomes(self) -> list[Outcome]:
        """What became of every element."""
        stable = self.last_absent < self.last_present
        missed = self.known < self.last_absent
        return [
            "stable" if is_stable else "lost" if was_missed else "never-read"
            for is_stable, was_missed in zip(stable.tolist(), missed.tolist(), strict=True)
        ]

    def is_stale(self, place: int) -> bool:
        """Whether a read missed the element although that began after it was known."""
        return bool(self.known[place] < self.last_absent[place])

    def latency_ns(self, outcome: Literal["stable", "lost"], place: int, times: dict[int, int]) -> int:
        """From known to just after the last read that missed it (stable), or that saw it (lost); never negative."""
        known_by = self.known_by[place]
        assert known_by is not None
        assert known_by.completion is not None
        last = int(self.last_absent[place] if outcome == "stable" else self.last_present[place])
        return max(0, times[last] + 1 - known_by.completion.time_ns) if last >= 0 else 0

    def explain(self, name: Literal["lost", "stale"], place: int) -> Anomaly:
        """One lost or stale element, with the add or read that made it known and a read that missed it."""
        value, known_by = self.elements[place], self.known_by[place]
        assert known_by is not None
        missed = next(read for read in self.reads if read.invoke.index == self.last_absent[place])
        sure = "acknowledged it" if known_by.f == "add" else "had seen it"
        later = "no later read holds it" if name == "lost" else "a later read holds it again"
        story = (
            f"Element {value!r} is {name}: {told(known_by)} {sure} before {told(missed)} began, "
            f"which does not hold it; {later}."
        )
        return Anomaly(f"set: {name}", story, records_of(known_by, missed), details={"element": value})

    def duplicate_anomalies(self) -> list[Anomaly]:
        """One for each element that some read holds more than once."""
        return [
            Anomaly(
                "set: duplicate",
                f"Element {value!r} is {count} times in {told(read)}.",
                records_of(read),
                details={"element": value, "count": count},
            )
            for value, (count, read) in list(self.duplicates.items())[:MOST_ANOMALIES]
        ]

    def unexpected_anomalies(self) -> list[Anomaly]:
        """One for each element that cannot have been in the set when a read held it."""
        adds = dict(zip(self.elements, self.adds, strict=True))
        return [
            Anomaly(
                "set: unexpected",
                f"Element {value!r} is in {told(read)}, but {why_impossible(adds.get(value, []), read)}.",
                records_of(*adds.get(value, []), read),
                details={"element": value},
            )
            for value, read in list(self.unexpected.items())[:MOST_ANOMALIES]
        ]


def _first_hope(adds: list[Operation]) -> int:
    """The invocation of the first add that may have happened."""
    return next((add.invoke.index for add in adds if add.type != "fail"), _NEVER)


def _completed(operation: Operation) -> int:
    assert operation.completion is not None
    return operation.completion.index


@dataclass(frozen=True, slots=True)
class _Summary:
    lives: _Lives
    by_outcome: dict[Outcome, list[int]]
    stale: list[int]

    def _values(self, places: list[int]) -> list[Any]:
        return in_order(self.lives.elements[place] for place in places)

    def reason(self, is_invalid: bool, linearizable: bool) -> str | None:
        """Why the verdict is not VALID."""
        if not is_invalid:
            return None if self.by_outcome["stable"] else "no element was ever read back: nothing is known of the set"
        parts = [
            (self._values(self.by_outcome["lost"]), "lost"),
            (in_order(self.lives.duplicates), "duplicated in one read"),
            (in_order(self.lives.unexpected), "unexpected"),
            (self._values(self.stale) if linearizable else [], "stale"),
        ]
        return "; ".join(
            f"{plural(len(values), 'element')} {what}: {listed(values)}" for values, what in parts if values
        )

    def evidence(self) -> dict[str, Any]:
        """The elements by what became of them, and the stalest with their latencies in ms."""
        times = self._times()
        worst = sorted(self.stale, key=lambda place: -self.lives.latency_ns("stable", place, times))[:_WORST]
        return {
            "lost": self._values(self.by_outcome["lost"]),
            "never_read": self._values(self.by_outcome["never-read"]),
            "stale": self._values(self.stale),
            "duplicated": {repr(value): count for value, (count, _) in self.lives.duplicates.items()},
            "unexpected": in_order(self.lives.unexpected),
            "worst_stale": [
                {
                    "element": self.lives.elements[place],
                    "latency_ms": self.lives.latency_ns("stable", place, times) / 1e6,
                    "known": int(self.lives.known[place]),
                    "last_absent": int(self.lives.last_absent[place]),
                }
                for place in worst
            ],
        }

    def stats(self) -> dict[str, Any]:
        """Counts by outcome, and the quantiles of the latencies in ms."""
        times = self._times()
        stable_ns = [self.lives.latency_ns("stable", place, times) for place in self.by_outcome["stable"]]
        lost_ns = [self.lives.latency_ns("lost", place, times) for place in self.by_outcome["lost"]]
        return {
            "attempted": len(self.lives.elements),
            "reads": len(self.lives.reads),
            "stable": len(self.by_outcome["stable"]),
            "lost": len(self.by_outcome["lost"]),
            "never_read": len(self.by_outcome["never-read"]),
            "stale": len(self.stale),
            "duplicated": len(self.lives.duplicates),
            "unexpected": len(self.lives.unexpected),
            "stable_latency_ms": quantiles_ms(stable_ns),
            "lost_latency_ms": quantiles_ms(lost_ns),
        }

    def _times(self) -> dict[int, int]:
        return {read.invoke.index: read.invoke.time_ns for read in self.lives.reads}

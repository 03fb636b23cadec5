"""How available the system was: windows without success, success in and out of faults, recovery after each fault.

Definitions
- *Unavailable window*: a stretch of at least ``UNAVAILABLE_S`` in which clients
  tried and nothing succeeded: from the first attempt after an ok completion (or
  that completion, when others were open then) to the next ok completion or the
  end.  Time in which nobody tried does not begin one.
- *Answered*: ok, or a fail that carries a store revision: the system itself
  said no (a comparison that did not hold), which is no lack of availability.
- *In a fault*: invoked between a fault's start and the end of its healing.
- *Time to recover* of a fault: from the moment its healing began until the
  system served again.  What the nemesis itself measured is preferred;
  else it is the first ok operation invoked after healing began.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Final

from splitvote.harness.op import Operation
from splitvote.harness.spans import FaultSpan, active_during

UNAVAILABLE_S: Final = 1.0
_MEASURED: Final = ("recovery_s", "recovered_s", "recovery_ms", "recovered_ms")


@dataclass(frozen=True, slots=True)
class Window:
    """A stretch without success: ``tried`` operations were open in it; ``planned`` if the plan took the quorum away."""

    start_ns: int
    end_ns: int
    tried: int
    faults: tuple[FaultSpan, ...]
    planned: bool


def is_answered(operation: Operation) -> bool:
    """Whether the system answered the client, be it with a refusal."""
    completion = operation.completion
    return completion is not None and (
        completion.type == "ok" or (completion.type == "fail" and completion.revision is not None)
    )


@dataclass(frozen=True, slots=True)
class Shares:
    """Operations invoked under some condition: by outcome, and how many of them the system answered."""

    label: str
    outcomes: Counter[str]
    answered: int

    @property
    def total(self) -> int:
        """All of them."""
        return self.outcomes.total()


def unavailable_windows(operations: Sequence[Operation], spans: Sequence[FaultSpan], end_ns: int) -> list[Window]:
    """Every unavailable window, in order."""
    if not operations:
        return []
    succeeded = sorted(op.completion.time_ns for op in operations if op.completion is not None and op.type == "ok")
    last_ns = max(op.invoke.time_ns if op.completion is None else op.completion.time_ns for op in operations)
    edges = [operations[0].invoke.time_ns, *succeeded, min(last_ns, end_ns)]
    windows = []
    for quiet_ns, end in pairwise(edges):
        if end - quiet_ns < UNAVAILABLE_S * 1e9:
            continue
        tried = [operation.invoke.time_ns for operation in operations if _open_within(operation, quiet_ns, end)]
        start = max(quiet_ns, min(tried, default=end))
        if end - start >= UNAVAILABLE_S * 1e9:
            active = active_during(spans, start, end)
            planned = any(span.affects_quorum for span in active)
            windows.append(Window(start, end, len(tried), tuple(active), planned))
    return windows


def _open_within(operation: Operation, start_ns: int, end_ns: int) -> bool:
    ended_ns = end_ns if operation.completion is None else operation.completion.time_ns
    return operation.invoke.time_ns < end_ns and ended_ns > start_ns


def shares(operations: Iterable[Operation], spans: Sequence[FaultSpan], end_ns: int) -> list[Shares]:
    """Outcomes outside of faults, in any fault, and by family of fault (an operation may count in several)."""
    families = sorted({span.family for span in spans})
    covers = {family: _merged([s for s in spans if s.family == family], end_ns) for family in families}
    everything = _merged(spans, end_ns)
    tallies = [_Tally(name) for name in ("no fault active", "any fault active")]
    by_family = {family: _Tally(f"{family} active") for family in families}
    for operation in operations:
        time_ns = operation.invoke.time_ns
        is_inside = _covered(everything, time_ns)
        tallies[is_inside].add(operation)
        for family in families if is_inside else ():
            if _covered(covers[family], time_ns):
                by_family[family].add(operation)
    return [tally.shares() for tally in (*tallies, *by_family.values())]


class _Tally:
    """Counts operations of one condition."""

    def __init__(self, label: str) -> None:
        self._label = label
        self._outcomes: Counter[str] = Counter()
        self._answered = 0

    def add(self, operation: Operation) -> None:
        self._outcomes[operation.type] += 1
        self._answered += is_answered(operation)

    def shares(self) -> Shares:
        return Shares(self._label, self._outcomes, self._answered)


def _merged(spans: Iterable[FaultSpan], end_ns: int) -> list[tuple[int, int]]:
    """The spans' times as disjoint intervals in order."""
    merged: list[tuple[int, int]] = []
    for start, end in sorted((span.start_ns, span.until(end_ns)) for span in spans):
        if merged and start <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(merged[-1][1], end))
        else:
            merged.append((start, end))
    return merged


def _covered(intervals: list[tuple[int, int]], time_ns: int) -> bool:
    place = bisect_left(intervals, (time_ns + 1,)) - 1
    return place >= 0 and intervals[place][0] <= time_ns <= intervals[place][1]


def covered_ns(spans: Iterable[FaultSpan], end_ns: int) -> int:
    """For how long at least one fault was active."""
    return sum(end - start for start, end in _merged(spans, end_ns))


@dataclass(frozen=True, slots=True)
class Recovery:
    """How long a fault's system took to serve again, and who measured it (the nemesis or the history)."""

    time_ns: float
    measured: bool


def recoveries(operations: Sequence[Operation], spans: Sequence[FaultSpan]) -> dict[int, Recovery]:
    """Time to recover by fault id; a fault that never healed, or after which nothing succeeded, is not in it."""
    by_invoke = [op for op in operations if op.type == "ok" and op.completion is not None]
    starts = [operation.invoke.time_ns for operation in by_invoke]
    best = _earliest_completion_from(by_invoke)
    found = {}
    for span in spans:
        if (measured := _measured(span.heal_observed)) is not None:
            found[span.id] = Recovery(measured, measured=True)
        elif span.healing_ns is not None and (place := bisect_left(starts, span.healing_ns)) < len(starts):
            found[span.id] = Recovery(best[place] - span.healing_ns, measured=False)
    return found


def _earliest_completion_from(operations: Sequence[Operation]) -> list[int]:
    """For each place, the earliest completion of the operations from there on."""
    earliest: list[int] = [0] * len(operations)
    least: int | None = None
    for place in range(len(operations) - 1, -1, -1):
        completion = operations[place].completion
        if completion is not None:
            least = completion.time_ns if least is None else min(least, completion.time_ns)
        earliest[place] = least or 0
    return earliest


def _measured(observed: dict[str, Any]) -> float | None:
    for name in _MEASURED:
        value = observed.get(name)
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            return float(value) * (1e9 if name.endswith("_s") else 1e6)
    return None

"""Counter: every read lies between what had surely been added and what may have been (Jepsen's ``counter``).

Operations: ``add`` of a number (negative ones decrement), ``read`` returning
the count; it starts at ``initial``.  At one moment, the least possible count
takes the increments acknowledged by then and the decrements invoked by then; the
greatest, the other way round.  A read may return anything from the least of the
moments between its invocation and completion to the greatest of them.  Adds
that failed did not happen; crashed ones may have, at any time after their
invocation.  (Jepsen's allows increments only, where this is the same.)
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

from splitvote.checkers.elements import MOST_ANOMALIES, listed, plural, records_of, sentence, told
from splitvote.harness.history import History
from splitvote.harness.op import Operation
from splitvote.harness.recording import Recording
from splitvote.harness.result import Anomaly, Budget, Result, Verdict

_MOST_OPERATIONS: Final = 50
_MOST_LISTED: Final = 1000


class CounterChecker:
    """INVALID when a read is outside its bounds; UNKNOWN when there was no read."""

    name = "counter"

    def __init__(self, *, initial: int = 0) -> None:
        self._initial = initial

    def check(self, recording: Recording, budget: Budget) -> Result:
        """Walk the records once, keeping both sums."""
        budget.check(len(recording.history))
        reads = list(bounded_reads(recording.history, self._initial))
        wrong = [read for read in reads if not read.is_possible]
        stats = {
            "reads": len(reads),
            "out_of_bounds": len(wrong),
            "widest_bounds": max((read.greatest - read.least for read in reads), default=0),
            "farthest_off": max((read.distance for read in wrong), default=0),
        }
        if not reads:
            reason = "the counter was never read: no read ended ok"
            return Result(self.name, Verdict.UNKNOWN, reason=reason, stats=stats)
        if not wrong:
            return Result(self.name, Verdict.VALID, stats=stats)
        return Result(
            self.name,
            Verdict.INVALID,
            reason=f"{plural(len(wrong), 'read')} out of bounds, returning {listed({read.value for read in wrong})}",
            anomalies=tuple(_explained(read, recording.history, self._initial) for read in wrong[:MOST_ANOMALIES]),
            evidence={"out_of_bounds": [[read.least, read.value, read.greatest] for read in wrong[:_MOST_LISTED]]},
            stats=stats,
        )


@dataclass(frozen=True, slots=True)
class BoundedRead:
    """An ok read with the least and the greatest value it may have returned."""

    operation: Operation
    least: Any
    value: Any
    greatest: Any

    @property
    def is_possible(self) -> bool:
        """Whether the value is within the bounds; a read of no number is not."""
        return isinstance(self.value, (int, float)) and bool(self.least <= self.value <= self.greatest)

    @property
    def distance(self) -> Any:
        """How far outside the bounds the value is; 0 for no number."""
        if not isinstance(self.value, (int, float)):
            return 0
        return max(self.least - self.value, self.value - self.greatest, 0)


def bounded_reads(history: History, initial: int = 0) -> Iterator[BoundedRead]:
    """Yield every ok read with its bounds, in the order of completion."""
    least = greatest = initial
    open_reads: dict[int, list[Any]] = {}  # least and greatest so far, by the invocation
    for is_start, operation in _halves(history):
        began = operation.invoke.index
        if operation.f == "read":
            if is_start:
                open_reads[began] = [least, greatest]
            else:
                lowest, highest = open_reads.pop(began)
                yield BoundedRead(operation, lowest, operation.output, highest)
            continue
        amount = operation.invoke.value
        if (amount > 0) == is_start:
            greatest += amount  # an increment that begins, or a decrement that is now sure
        else:
            least += amount
        for bounds in open_reads.values() if is_start else ():
            bounds[0] = min(bounds[0], least)
            bounds[1] = max(bounds[1], greatest)


def _halves(history: History) -> list[tuple[bool, Operation]]:
    """Starts of adds that may have happened and of ok reads (True), and ends of ok ones (False), in order."""
    halves = []
    for operation in history.operations:
        if operation.type == "ok" and operation.f in ("add", "read"):
            assert operation.completion is not None
            halves += [(operation.invoke.index, True, operation), (operation.completion.index, False, operation)]
        elif operation.type == "info" and operation.f == "add":
            halves.append((operation.invoke.index, True, operation))
    halves.sort(key=lambda half: half[0])
    return [(is_start, operation) for _, is_start, operation in halves]


def _explained(read: BoundedRead, history: History, initial: int) -> Anomaly:
    """Name the adds that rule the value out: as few acknowledged ones as do, and all that were tried against them."""
    operation = read.operation
    bounds = {"least": read.least, "value": read.value, "greatest": read.greatest}
    if not isinstance(read.value, (int, float)):
        story = f"{told(operation)} returned {read.value!r}, which is no number"
        return Anomaly("counter: no number", sentence(story), records_of(operation), details=bounds)
    is_low = read.value < read.least
    sure, tried = _adds_around(operation, history, up=is_low)
    bound = initial + sum(add.invoke.value for add in sure + tried)
    distance = bound - read.value if is_low else read.value - bound
    if distance > 0:
        enough = _fewest(sure, distance)
        why = _in_words(enough, "acknowledged before it began") + "; " + _in_words(tried, "tried until it completed")
        named = enough + tried
    else:  # only with adds of both signs that end while the read is open
        why = "at no moment of it can the adds until then have made that"
        named = _adds_until(operation, history)
    limit = (
        f"less than the least possible {read.least}" if is_low else f"more than the greatest possible {read.greatest}"
    )
    return Anomaly(
        "counter: out of bounds",
        sentence(f"{told(operation)} returned {read.value}, {limit}: {why}"),
        records_of(*named[:_MOST_OPERATIONS], operation),
        details=bounds,
    )


def _adds_around(read: Operation, history: History, *, up: bool) -> tuple[list[Operation], list[Operation]]:
    """The adds that bound a read: acknowledged before it, of the wanted sign; tried until its end, of the other."""
    assert read.completion is not None
    sure, tried = [], []
    for add in history.operations:
        if add.f != "add" or add.type == "fail" or not add.invoke.value:
            continue
        if (add.invoke.value > 0) == up:
            if add.type == "ok" and add.completion is not None and add.completion.index < read.invoke.index:
                sure.append(add)
        elif add.invoke.index < read.completion.index:
            tried.append(add)
    return sure, tried


def _fewest(sure: list[Operation], distance: Any) -> list[Operation]:
    """The fewest acknowledged adds that still rule the value out: dropping the rest moves the bound by less."""
    smallest_first = sorted(sure, key=lambda add: abs(add.invoke.value))
    dropped = 0
    for add in smallest_first:
        distance -= abs(add.invoke.value)
        if distance <= 0:
            break
        dropped += 1
    return sorted(smallest_first[dropped:], key=lambda add: add.invoke.index)


def _adds_until(read: Operation, history: History) -> list[Operation]:
    """Every add that may have happened before the read completed."""
    assert read.completion is not None
    end = read.completion.index
    return [add for add in history.operations if add.f == "add" and add.type != "fail" and add.invoke.index < end]


def _in_words(adds: list[Operation], what: str) -> str:
    if not adds:
        return f"nothing to the contrary was {what}"
    if len(adds) == 1:
        return f"{told(adds[0])} was {what}"
    return f"{len(adds)} adds that make {sum(add.invoke.value for add in adds)} were {what}"

"""Queues: what comes out had gone in (``queue``), and what went in comes out (``total-queue``); Jepsen's definitions.

Operations: ``enqueue`` of one element; ``dequeue`` returning one (None: it was
empty); ``drain`` returning a list, which stands for that many dequeues.  The
order of elements is not judged (that is linearizability of a FIFO queue).
Enqueues that failed did not happen; crashed ones may have.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from splitvote.checkers.elements import (
    MOST_ANOMALIES,
    element,
    elements,
    in_order,
    listed,
    plural,
    records_of,
    told,
)
from splitvote.harness.history import History
from splitvote.harness.op import Operation
from splitvote.harness.recording import Recording
from splitvote.harness.result import Anomaly, Budget, Result, Verdict


@dataclass(slots=True)
class Traffic:
    """Enqueues by element in the order of invocation, and what came out in the order of completion.

    ``empty`` are the dequeues that found nothing, ``may_be_taken`` the crashed
    operations by the elements that they name; ``crashed_dequeues`` and
    ``crashed_drains`` name none.
    """

    enqueues: dict[Any, list[Operation]] = field(default_factory=dict)
    taken: list[tuple[Any, Operation]] = field(default_factory=list)
    empty: list[Operation] = field(default_factory=list)
    may_be_taken: dict[Any, list[Operation]] = field(default_factory=dict)
    crashed_dequeues: list[Operation] = field(default_factory=list)
    crashed_drains: list[Operation] = field(default_factory=list)

    @classmethod
    def of(cls, history: History) -> Traffic:
        """Sort the operations of a history."""
        traffic = cls()
        ends = []
        for operation in history.operations:
            if operation.f == "enqueue":
                traffic.enqueues.setdefault(element(operation.invoke.value), []).append(operation)
            elif operation.f not in ("dequeue", "drain"):
                continue
            elif operation.type == "ok":
                ends.append(operation)
            elif operation.type == "info" and (named := _taken_by(operation)):
                for value in named:
                    traffic.may_be_taken.setdefault(value, []).append(operation)
            elif operation.type == "info":
                (traffic.crashed_dequeues if operation.f == "dequeue" else traffic.crashed_drains).append(operation)
        for operation in sorted(ends, key=completed):
            traffic.taken += [(value, operation) for value in _taken_by(operation)]
            if operation.f == "dequeue" and operation.output is None:
                traffic.empty.append(operation)
        return traffic

    def possible_before(self, value: Any, index: int) -> int:
        """How many enqueues of the value that may have happened were invoked before this record."""
        return sum(add.type != "fail" and add.invoke.index < index for add in self.enqueues.get(value, ()))

    def acknowledged(self) -> Counter[Any]:
        """How many enqueues of each element were acknowledged."""
        return +Counter({value: sum(add.type == "ok" for add in adds) for value, adds in self.enqueues.items()})

    def possible(self) -> Counter[Any]:
        """How many enqueues of each element may have happened."""
        return Counter({value: sum(add.type != "fail" for add in adds) for value, adds in self.enqueues.items()})


def _taken_by(operation: Operation) -> list[Any]:
    if operation.f == "drain":
        return elements(operation.output)
    return [] if operation.output is None else [element(operation.output)]


def completed(operation: Operation) -> int:
    """The index of the record that answered the operation; it must have been answered."""
    assert operation.completion is not None
    return operation.completion.index


class QueueChecker:
    """INVALID when more of an element has come out than can have gone in by then; UNKNOWN when nothing came out."""

    name = "queue"

    def check(self, recording: Recording, budget: Budget) -> Result:
        """Match every dequeue with an enqueue of its own, invoked before the dequeue completed."""
        budget.check(len(recording.history))
        traffic = Traffic.of(recording.history)
        takers: dict[Any, list[Operation]] = {}
        wrong: dict[Any, Operation] = {}
        for value, operation in traffic.taken:
            takers.setdefault(value, []).append(operation)
            if value not in wrong and len(takers[value]) > traffic.possible_before(value, completed(operation)):
                wrong[value] = operation
        anomalies = [
            _from_nowhere(value, traffic, takers[value], completed(at))
            for value, at in list(wrong.items())[:MOST_ANOMALIES]
        ]
        reason = None if traffic.taken else "nothing ever came out: no dequeue or drain returned an element"
        return Result(
            self.name,
            Verdict.INVALID if wrong else Verdict.VALID if traffic.taken else Verdict.UNKNOWN,
            reason=f"{plural(len(wrong), 'element')} came from nowhere: {listed(wrong)}" if wrong else reason,
            anomalies=tuple(anomalies),
            evidence={"from_nowhere": in_order(wrong)},
            stats={
                "attempted": sum(map(len, traffic.enqueues.values())),
                "acknowledged": traffic.acknowledged().total(),
                "dequeued": len(traffic.taken),
            },
        )


def _from_nowhere(value: Any, traffic: Traffic, takers: list[Operation], end: int) -> Anomaly:
    """The dequeues of a value until there were too many, and the enqueues until then."""
    out = [taker for taker in takers if completed(taker) <= end]
    tried = [add for add in traffic.enqueues.get(value, ()) if add.invoke.index < end]
    possible = [add for add in tried if add.type != "fail"]
    went_in = "every enqueue of it had failed" if tried else "nobody had enqueued it"
    if possible:
        went_in = f"only {plural(len(possible), 'enqueue')} of it can have happened by then"
    return Anomaly(
        "queue: from nowhere",
        f"Element {value!r} came out {plural(len(out), 'time')}, last by {told(out[-1])}, but {went_in}.",
        records_of(*tried, *out),
        details={"element": value, "dequeued": len(out), "possible": len(possible)},
    )


class TotalQueueChecker:
    """INVALID when acknowledged elements never came out, or unexpected ones did; the history must drain the queue.

    UNKNOWN when nothing was acknowledged and nothing came out.
    A dequeue that crashed may have taken an element with it.  One whose
    completion names what it may have taken accounts for that element and no
    other; one that names none, for any: where such could account for everything
    that is missing, the verdict is UNKNOWN.  Elements that came out more often
    than they can have gone in are counted as duplicates, and judged by ``queue``
    only: queues that deliver at least once may repeat themselves.
    """

    name = "total-queue"

    def check(self, recording: Recording, budget: Budget) -> Result:
        """Compare the multisets of what went in and what came out."""
        budget.check(len(recording.history))
        traffic = Traffic.of(recording.history)
        taken = Counter(value for value, _ in traffic.taken)
        possible, acknowledged = traffic.possible(), traffic.acknowledged()
        named = Counter({value: len(operations) for value, operations in traffic.may_be_taken.items()})
        lost = acknowledged - taken - named
        unexpected = Counter({value: count for value, count in taken.items() if not possible[value]})
        duplicated = taken - possible - unexpected
        recovered = (taken & possible) - acknowledged
        anomalies = [_unexpected(value, traffic) for value in in_order(unexpected)[:MOST_ANOMALIES]]
        excused = bool(traffic.crashed_drains) or lost.total() <= len(traffic.crashed_dequeues)
        if not excused:
            anomalies += [_lost(value, traffic, taken) for value in in_order(lost)[:MOST_ANOMALIES]]
        return Result(
            self.name,
            Verdict.INVALID if anomalies else Verdict.UNKNOWN if lost or not (acknowledged or taken) else Verdict.VALID,
            reason=_reason(lost, unexpected, traffic, excused) or _vacuous(acknowledged, taken),
            anomalies=tuple(anomalies),
            evidence={
                name: in_order(values.elements())
                for name, values in (
                    ("lost", lost),
                    ("unexpected", unexpected),
                    ("duplicated", duplicated),
                    ("recovered", recovered),
                )
            },
            stats={
                "attempted": sum(map(len, traffic.enqueues.values())),
                "acknowledged": acknowledged.total(),
                "dequeued": taken.total(),
                "lost": lost.total(),
                "unexpected": unexpected.total(),
                "duplicated": duplicated.total(),
                "recovered": recovered.total(),
                "crashed_dequeues": len(traffic.crashed_dequeues) + len(traffic.crashed_drains),
                "may_be_taken": named.total(),
            },
        )


def _vacuous(acknowledged: Counter[Any], taken: Counter[Any]) -> str | None:
    return None if acknowledged or taken else "nothing was enqueued for sure, and nothing came out"


def _lost(value: Any, traffic: Traffic, taken: Counter[Any]) -> Anomaly:
    sure = [add for add in traffic.enqueues[value] if add.type == "ok"]
    out = [operation for found, operation in traffic.taken if found == value]
    crashed = len(traffic.crashed_dequeues)
    excuse = f" ({plural(crashed, 'crashed dequeue')} cannot account for all that is missing)" if crashed else ""
    return Anomaly(
        "queue: lost",
        f"Element {value!r} was enqueued {plural(len(sure), 'time')} for sure, last by {told(sure[-1])}, "
        f"but came out {plural(taken[value], 'time')}{excuse}.",
        records_of(*sure, *out),
        details={"element": value, "acknowledged": len(sure), "dequeued": taken[value]},
    )


def _unexpected(value: Any, traffic: Traffic) -> Anomaly:
    adds = traffic.enqueues.get(value, [])
    taker = next(operation for found, operation in traffic.taken if found == value)
    why = f"every enqueue of it had failed: {told(adds[0])}" if adds else "nobody enqueued it"
    return Anomaly(
        "queue: unexpected",
        f"Element {value!r} came out by {told(taker)}, but {why}.",
        records_of(*adds, taker),
        details={"element": value},
    )


def _reason(lost: Counter[Any], unexpected: Counter[Any], traffic: Traffic, excused: bool) -> str | None:
    parts = []
    if lost:
        part = f"{plural(lost.total(), 'acknowledged element')} never came out: {listed(lost)}"
        if excused:
            crashed = len(traffic.crashed_dequeues) + len(traffic.crashed_drains)
            part += f" (but {plural(crashed, 'dequeue')} of unknown outcome may have taken them)"
        parts.append(part)
    if unexpected:
        parts.append(f"{plural(unexpected.total(), 'unexpected element')}: {listed(unexpected)}")
    return "; ".join(parts) or None

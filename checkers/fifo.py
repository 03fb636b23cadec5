"""First in, first out: elements come out in the order in which they went in, and "empty" is said of empty queues only.

Operations are those of ``queues``; elements are unique (one enqueued twice is
not looked at).  Linearizability of a queue, as far as ``queue`` does not judge
it already, comes down to two patterns, each a contradiction by itself (Henzinger,
Sezgin, Vafeiadis, "Aspect-Oriented Linearizability Proofs", CONCUR 2013):

- *out of order*: x was in before y's enqueue began, and y had come out before
  anybody began to take x;
- *not empty*: while a dequeue that found nothing was open, there was at every
  moment some element that was in already and that nobody had begun to take.

An enqueue is in for sure when it was acknowledged; a crashed one never is.  An
element that no ok operation took may have been taken by a crashed dequeue that
names it, or names nothing, from its invocation on.
"""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass
from itertools import accumulate
from math import inf

from splitvote.checkers.elements import MOST_ANOMALIES, listed, plural, records_of, sentence, told
from splitvote.checkers.queues import Traffic, completed
from splitvote.harness.op import Operation
from splitvote.harness.recording import Recording
from splitvote.harness.result import Anomaly, Budget, Result, Verdict


@dataclass(frozen=True, slots=True)
class _Stay:
    """An element's time in the queue: in for sure after ``since``, until ``until``, when somebody began to take it."""

    enqueue: Operation
    since: float
    until: float
    taker: Operation | None
    """The ok operation that took it."""

    @property
    def left(self) -> float:
        """When it was out for sure."""
        return inf if self.taker is None else completed(self.taker)


class FifoChecker:
    """INVALID when elements came out in another order, or a dequeue found a queue empty that was not.

    UNKNOWN when nothing came out.
    """

    name = "fifo"

    def check(self, recording: Recording, budget: Budget) -> Result:
        """Look for both patterns, in the time it takes to sort."""
        budget.check(len(recording.history))
        traffic = Traffic.of(recording.history)
        stays = _stays(traffic)
        overtaken = _overtaken(stays)
        missed = _missed(stays, traffic.empty)
        anomalies = [_out_of_order(*pair) for pair in overtaken[:MOST_ANOMALIES]]
        anomalies += [_not_empty(*found) for found in missed[:MOST_ANOMALIES]]
        reasons = []
        if overtaken:
            values = listed([x.enqueue.invoke.value for x, _ in overtaken])
            reasons.append(f"{plural(len(overtaken), 'element')} overtaken: {values}")
        if missed:
            reasons.append(f"{plural(len(missed), 'dequeue')} found a queue empty that was not")
        if not traffic.taken:
            reasons.append("nothing ever came out: no dequeue or drain returned an element")
        return Result(
            self.name,
            Verdict.INVALID if anomalies else Verdict.VALID if traffic.taken else Verdict.UNKNOWN,
            reason="; ".join(reasons) or None,
            anomalies=tuple(anomalies),
            stats={
                "elements": len(stays),
                "found_empty": len(traffic.empty),
                "out_of_order": len(overtaken),
                "not_empty": len(missed),
            },
        )


def _stays(traffic: Traffic) -> list[_Stay]:
    """The elements that were enqueued once, in the order of invocation."""
    takers: dict[object, Operation] = {}
    for value, operation in traffic.taken:
        takers.setdefault(value, operation)
    anybody = min((op.invoke.index for op in traffic.crashed_dequeues + traffic.crashed_drains), default=inf)
    stays = []
    for value, adds in traffic.enqueues.items():
        possible = [add for add in adds if add.type != "fail"]
        if len(possible) != 1:
            continue
        add, taker = possible[0], takers.get(value)
        since = completed(add) if add.type == "ok" else inf
        if taker is not None:
            until: float = taker.invoke.index
        else:
            until = min(anybody, *(op.invoke.index for op in traffic.may_be_taken.get(value, ())), inf)
        stays.append(_Stay(add, since, until, taker))
    return sorted(stays, key=lambda stay: stay.enqueue.invoke.index)


def _overtaken(stays: list[_Stay]) -> list[tuple[_Stay, _Stay]]:
    """Elements that were overtaken, each with the first that overtook it."""
    by_since = sorted((stay for stay in stays if stay.since < inf), key=lambda stay: stay.since)
    found: dict[int, tuple[_Stay, _Stay]] = {}
    longest: _Stay | None = None  # of those that were in before y's enqueue began
    place = 0
    for y in stays:
        while place < len(by_since) and by_since[place].since < y.enqueue.invoke.index:
            longest = _longer(longest, by_since[place])
            place += 1
        if longest is not None and y.left < longest.until:
            found.setdefault(longest.enqueue.invoke.index, (longest, y))
    return list(found.values())


def _longer(one: _Stay | None, other: _Stay) -> _Stay:
    return other if one is None or other.until > one.until else one


def _missed(stays: list[_Stay], empty: list[Operation]) -> list[tuple[Operation, list[_Stay]]]:
    """Dequeues that found nothing, each with a few elements of which one was always there."""
    sure = sorted((stay for stay in stays if stay.since < stay.until), key=lambda stay: stay.since)
    starts = [stay.since for stay in sure]
    longest = list(accumulate(sure, _longer))  # of those up to each place
    found = []
    for dequeue in empty:
        reached: float = dequeue.invoke.index
        chain: list[_Stay] = []
        while reached < completed(dequeue):
            place = bisect_right(starts, reached)
            if not place or longest[place - 1].until <= reached:
                break
            chain.append(longest[place - 1])
            reached = chain[-1].until
        else:
            found.append((dequeue, chain))
    return found


def _out_of_order(x: _Stay, y: _Stay) -> Anomaly:
    assert y.taker is not None
    one, other = x.enqueue.invoke.value, y.enqueue.invoke.value
    return Anomaly(
        "fifo: out of order",
        sentence(
            f"{told(x.enqueue)} was acknowledged before {told(y.enqueue)} began, but {other!r} came out first, by "
            f"{told(y.taker)}; {_until(x)}"
        ),
        records_of(x.enqueue, y.enqueue, y.taker, x.taker),
        details={"overtaken": one, "by": other},
    )


def _until(stay: _Stay) -> str:
    value = stay.enqueue.invoke.value
    if stay.until == inf:
        return f"nobody ever began to take {value!r}"
    return f"nobody began to take {value!r} before record {stay.until:.0f}"


def _not_empty(dequeue: Operation, chain: list[_Stay]) -> Anomaly:
    there = "; ".join(f"{told(stay.enqueue)} was acknowledged, and {_until(stay)}" for stay in chain)
    return Anomaly(
        "fifo: not empty",
        sentence(f"{told(dequeue)} found the queue empty, but at every moment of it something was in: {there}"),
        records_of(*(op for stay in chain for op in (stay.enqueue, stay.taker)), dequeue),
        details={"elements": [stay.enqueue.invoke.value for stay in chain]},
    )

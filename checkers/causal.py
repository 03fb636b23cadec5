"""Causal order: a site's own operations on a register in order (``causal``), and no write visible without
those acknowledged before it began (``causal-reverse``); after Jepsen's tests of these names.

**causal**: a site issues reads (``read``, ``read-init``) and ``write``s to one
register, one after the other; each read must return the latest value.  Where the
system hands out positions (``extra["position"]``), an operation carries the
one it follows (``extra["link"]``, "init" for none), and the links must form a
chain.  Unlike Jepsen's model, writes whose outcome is unknown may take effect at
any later time or never, and values need not count up from 1.

**causal-reverse**: blind ``write``s of unique values, and ``read``s returning
all values visible.  If a read shows w, it must show every value whose write had
been acknowledged before w was invoked.  Strict serializability rules the
contrary out; serializability does not.

Both judge one object; with independent keys, wrap them in
``composition.Independent``.
"""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass, field
from typing import Any

from splitvote.checkers.elements import MOST_ANOMALIES, element, elements, listed, plural, records_of, sentence, told
from splitvote.harness.history import History
from splitvote.harness.op import Operation
from splitvote.harness.recording import Recording
from splitvote.harness.result import Anomaly, Budget, Result, Verdict

_FUNCTIONS = ("read", "read-init", "write")


def _completed(operation: Operation) -> int:
    assert operation.completion is not None
    return operation.completion.index


@dataclass(slots=True)
class _Site:
    """What the register may hold, as the site knows it; ``crashed`` are writes that may yet take effect."""

    initial: Any
    value: Any
    set_by: Operation | None = None
    seen_by: Operation | None = None  # the read that showed that a crashed write had happened
    crashed: list[Operation] = field(default_factory=list)
    position: Any = None
    position_of: Operation | None = None
    position_is_sure: bool = True

    def take(self, operation: Operation) -> Anomaly | None:
        """Advance by one operation, the next of the site; returns what is wrong with it."""
        if operation.type == "fail":
            return None
        if operation.type == "info":
            self.position_is_sure = False
            if operation.f == "write":
                self.crashed.append(operation)
            return None
        return self._follow_link(operation) or self._apply(operation)

    def _follow_link(self, operation: Operation) -> Anomaly | None:
        """The link must be "init" or the last position; after a crash the client may know of no position."""
        extra = (operation.invoke.extra or {}) | ((operation.completion and operation.completion.extra) or {})
        link = extra.get("link", "init")
        broken = link not in ("init", self.position) and self.position_is_sure
        before, position, self.position = self.position_of, self.position, extra.get("position")
        self.position_of, self.position_is_sure = operation, True
        if not broken:
            return None
        return Anomaly(
            "causal: broken link",
            sentence(
                f"{told(operation)} links to position {link!r}, but the last position was {position!r}"
                + (f", of {told(before)}" if before else "")
            ),
            records_of(before, operation),
            details={"link": link, "position": position},
        )

    def _apply(self, operation: Operation) -> Anomaly | None:
        if operation.f == "write":
            self.value, self.set_by, self.seen_by = element(operation.invoke.value), operation, None
            return None
        found = self.initial if operation.output is None else element(operation.output)
        if found == self.value:
            return None
        late = next((write for write in self.crashed if element(write.invoke.value) == found), None)
        if late is None:
            return self._wrong_read(operation, found)
        self.crashed.remove(late)
        self.value, self.set_by, self.seen_by = found, late, operation
        return None

    def _wrong_read(self, operation: Operation, found: Any) -> Anomaly:
        source = f"that {told(self.set_by)} had left" if self.set_by else "that it began with"
        others = (
            f" (or {listed([write.invoke.value for write in self.crashed])}, whose writes crashed)"
            if self.crashed
            else ""
        )
        return Anomaly(
            "causal: wrong value",
            sentence(f"{told(operation)} returned {found!r}, not the {self.value!r} {source}{others}"),
            records_of(self.set_by, self.seen_by, *self.crashed, operation),
            details={"value": found, "expected": self.value},
        )


class CausalChecker:
    """INVALID when a site's read misses its own last write, or its links do not chain.

    ``initial`` is what the register holds at first; a read of None stands for
    it.  UNKNOWN when operations overlap, for then they have no order, and when
    nothing was read.
    """

    name = "causal"

    def __init__(self, *, initial: Any = 0) -> None:
        self._initial = initial

    def check(self, recording: Recording, budget: Budget) -> Result:
        """Walk the operations in their order, up to the first anomaly."""
        budget.check(len(recording.history))
        operations = [op for op in recording.history.operations if op.f in _FUNCTIONS and op.type != "fail"]
        stats = {"operations": len(operations)}
        if (overlap := _overlap(operations)) is not None:
            reason = f"{told(overlap[0])} and {told(overlap[1])} overlap: they have no causal order"
            return Result(self.name, Verdict.UNKNOWN, reason=reason, stats=stats)
        site = _Site(self._initial, self._initial)
        for operation in operations:
            anomaly = site.take(operation)
            if anomaly is not None:
                return Result(self.name, Verdict.INVALID, anomaly.story, (anomaly,), stats=stats)
        if not any(op.f != "write" and op.type == "ok" for op in operations):
            reason = "the register was never read: no read ended ok"
            return Result(self.name, Verdict.UNKNOWN, reason=reason, stats=stats)
        return Result(self.name, Verdict.VALID, stats=stats)


def _overlap(operations: list[Operation]) -> tuple[Operation, Operation] | None:
    """An ok operation and one invoked before it completed (what crashed may take effect at any time anyway)."""
    last: Operation | None = None
    for operation in operations:
        if last is not None and operation.invoke.index < _completed(last):
            return last, operation
        if operation.type == "ok":
            last = operation
    return None


class CausalReverseChecker:
    """INVALID when a read shows a value but not one whose write was acknowledged before that value's write began."""

    name = "causal-reverse"

    def check(self, recording: Recording, budget: Budget) -> Result:
        """For each ok read, find what it must show by what it shows."""
        writes = _Writes.of(recording.history)
        reads = [op for op in recording.history.operations if op.f == "read" and op.type == "ok"]
        anomalies: list[Anomaly] = []
        wrong_reads = 0
        for read in reads:
            budget.check(len(read.output or ()) + 1)
            missing, because_of = writes.missing_from(elements(read.output))
            wrong_reads += bool(missing)
            if missing and len(anomalies) < MOST_ANOMALIES:
                anomalies.append(_reversed(read, missing[0], because_of, writes))
        stats = {"reads": len(reads), "acknowledged": len(writes.acknowledged), "wrong_reads": wrong_reads}
        if not reads:
            return Result(self.name, Verdict.UNKNOWN, reason="nothing was ever read: no read ended ok", stats=stats)
        reason = f"a later write without an earlier one in {plural(wrong_reads, 'read')}" if anomalies else None
        verdict = Verdict.INVALID if anomalies else Verdict.VALID
        return Result(self.name, verdict, reason, tuple(anomalies), stats=stats)


@dataclass(frozen=True, slots=True)
class _Writes:
    """Values in the order of acknowledgement, and for each value written how many were acknowledged before it began."""

    acknowledged: list[Any]
    operations: dict[Any, Operation]
    acknowledging: dict[Any, Operation]
    known_before: dict[Any, int]

    @classmethod
    def of(cls, history: History) -> _Writes:
        writes = [operation for operation in history.operations if operation.f == "write"]
        ends = sorted((write for write in writes if write.type == "ok"), key=_completed)
        acknowledging: dict[Any, Operation] = {}
        for write in ends:
            acknowledging.setdefault(element(write.invoke.value), write)
        times = [_completed(write) for write in acknowledging.values()]
        first: dict[Any, Operation] = {}
        for write in writes:
            if write.type != "fail":
                first.setdefault(element(write.invoke.value), write)
        known_before = {value: bisect_left(times, write.invoke.index) for value, write in first.items()}
        return cls(list(acknowledging), first, acknowledging, known_before)

    def missing_from(self, seen: list[Any]) -> tuple[list[Any], Any]:
        """Values that must be visible beside those seen, and the value that demands most."""
        demanding = max((value for value in seen if value in self.known_before), key=self._demand, default=None)
        if demanding is None:
            return [], None
        shown = set(seen)
        return [value for value in self.acknowledged[: self._demand(demanding)] if value not in shown], demanding

    def _demand(self, value: Any) -> int:
        return self.known_before[value]


def _reversed(read: Operation, missing: Any, shown: Any, writes: _Writes) -> Anomaly:
    earlier, later = writes.acknowledging[missing], writes.operations[shown]
    return Anomaly(
        "causal-reverse",
        sentence(
            f"{told(read)} shows {shown!r} but not {missing!r}, though {told(earlier)} was acknowledged before "
            f"{told(later)} began"
        ),
        records_of(earlier, later, read),
        details={"missing": missing, "shown": shown},
    )

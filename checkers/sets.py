"""Set: every acknowledged add is in the final read, and nothing is that nobody added (Jepsen's ``set``).

Operations: ``add`` of one element, ``read`` returning all of them.  Only the
last ok read is judged.  An add counts as acknowledged when it completed before
that read was invoked, as attempted when it was invoked before the read
completed; one that failed certainly did not happen, so its element in the read
is as wrong as one that nobody added.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from splitvote.checkers.elements import MOST_ANOMALIES, element, elements, in_order, listed, plural, records_of, told
from splitvote.harness.history import History
from splitvote.harness.op import Operation
from splitvote.harness.recording import Recording
from splitvote.harness.result import Anomaly, Budget, Result, Verdict


class SetChecker:
    """INVALID when acknowledged elements are lost or unexpected ones appear; UNKNOWN when the set was never read."""

    name = "set"

    def check(self, recording: Recording, budget: Budget) -> Result:
        """Judge the last ok read against every add."""
        budget.check(len(recording.history))
        read = _last_read(recording.history)
        if read is None:
            return Result(self.name, Verdict.UNKNOWN, reason="the set was never read: no read ended ok")
        adds = adds_by_element(recording.history)
        found = dict.fromkeys(elements(read.output))
        judged = {value: _judge(attempts, read) for value, attempts in adds.items()}
        lost = in_order(value for value, add in judged.items() if add.acknowledged and value not in found)
        unexpected = in_order(value for value in found if value not in judged or not judged[value].possible)
        recovered = in_order(
            value for value in found if value in judged and judged[value].possible and not judged[value].acknowledged
        )
        anomalies = [_lost(value, judged[value], read) for value in lost[:MOST_ANOMALIES]]
        anomalies += [_unexpected(value, adds.get(value, []), read) for value in unexpected[:MOST_ANOMALIES]]
        return Result(
            self.name,
            Verdict.INVALID if anomalies else Verdict.VALID,
            reason=_reason(lost, unexpected),
            anomalies=tuple(anomalies),
            evidence={"lost": lost, "unexpected": unexpected, "recovered": recovered, "read": read.invoke.index},
            stats={
                "attempted": len(adds),
                "acknowledged": sum(add.acknowledged is not None for add in judged.values()),
                "read": len(found),
                "lost": len(lost),
                "unexpected": len(unexpected),
                "recovered": len(recovered),
            },
        )


def adds_by_element(history: History) -> dict[Any, list[Operation]]:
    """Every ``add`` by its element, in the order of invocation."""
    adds: dict[Any, list[Operation]] = {}
    for operation in history.operations:
        if operation.f == "add":
            adds.setdefault(element(operation.invoke.value), []).append(operation)
    return adds


def _last_read(history: History) -> Operation | None:
    reads = [operation for operation in history.operations if operation.f == "read" and operation.type == "ok"]
    return max(reads, key=_completed, default=None)


def _completed(operation: Operation) -> int:
    assert operation.completion is not None
    return operation.completion.index


@dataclass(frozen=True, slots=True)
class _Add:
    """What the adds of one element mean to the read."""

    acknowledged: Operation | None
    possible: bool


def _judge(attempts: list[Operation], read: Operation) -> _Add:
    acknowledged = next(
        (add for add in attempts if add.type == "ok" and _completed(add) < read.invoke.index),
        None,
    )
    possible = any(add.type != "fail" and add.invoke.index < _completed(read) for add in attempts)
    return _Add(acknowledged, possible)


def _lost(value: Any, add: _Add, read: Operation) -> Anomaly:
    assert add.acknowledged is not None
    story = (
        f"Element {value!r} is lost: {told(add.acknowledged)} was acknowledged before "
        f"the final {told(read)} began, which does not hold it."
    )
    return Anomaly("set: lost", story, records_of(add.acknowledged, read), details={"element": value})


def _unexpected(value: Any, attempts: list[Operation], read: Operation) -> Anomaly:
    return Anomaly(
        "set: unexpected",
        f"Element {value!r} is in the final {told(read)}, but {why_impossible(attempts, read)}.",
        records_of(*attempts, read),
        details={"element": value},
    )


def why_impossible(attempts: list[Operation], read: Operation) -> str:
    """Why an element cannot have been in the set when the read completed, in words."""
    before = [add for add in attempts if add.invoke.index < _completed(read)]
    if not attempts:
        return "nobody ever added it"
    if not before:
        return f"its first add came later: {told(attempts[0])}"
    return f"every add of it before had failed: {told(before[0])}"


def _reason(lost: list[Any], unexpected: list[Any]) -> str | None:
    parts = []
    if lost:
        parts.append(f"{plural(len(lost), 'acknowledged element')} lost: {listed(lost)}")
    if unexpected:
        parts.append(f"{plural(len(unexpected), 'unexpected element')}: {listed(unexpected)}")
    return "; ".join(parts) or None

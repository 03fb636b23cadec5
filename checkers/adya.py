"""Adya's G2: two transactions that each saw no row under a predicate, and both inserted one (Jepsen's ``adya`` test).

Two ``insert`` operations share a key; each reads both tables by a predicate on
that key and inserts its own row only where neither read found any.  One at most may
succeed: two ok inserts are an anti-dependency cycle.  The value is
``[a_id, b_id]`` with the independent key in ``Op.key``, or ``[key, [a_id, b_id]]``.
"""

from __future__ import annotations

from typing import Any

from splitvote.checkers.elements import MOST_ANOMALIES, element, listed, plural, records_of, sentence, told
from splitvote.harness.op import Operation
from splitvote.harness.recording import Recording
from splitvote.harness.result import Anomaly, Budget, Result, Verdict


class G2Checker:
    """INVALID when two inserts under one key succeeded; UNKNOWN when no key had two inserts that got an answer."""

    name = "adya-g2"

    def check(self, recording: Recording, budget: Budget) -> Result:
        """Count the ok inserts of every key."""
        budget.check(len(recording.history))
        inserts: dict[Any, list[Operation]] = {}
        for operation in recording.history.operations:
            if operation.f == "insert":
                inserts.setdefault(_key(operation), []).append(operation)
        succeeded = {key: [op for op in ops if op.type == "ok"] for key, ops in inserts.items()}
        illegal = {key: ops for key, ops in succeeded.items() if len(ops) > 1}
        contested = sum(sum(op.type != "info" for op in ops) > 1 for ops in inserts.values())
        stats = {
            "keys": len(inserts),
            "inserted": sum(map(bool, succeeded.values())),
            "illegal": len(illegal),
            "contested": contested,
        }
        if not contested:
            reason = "no key had two inserts that both got an answer: nothing could have gone wrong"
            return Result(self.name, Verdict.UNKNOWN, reason=reason, stats=stats)
        return Result(
            self.name,
            Verdict.INVALID if illegal else Verdict.VALID,
            reason=f"{plural(len(illegal), 'key')} with two inserts: {listed(illegal)}" if illegal else None,
            anomalies=tuple(_g2(key, ops) for key, ops in list(illegal.items())[:MOST_ANOMALIES]),
            stats=stats,
        )


def _key(operation: Operation) -> Any:
    if operation.key is not None or not operation.invoke.value:
        return element(operation.key)
    return element(operation.invoke.value[0])


def _g2(key: Any, operations: list[Operation]) -> Anomaly:
    first, second = operations[:2]
    return Anomaly(
        "G2",  # Adya: G2, an anti-dependency cycle by predicates
        sentence(
            f"{told(first)} and {told(second)} both inserted under key {key!r}: each read that the other's row was not "
            "there, so each must come before the other"
        ),
        records_of(first, second),
        key=key,
    )

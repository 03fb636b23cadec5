"""Unique ids: no two ``generate`` operations return the same id (Jepsen's ``unique-ids``)."""

from __future__ import annotations

from typing import Any

from splitvote.checkers.elements import MOST_ANOMALIES, element, in_order, listed, plural, records_of, told
from splitvote.harness.op import Operation
from splitvote.harness.recording import Recording
from splitvote.harness.result import Anomaly, Budget, Result, Verdict


class UniqueIdsChecker:
    """INVALID when an id was returned twice; UNKNOWN when none was returned at all."""

    name = "unique-ids"

    def check(self, recording: Recording, budget: Budget) -> Result:
        """Group the ok operations by the id they returned."""
        budget.check(len(recording.history))
        attempts = [operation for operation in recording.history.operations if operation.f == "generate"]
        by_id: dict[Any, list[Operation]] = {}
        for operation in attempts:
            if operation.type == "ok":
                by_id.setdefault(element(operation.output), []).append(operation)
        twice = {value: operations for value, operations in by_id.items() if len(operations) > 1}
        stats = {
            "attempted": len(attempts),
            "acknowledged": sum(map(len, by_id.values())),
            "duplicated": len(twice),
        }
        if not by_id:
            return Result(self.name, Verdict.UNKNOWN, reason="no id was ever returned", stats=stats)
        ordered = in_order(by_id)
        return Result(
            self.name,
            Verdict.INVALID if twice else Verdict.VALID,
            reason=f"{plural(len(twice), 'id')} returned more than once: {listed(twice)}" if twice else None,
            anomalies=tuple(_duplicate(value, twice[value]) for value in in_order(twice)[:MOST_ANOMALIES]),
            evidence={
                "duplicated": {repr(value): len(twice[value]) for value in in_order(twice)},
                "range": [ordered[0], ordered[-1]],
            },
            stats=stats,
        )


def _duplicate(value: Any, operations: list[Operation]) -> Anomaly:
    first, second = operations[:2]
    times = "twice" if len(operations) == 2 else f"{len(operations)} times"
    return Anomaly(
        "unique-ids: duplicate",
        f"Id {value!r} was returned {times}: by {told(first)} and by {told(second)}.",
        records_of(first, second),
        details={"id": value, "count": len(operations)},
    )

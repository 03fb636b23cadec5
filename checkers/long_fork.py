"""Long fork: two reads that saw two writes in opposite orders (Jepsen's ``long-fork``).

Parallel snapshot isolation allows it, snapshot isolation and serializability do
not.  Operations are transactions of ``[kind, key, value]``: a write of one key
(``w``, every key written once), or reads (``r``) of a group of keys.  A read
that saw x but not y and one that saw y but not x leave no order for the writes.

Of reads of the same keys, those that saw more must have seen all that those that saw
less did; sorted by how many keys they saw, it is enough to compare neighbours.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import pairwise
from typing import Any

from splitvote.checkers.elements import MOST_ANOMALIES, element, listed, plural, records_of, sentence, told
from splitvote.harness.history import History
from splitvote.harness.op import Operation
from splitvote.harness.recording import Recording
from splitvote.harness.result import Anomaly, Budget, Result, Verdict

_READS = ("r", "read")
_WRITES = ("w", "write")


class LongForkChecker:
    """INVALID when two reads of one group fork, or a value was read that nobody wrote.

    UNKNOWN when a key was written twice (then nothing can be concluded), or no
    two reads covered the same keys.
    """

    name = "long-fork"

    def check(self, recording: Recording, budget: Budget) -> Result:
        """Compare the reads of each group of keys."""
        budget.check(len(recording.history))
        writes, rewritten = _writes(recording.history)
        if rewritten:
            return Result(
                self.name,
                Verdict.UNKNOWN,
                reason=f"{plural(len(rewritten), 'key')} written more than once: {listed(rewritten)}; "
                "long forks are only visible where every key is written once",
            )
        groups = _reads_by_group(recording.history)
        anomalies = []
        for keys, reads in groups.items():
            budget.check(len(reads))
            anomalies += _unwritten(reads, writes) or _fork(keys, reads, writes)
        stats = {"groups": len(groups), "reads": sum(map(len, groups.values())), "writes": len(writes)}
        if anomalies:
            return Result(
                self.name,
                Verdict.INVALID,
                reason=f"{plural(len(anomalies), 'group')} of keys read in contradictory orders",
                anomalies=tuple(anomalies[:MOST_ANOMALIES]),
                stats=stats,
            )
        if all(len(reads) < 2 or len(keys) < 2 for keys, reads in groups.items()):
            reason = "no two ok reads covered the same two keys or more: no fork could have been seen"
            return Result(self.name, Verdict.UNKNOWN, reason=reason, stats=stats)
        return Result(self.name, Verdict.VALID, stats=stats)


def _writes(history: History) -> tuple[dict[Any, Operation], list[Any]]:
    """The write of each key (a failed one where there is no other), and the keys written more than once."""
    writes: dict[Any, Operation] = {}
    rewritten = {}
    for operation in history.operations:
        for kind, key, _ in _micro_ops(operation.invoke.value):
            if kind not in _WRITES:
                continue
            key = element(key)
            if key not in writes or writes[key].type == "fail":
                writes[key] = operation
            elif operation.type != "fail":
                rewritten[key] = True
    return writes, list(rewritten)


def _micro_ops(value: Any) -> list[tuple[Any, Any, Any]]:
    """The ``[kind, key, value]`` of a transaction; none for what is no transaction."""
    if not isinstance(value, list) or not all(isinstance(part, (list, tuple)) and len(part) == 3 for part in value):
        return []
    return [(kind, key, seen) for kind, key, seen in value]


def _reads_by_group(history: History) -> dict[frozenset[Any], list[tuple[dict[Any, Any], Operation]]]:
    """Ok transactions that only read, as maps of key to value, by the keys they cover."""
    groups: dict[frozenset[Any], list[tuple[dict[Any, Any], Operation]]] = {}
    for operation in history.operations:
        micro_ops = _micro_ops(operation.output) if operation.type == "ok" else []
        if micro_ops and all(kind in _READS for kind, _, _ in micro_ops):
            seen = {element(key): element(value) for _, key, value in micro_ops}
            groups.setdefault(frozenset(seen), []).append((seen, operation))
    return groups


def _written_value(write: Operation, key: Any) -> Any:
    return next(
        element(value)
        for kind, found, value in _micro_ops(write.invoke.value)
        if kind in _WRITES and element(found) == key
    )


def _unwritten(reads: Iterable[tuple[dict[Any, Any], Operation]], writes: dict[Any, Operation]) -> list[Anomaly]:
    """The first read of a value that nobody wrote, or whose write failed, or was only invoked later."""
    for seen, read in reads:
        for key, value in seen.items():
            if value is None:
                continue
            write = writes.get(key)
            if (why := _why_unwritten(write, key, value, read)) is not None:
                return [
                    Anomaly(
                        "long-fork: unwritten value",
                        sentence(f"{told(read)} saw {key!r} = {value!r}, but {why}"),
                        records_of(write, read),
                        details={"key": key, "value": value},
                    )
                ]
    return []


def _why_unwritten(write: Operation | None, key: Any, value: Any, read: Operation) -> str | None:
    if write is None:
        return "nobody wrote that key"
    if (written := _written_value(write, key)) != value:
        return f"the only write of that key is of {written!r}: {told(write)}"
    if write.type == "fail":
        return f"its write failed: {told(write)}"
    assert read.completion is not None
    if write.invoke.index > read.completion.index:
        return f"its write came later: {told(write)}"
    return None


def _fork(
    keys: frozenset[Any], reads: list[tuple[dict[Any, Any], Operation]], writes: dict[Any, Operation]
) -> list[Anomaly]:
    """The first two reads, by how much they saw, neither of which saw all that the other did."""
    by_seen: dict[frozenset[Any], Operation] = {}
    for seen, read in reads:
        by_seen.setdefault(frozenset(key for key in keys if seen[key] is not None), read)
    chain = sorted(by_seen.items(), key=lambda pair: (len(pair[0]), pair[1].invoke.index))
    for (fewer, first), (more, second) in pairwise(chain):
        if not fewer <= more:
            return [_forked(fewer, first, more, second, writes)]
    return []


def _forked(
    fewer: frozenset[Any], first: Operation, more: frozenset[Any], second: Operation, writes: dict[Any, Operation]
) -> Anomaly:
    x = min(fewer - more, key=lambda key: writes[key].invoke.index)
    y = min(more - fewer, key=lambda key: writes[key].invoke.index)
    return Anomaly(
        "long-fork",
        sentence(
            f"{told(first)} saw the write of {x!r} but not of {y!r}; {told(second)} saw the write of {y!r} but not of "
            f"{x!r}: no order of {told(writes[x])} and {told(writes[y])} explains both"
        ),
        records_of(writes[x], writes[y], first, second),
        details={"keys": [x, y]},
    )

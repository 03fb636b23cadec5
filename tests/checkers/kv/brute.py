"""The oracle: tries every order of a small kv history, knowing nothing of attribution, floors or matching."""

from __future__ import annotations

from typing import Any

from splitvote.harness.archive import StoreEvent
from splitvote.harness.op import Operation
from splitvote.harness.recording import Recording
from tests.checkers.kv.system import Store, Table, events_between, lookup, perform


def is_explained(recording: Recording) -> bool:
    """Whether some order of the operations, strangers' writes and leases' ends makes every answer and every event."""
    assert recording.archive is not None
    operations = [operation for operation in recording.history.operations if operation.type != "fail"]
    members = [operation for operation in operations if operation.type == "ok"]
    for first in members:
        for second in members:
            if _same_node(first, second) and _before(first, second) and _revision(second) < _revision(first):
                return False
    return _Search(operations, dict(recording.archive.told)).run()


def _same_node(first: Operation, second: Operation) -> bool:
    return (
        first.completion is not None
        and second.completion is not None
        and first.completion.node == second.completion.node
    )


def _before(first: Operation, second: Operation) -> bool:
    return first.completion is not None and first.type == "ok" and first.completion.index < second.invoke.index


def _revision(operation: Operation) -> int:
    assert operation.completion is not None
    assert operation.completion.revision is not None
    return operation.completion.revision


def _is_stale(operation: Operation) -> bool:
    request = operation.invoke.value
    return bool(request[0] == "range" and request[3])


class _Search:
    def __init__(self, operations: list[Operation], told: dict[int, tuple[StoreEvent, ...]]) -> None:
        self._operations = operations
        self._told = told
        self._newest = max(told)
        self._needed = frozenset(n for n, operation in enumerate(operations) if operation.type == "ok")
        self._seen: set[tuple[frozenset[int], tuple[Any, ...]]] = set()

    def run(self) -> bool:
        return self._from(Store(), frozenset())

    def _from(self, store: Store, done: frozenset[int]) -> bool:
        if self._needed <= done and store.revision == self._newest:
            return True
        state = done, tuple(tuple(sorted(table.items())) for table in store.tables)
        if state in self._seen:
            return False
        self._seen.add(state)
        return any(
            self._try(store, number, done) for number in range(len(self._operations)) if number not in done
        ) or self._try_others(store, done)

    def _try(self, store: Store, number: int, done: frozenset[int]) -> bool:
        operation = self._operations[number]
        if _is_stale(operation):
            return self._is_past(store, operation) and self._from(store, done | {number})
        if any(n not in done for n in self._needed if _before(self._operations[n], operation)):
            return False
        return any(self._do(store, number, done, lease) for lease in self._leases(store, operation))

    def _is_past(self, store: Store, operation: Operation) -> bool:
        """Whether a serializable read's answer is that of the revision it tells."""
        if operation.type != "ok":
            return True
        request, revision = operation.invoke.value, _revision(operation)
        at = request[2] or revision
        if at > revision or revision > store.revision:
            return False
        return lookup(store.tables[at - 1], request[1]) == operation.output

    def _leases(self, store: Store, operation: Operation) -> list[int]:
        """The lease that a put was given: where nobody knows, the one that the store's history has."""
        extra = operation.completion.extra if operation.completion is not None else None
        if extra and "lease" in extra:
            return [extra["lease"]]
        events = self._told.get(store.revision + 1, ())
        return sorted({event.lease for event in events} | {0})

    def _do(self, store: Store, number: int, done: frozenset[int], lease: int) -> bool:
        operation = self._operations[number]
        answer, table = perform(store.tables, operation.invoke.value, lease)
        wrote = table != store.tables[-1]
        if operation.type == "ok":
            revision = store.revision + wrote
            if answer != operation.output or revision != _revision(operation):
                return False
        return self._moves_to(store, table, done | {number}) if wrote else self._from(store, done | {number})

    def _moves_to(self, store: Store, table: Table, done: frozenset[int]) -> bool:
        revision = store.revision + 1
        events = events_between(store.tables[-1], table, revision)
        told = self._told.get(revision, ())
        if sorted(events, key=lambda event: event.key) != sorted(told, key=lambda event: event.key):
            return False
        return self._from(Store([*store.tables, table], self._told), done)

    def _try_others(self, store: Store, done: frozenset[int]) -> bool:
        told = self._told.get(store.revision + 1, ())
        if told and all(event.key.startswith("other/") for event in told):
            return self._from(Store([*store.tables, store.tables[-1]], self._told), done)
        leases = sorted({row[4] for row in store.tables[-1].values() if row[4]})
        return any(
            self._moves_to(store, {key: row for key, row in store.tables[-1].items() if row[4] != lease}, done)
            for lease in leases
        )

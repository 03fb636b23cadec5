"""Whether the store's history is what the writers made: the truth that watches are held against is judged itself.

A write that was acknowledged must be there (*lost write*), and whatever is
there must have been asked for by a write that did not certainly fail
(*phantom*): else what every watcher missed, or one member's invention, would
become everybody's truth (SOUNDNESS 13).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from splitvote.checkers.findings import Findings
from splitvote.checkers.watch.plan import Told, digest, parts_of, stored_value
from splitvote.checkers.watch.truth import WatchTruth
from splitvote.harness.op import Operation


class Writers:
    """The writes of a run, by the values they put and the revisions they were acknowledged at."""

    def __init__(self, operations: Sequence[Operation]) -> None:
        self._by_value: dict[str, Operation] = {}
        self._acknowledged: list[tuple[int, Operation]] = []
        self._unknown: list[Operation] = []
        for operation in operations:
            if operation.f in ("put", "delete", "txn"):
                self._learn(operation)

    def _learn(self, operation: Operation) -> None:
        for part in parts_of(operation.invoke.value):
            if part[0] == "put":
                self._by_value[digest(stored_value(part))] = operation
        if operation.type == "info":
            self._unknown.append(operation)
        elif operation.type == "ok" and operation.completion is not None and _has_written(operation):
            self._acknowledged.append((operation.completion.revision or 0, operation))

    def check(self, truth: WatchTruth, findings: Findings) -> None:
        """Compare the writes with the store's history, as far as it is known."""
        for revision, operation in self._acknowledged:
            if revision > truth.known:
                if truth.doubt is None:
                    _tell_lost(operation, f"at the end no member has any revision beyond {truth.known}", findings)
            elif lacking := _lacking(operation, truth.at_revision.get(revision, [])):
                _tell_lost(operation, f"the store's history has no {lacking} there", findings)
        at: dict[int, list[Operation]] = {}
        for revision, operation in self._acknowledged:
            at.setdefault(revision, []).append(operation)
        for revision, events in truth.at_revision.items():
            for event in events:
                if (problem := self._problem(event, at.get(revision, []))) is not None:
                    what, writer = problem
                    findings.add(
                        "watch: phantom",
                        f"the store's history has {event} at revision {revision}, {what}",
                        [] if writer is None else [writer],
                        event=event,
                    )

    def _problem(self, event: Told, acknowledged: Sequence[Operation]) -> tuple[str, Operation | None] | None:
        """What is wrong with an event's origin, with the write it comes from, if any.

        ``acknowledged`` are the writes that were acknowledged at its revision: one, if all is well.
        """
        revision, key, value = event[:3]
        if value is None:
            if any(_deletes(operation, key) for operation in acknowledged or self._unknown):
                return None
            return "which nobody deleted", acknowledged[0] if acknowledged else None
        writer = self._by_value.get(value)
        if writer is None:
            return "which nobody wrote", None
        if writer.type == "fail":
            return "though its write certainly failed", writer
        if writer.type == "ok" and writer.completion is not None and writer.completion.revision != revision:
            return f"though its write was acknowledged at {writer.completion.revision}", writer
        return None


def _answers(operation: Operation) -> list[tuple[list[Any], int | None]]:
    """Each put and delete of an acknowledged write, with how many keys it deleted (None: a put)."""
    parts, answer = parts_of(operation.invoke.value), operation.output
    return list(zip(parts, answer if isinstance(answer, list) else [answer], strict=True))


def _has_written(operation: Operation) -> bool:
    """Whether an acknowledged write changed anything: a put did, a delete where something was there."""
    return any(count is None or count for _, count in _answers(operation))


def _covers(delete: list[Any], key: str) -> bool:
    return bool(delete[1] == key if len(delete) < 3 else delete[1] <= key < delete[2])


def _deletes(operation: Operation, key: str) -> bool:
    return any(part[0] == "delete" and _covers(part, key) for part in parts_of(operation.invoke.value))


def _lacking(operation: Operation, events: Sequence[Told]) -> str | None:
    """What an acknowledged write did that its revision's events do not show."""
    values = {event[2] for event in events}
    deleted = [event[1] for event in events if event[2] is None]
    for part, count in _answers(operation):
        if count is None and digest(stored_value(part)) not in values:
            return f"put of {part[1]}"
        if count and count > sum(_covers(part, key) for key in deleted):
            return f"delete of {part[1]}"
    return None


def _tell_lost(operation: Operation, what: str, findings: Findings) -> None:
    assert operation.completion is not None
    story = f"a {operation.f} was acknowledged at revision {operation.completion.revision}, and {what}"
    findings.add("watch: lost write", story, [operation])

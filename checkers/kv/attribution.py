"""Who made each event: every revision's changes belong to one write, or to the expiry of a lease.

A revision with a put names its writer, for every value is put once.  One with
deletes only belongs to the write that was acknowledged at it; or to one of
unknown outcome whose effect there would have been just that, and that was
invoked before anybody had been answered so new a revision; or, where each of
its keys hung on one lease, to that lease's end.  Unknown deletes are matched
with revisions by augmenting paths: a greedy choice could take the one delete
that another revision needs, and cry wolf.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from splitvote.checkers.findings import Findings
from splitvote.checkers.kv.order import Floor
from splitvote.checkers.kv.requests import evaluate, has_written, may_delete, may_write, puts_of
from splitvote.checkers.truth import KeyState, Truth
from splitvote.harness.archive import StoreEvent
from splitvote.harness.op import Operation
from splitvote.harness.result import Budget


@dataclass(slots=True)
class Attribution:
    """``writer_at`` is each revision's write; ``contested`` are revisions that were told about already."""

    writer_at: dict[int, Operation] = field(default_factory=dict)
    contested: set[int] = field(default_factory=set)
    expiries: int = 0


def attribute(
    operations: Sequence[Operation],
    floors: Mapping[int, Floor],
    truth: Truth,
    prefix: str,
    findings: Findings,
    budget: Budget,
) -> Attribution:
    """Find every revision's writer, and tell of events without one and of writes that did something else."""
    return _Attributor(operations, floors, truth, prefix, findings).run(budget)


class _Attributor:
    def __init__(
        self,
        operations: Sequence[Operation],
        floors: Mapping[int, Floor],
        truth: Truth,
        prefix: str,
        findings: Findings,
    ) -> None:
        self._floors = floors
        self._truth = truth
        self._prefix = prefix
        self._findings = findings
        self._by_value: dict[str, Operation] = {}
        self._acknowledged: dict[int, Operation] = {}
        self._unknown_deletes: list[Operation] = []
        self._found = Attribution()
        for operation in operations:
            self._learn(operation)

    def _learn(self, operation: Operation) -> None:
        request = operation.invoke.value
        if request[0] == "compact" or not may_write(request):
            return
        for _, value in puts_of(request):
            self._by_value[value] = operation
        completion = operation.completion
        if operation.type == "info" and may_delete(request):
            self._unknown_deletes.append(operation)
        if operation.type != "ok" or completion is None or completion.revision is None:
            return
        if not has_written(request, completion.value):
            return
        other = self._acknowledged.setdefault(completion.revision, operation)
        if other is not operation:
            self._found.contested.add(completion.revision)
            self._findings.add(
                "kv: two writes at one revision",
                f"two writes were acknowledged at revision {completion.revision}",
                [other, operation],
                revision=completion.revision,
            )

    def run(self, budget: Budget) -> Attribution:
        unexplained = []
        revision_of: dict[int, int] = {}
        for revision, events in self._truth.groups.items():
            budget.check(1)
            writer = self._named_writer(events) or self._acknowledged.get(revision)
            if writer is None:
                unexplained.append(revision)
            elif self._may_have_written(writer, revision, revision_of):
                self._found.writer_at[revision] = writer
                self._check_effect(writer, revision)
        self._explain_deletes(unexplained, budget)
        return self._found

    def _named_writer(self, events: Sequence[StoreEvent]) -> Operation | None:
        for event in events:
            if event.type == "put" and event.value in self._by_value:
                return self._by_value[event.value]
        return None

    def _may_have_written(self, writer: Operation, revision: int, revision_of: dict[int, int]) -> bool:
        """Whether this write can have happened, here, and only here."""
        earlier = revision_of.setdefault(writer.invoke.index, revision)
        completion = writer.completion
        if earlier != revision:
            name, what = "kv: repeated write", f"took effect twice, at revisions {earlier} and {revision}"
        elif writer.type == "fail":
            error = completion.error if completion is not None else None
            name, what = "kv: failed write", f"certainly failed ({error}), and yet revision {revision} is its doing"
        elif writer.type == "ok" and completion is not None and completion.revision != revision:
            said = completion.revision
            name, what = "kv: write at another revision", f"was acknowledged at {said} and took effect at {revision}"
        else:
            return True
        self._found.contested.add(revision)
        if completion is not None and completion.revision is not None:
            self._found.contested.add(completion.revision)
        self._findings.add(name, f"a {writer.f} {what}", [writer], revision=revision)
        return False

    def _check_effect(self, writer: Operation, revision: int) -> None:
        expected = self._effect_at(writer, revision)
        actual = self._truth.changes_at(revision, self._prefix)
        if _differs(expected, actual):
            self._found.contested.add(revision)
            self._findings.add(
                "kv: effect",
                f"a {writer.f} at revision {revision} should have made {_told(expected)}; "
                f"the store has {_told(actual)}",
                [writer],
                revision=revision,
                expected=_told(expected),
                actual=_told(actual),
            )

    def _effect_at(self, writer: Operation, revision: int) -> dict[str, KeyState | None]:
        extra = writer.completion.extra if writer.completion is not None else None
        lease = (extra or {}).get("lease")
        return dict(evaluate(writer.invoke.value, self._truth, revision - 1, lease=lease).changes)

    def _explain_deletes(self, revisions: Sequence[int], budget: Budget) -> None:
        placed = {writer.invoke.index for writer in self._found.writer_at.values()}
        unknown = [operation for operation in self._unknown_deletes if operation.invoke.index not in placed]
        candidates = {
            revision: [
                number
                for number, operation in enumerate(unknown)
                if self._floors[operation.invoke.index].revision < revision
                and not _differs(self._effect_at(operation, revision), self._truth.changes_at(revision, self._prefix))
            ]
            for revision in revisions
            if not self._is_expiry(revision)
        }
        taken: dict[int, int] = {}
        for revision in candidates:
            budget.check(1)
            if not _match(revision, candidates, taken, set()):
                self._tell_phantom(revision)
        for number, revision in taken.items():
            self._found.writer_at[revision] = unknown[number]

    def _is_expiry(self, revision: int) -> bool:
        """Whether the revision deletes just the keys of one lease; if that was due is for the lease workload."""
        gone = {event.key[len(self._prefix) :] for event in self._truth.groups[revision] if event.type == "delete"}
        leases = {state.lease if (state := self._truth.at(key, revision - 1)) is not None else 0 for key in gone}
        if len(gone) < len(self._truth.groups[revision]) or len(leases) != 1 or 0 in leases:
            return False
        before = {name: self._truth.at(name, revision - 1) for name in self._truth.names_at(revision - 1)}
        is_expiry = gone == {name for name, state in before.items() if state is not None and state.lease in leases}
        self._found.expiries += is_expiry
        return is_expiry

    def _tell_phantom(self, revision: int) -> None:
        told = _told(self._truth.changes_at(revision, self._prefix))
        self._findings.add(
            "kv: phantom",
            f"the store has {told} at revision {revision}, which no operation that may have happened has done, "
            "and no lease's end",
            [],
            revision=revision,
        )


def _match(revision: int, candidates: dict[int, list[int]], taken: dict[int, int], tried: set[int]) -> bool:
    """Give the revision a delete of its own, moving others if need be (Kuhn's augmenting paths)."""
    for number in candidates[revision]:
        if number not in tried:
            tried.add(number)
            if number not in taken or _match(taken[number], candidates, taken, tried):
                taken[number] = revision
                return True
    return False


def _differs(expected: dict[str, KeyState | None], actual: object) -> bool:
    """Whether two sets of changes differ; a lease that nobody knows is like any."""
    if not isinstance(actual, dict) or expected.keys() != actual.keys():
        return True
    for name, state in expected.items():
        theirs = actual[name]
        if state is None or theirs is None:
            if state is not theirs:
                return True
        elif state[:4] != theirs[:4] or (state.lease is not None and state.lease != theirs.lease):
            return True
    return False


def _told(changes: object) -> str:
    assert isinstance(changes, dict)
    return ", ".join(_told_one(name, state) for name, state in sorted(changes.items())) or "no change"


def _told_one(name: str, state: KeyState | None) -> str:
    if state is None:
        return f"{name} deleted"
    return f"{name}={state.value!r} (version {state.version}, created at {state.create})"

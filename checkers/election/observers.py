"""Judges what observers were told: real leaders only, in the order in which they led, none that was long gone.

- *invented*: a leader's key with that value is in the store's history;
- *never led*: it led while it had that value;
- *deposed*, *went back*: one observation never tells an older leader, or an older
  value of the same, after a newer one;
- *stale*: nor one that was over before the observation began;
- *leader read*: a single read tells who led at its revision, or that nobody did;
- *succession*: what was answered at a later revision is of no older leader.
  This one needs no archive.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from splitvote.checkers.election.candidates import Case
from splitvote.checkers.election.reigns import Reign, Tenure
from splitvote.harness.history import History
from splitvote.harness.op import Op, Operation


class Seen(NamedTuple):
    """A leader with its value, as an observer was told: ``place`` orders them."""

    key: str
    value: str
    created: int
    mod_revision: int

    @property
    def place(self) -> tuple[int, int]:
        """Older leaders come first, then older values."""
        return self.created, self.mod_revision

    @property
    def words(self) -> str:
        """For stories."""
        return f"{self.key} (created at {self.created}) with {self.value!r} of revision {self.mod_revision}"


def check_observers(case: Case, history: History) -> None:
    """Apply every rule of the module."""
    for operation in case.claims.operations:
        if operation.f == "observe":
            _check_observation(case, operation, history.events.get(operation.invoke.index, ()))
    for operation in case.claims.ok("leader"):
        _check_leader_read(case, operation)
    _check_succession(case)


def _check_observation(case: Case, operation: Operation, events: Sequence[Op]) -> None:
    oldest = _oldest_allowed(case, operation)
    before: tuple[Seen, Op] | None = None
    for event in events:
        seen = Seen(*event.value)
        _check_seen(case, operation.key, seen, [operation.invoke, event])
        if before is not None and seen.place < before[0].place:
            is_deposed = seen.created < before[0].created
            case.findings.add(
                "election: deposed leader observed" if is_deposed else "election: observation went back",
                f"an observer of {operation.key} was told of {seen.words} after {before[0].words}",
                [operation.invoke, before[1], event],
            )
        elif oldest is not None and seen.place < oldest.place:
            case.findings.add(
                "election: stale observation",
                f"an observer of {operation.key} was told of {seen.words}, though {oldest.words} was known before it "
                "began to observe",
                [operation.invoke, event],
            )
        if before is not None and seen.place == before[0].place:
            case.count("observed_again")
        before = seen, event


def _oldest_allowed(case: Case, operation: Operation) -> Seen | None:
    """The last leader up to the floor of the observation: whoever it tells of came no earlier."""
    floor = min(case.bounds.floor(operation.invoke.index), case.reigns.known)
    reign = case.reigns.last_by(operation.key, floor)
    return None if reign is None else _seen_at(reign.tenure, floor)


def _seen_at(tenure: Tenure, revision: int) -> Seen:
    mod_revision, value = tenure.value_at(revision)
    return Seen(tenure.key, value, tenure.created, mod_revision)


def _check_seen(case: Case, election: str, seen: Seen, shown_by: Sequence[Op]) -> None:
    """Whether this was ever a leader, with that value."""
    if case.is_unknown(max(seen.place)):
        case.skip()
        return
    tenure = case.reigns.tenures.get((seen.key, seen.created))
    if tenure is None or tenure.election != election or (seen.mod_revision, seen.value) not in tenure.values:
        case.findings.add(
            "election: invented leader",
            f"an observer of {election} was told of {seen.words}, which the store's history does not have",
            shown_by,
        )
        return
    end = tenure.until(seen.mod_revision)
    reign = case.reigns.reign_of(tenure)
    if reign is None and end is None and not case.reigns.is_complete:
        case.skip()  # it may have led after what is known
    elif reign is None or not _overlap(reign, seen.mod_revision, end):
        case.findings.add(
            "election: never led",
            f"an observer of {election} was told that {seen.words} leads, but "
            f"{'it never did' if reign is None else f'it led from {reign.first}, when that value was gone at {end}'}",
            shown_by,
        )


def _overlap(reign: Reign, first: int, end: int | None) -> bool:
    return (end is None or reign.first < end) and (reign.end is None or first < reign.end)


def _check_leader_read(case: Case, operation: Operation) -> None:
    completion = operation.completion
    assert completion is not None
    revision = completion.revision
    if revision is None:  # the service says "nobody" without a revision
        _check_vacancy(case, operation)
        return
    if case.is_unknown(revision):
        case.skip()
        return
    leader = case.reigns.leader_at(operation.key, revision)
    is_so = None if leader is None else _seen_at(leader, revision)
    told = None if completion.value is None else Seen(*completion.value)
    if told != is_so:
        case.findings.add(
            "election: leader read",
            f"asked who leads {operation.key}, at revision {revision} the answer was "
            f"{'nobody' if told is None else told.words}, but it was {'nobody' if is_so is None else is_so.words}",
            [operation],
            revision=revision,
        )


def _check_vacancy(case: Case, operation: Operation) -> None:
    assert operation.completion is not None
    floor = case.bounds.floor(operation.invoke.index)
    ceiling = case.bounds.ceiling(operation.completion.index)
    if ceiling is None or case.is_unknown(ceiling):
        case.skip()
    elif not case.reigns.is_vacant_within(operation.key, floor, ceiling):
        case.findings.add(
            "election: leader read",
            f"asked who leads {operation.key}, the answer was nobody, but from revision {floor} to {ceiling} there "
            "was always a leader",
            [operation],
            floor=floor,
            ceiling=ceiling,
        )


class _Evidence(NamedTuple):
    """An answer that shows that the leader with this create revision led, or had led, at a revision."""

    revision: int
    created: int
    operation: Operation


def _check_succession(case: Case) -> None:
    by_election: dict[str, list[_Evidence]] = {}
    for evidence in _evidence(case):
        by_election.setdefault(evidence.operation.key, []).append(evidence)
    for election, shown in by_election.items():
        newest: _Evidence | None = None
        for evidence in sorted(shown, key=lambda each: (each.revision, each.created)):
            if newest is not None and evidence.created < newest.created:
                case.findings.add(
                    "election: succession",
                    f"in {election} the leader created at {newest.created} led at revision {newest.revision}, and the "
                    f"older one created at {evidence.created} still at {evidence.revision}",
                    [newest.operation, evidence.operation],
                )
            if newest is None or evidence.created > newest.created:
                newest = evidence


def _evidence(case: Case) -> Iterator[_Evidence]:
    """Answers that show a leader's key alive: single reads, and what leaders did under their guard."""
    for operation in case.claims.operations:
        completion = operation.completion
        if completion is None or completion.type != "ok" or completion.revision is None:
            continue
        if operation.f == "leader" and completion.value is not None:
            yield _Evidence(completion.revision, Seen(*completion.value).created, operation)
        elif operation.f in ("proclaim", "write") and operation.invoke.index in case.claims.claim_of:
            claim = case.claims.claim_of[operation.invoke.index]
            yield _Evidence(completion.revision, claim.created, operation)

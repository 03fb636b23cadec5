"""Judges what candidates were told, and what they did to the store.

- *no predecessor*: a campaign was won when no older key lived (SOUNDNESS 15);
- *holder only*: a candidate's key is put by its own campaign and proclamations,
  a proclamation never creates it anew, a resignation deletes its own key;
- *fencing*: a write guarded by a leader's key is in the store only where that
  key lived, whatever the client was told of it;
- *lost*, *phantom*, *failed*, *repeated*: every acknowledged value is in the
  store, every value there was sent, did not certainly fail, and is there once;
- *refusal*: who was refused had indeed lost its key;
- *order*: an answer is not older than what had been shown before it was asked for.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from splitvote.checkers.election.bounds import PLACED, Bounds
from splitvote.checkers.election.claims import Claim, Claims, candidate_key, is_refusal
from splitvote.checkers.election.reigns import GUARDED, Reigns, Tenure
from splitvote.checkers.findings import Findings
from splitvote.checkers.truth import Truth
from splitvote.harness.archive import StoreEvent
from splitvote.harness.op import Operation

Places = dict[str, list[int]]
"""The revisions at which each value was put."""


@dataclass(frozen=True, slots=True)
class Case:
    """All that the rules need."""

    claims: Claims
    reigns: Reigns
    truth: Truth
    bounds: Bounds
    findings: Findings
    prefix: str
    counted: dict[str, int] = field(default_factory=dict)

    def tenure(self, claim: Claim) -> Tenure | None:
        """The life of a candidate's key in the store's history."""
        return self.reigns.tenures.get((claim.key, claim.created))

    def is_unknown(self, revision: int) -> bool:
        """Whether nothing is known of this revision; beyond the end of a whole archive there is nothing."""
        return revision > self.reigns.known and not self.reigns.is_complete

    def count(self, what: str) -> None:
        """Count what is measured and not judged."""
        self.counted[what] = self.counted.get(what, 0) + 1

    def skip(self) -> None:
        """Count what cannot be judged."""
        self.findings.skipped += 1


def check_candidates(case: Case) -> None:
    """Apply every rule of the module."""
    for claim in case.claims.won.values():
        _check_win(case, claim)
    places = _check_puts(case)
    for operation in case.claims.operations:
        if operation.type == "ok" and operation.f in ("proclaim", "write"):
            _check_acknowledged(case, operation, places)
        elif operation.f in ("proclaim", "write") and is_refusal(operation):
            _check_refusal(case, operation)
        elif operation.type == "ok" and operation.f == "resign":
            _check_resignation(case, operation)
        if operation.f in PLACED:
            _check_order(case, operation)


def _check_win(case: Case, claim: Claim) -> None:
    """Election: no predecessor.  Once no older key is left none comes, so the last moment is as good as any."""
    campaign, completion = claim.campaign, claim.campaign.completion
    assert completion is not None
    tenure = case.tenure(claim)
    if tenure is None:
        if case.is_unknown(claim.created):
            case.skip()
        else:
            case.findings.add(
                "election: lost key",
                f"a campaign in {campaign.key} was won with {claim.key} created at {claim.created}, but the store's "
                "history has no such key",
                [campaign],
                key=claim.key,
                create_revision=claim.created,
            )
        return
    is_exact = (completion.extra or {}).get("api") != "server"
    won_by = completion.revision if is_exact else case.bounds.ceiling(completion.index)
    if won_by is None:
        won_by = case.reigns.known + (0 if case.reigns.is_complete else 1)
    older = case.reigns.leader_at(tenure.election, min(won_by, case.reigns.known))
    if older is not None and older.created < claim.created:
        if case.is_unknown(won_by):
            case.skip()
        else:
            _tell_predecessor(case, claim, older, won_by)
    seen = won_by if is_exact else case.bounds.floor(completion.index)
    if tenure.deleted is not None and tenure.deleted <= seen:
        case.count("won_after_deletion")


def _tell_predecessor(case: Case, claim: Claim, older: Tenure, won_by: int) -> None:
    first = case.claims.by_value.get(older.values[0][1])
    case.findings.add(
        "election: no predecessor",
        f"a campaign in {older.election} was won by revision {won_by} with the key created at {claim.created}, while "
        f"the older {older.key} was there ({older.life})",
        [claim.campaign] if first is None else [first, claim.campaign],
        key=claim.key,
        create_revision=claim.created,
        predecessor=older.key,
        predecessor_created=older.created,
        predecessor_deleted=older.deleted,
        won_by=won_by,
    )


def _check_puts(case: Case) -> Places:
    """Every put in the store against the operation that made it; returns where each value is."""
    places: Places = {}
    for revision, events in case.truth.groups.items():
        for event in events:
            if event.type == "put":
                at = places.setdefault(event.value, [])
                _check_put(case, event, at)
                at.append(revision)
    return places


def _check_put(case: Case, event: StoreEvent, before: Sequence[int]) -> None:
    writer = case.claims.by_value.get(event.value)
    what = f"revision {event.mod_revision} put {event.value!r} into {event.key}"
    details = {"key": event.key, "revision": event.mod_revision, "value": event.value}
    if writer is None:
        case.findings.add("election: phantom value", f"{what}, which nobody did", [], **details)
        return
    if before:
        case.findings.add(
            "election: repeated value", f"{what}, which had been put at {before[0]} already", [writer], **details
        )
        return
    if writer.type == "fail":
        case.findings.add(
            "election: failed value", f"{what}, though its {writer.f} certainly failed", [writer], **details
        )
        return
    claim = case.claims.claim_of.get(writer.invoke.index)
    election = case.reigns.election_of(event.key)
    if writer.f == "write":
        _check_fence(case, event, writer, claim)
    elif election != writer.key or _has_other_key(writer, claim, event.key):
        case.findings.add("election: foreign key", f"{what}, by a {writer.f} of another candidate", [writer], **details)
    elif writer.f == "proclaim" and claim is not None and event.create_revision != claim.created:
        case.findings.add(
            "election: proclaimed after the end",
            f"{what} (created at {event.create_revision}), by a proclamation of the key created at {claim.created}",
            [claim.campaign, writer],
            **details,
        )


def _has_other_key(writer: Operation, claim: Claim | None, key: str) -> bool:
    own = candidate_key(writer) if claim is None else claim.key
    return own is not None and own != key


def _check_fence(case: Case, event: StoreEvent, writer: Operation, claim: Claim | None) -> None:
    """Election: fencing.  In the state that the write met, its guard must have held."""
    if event.key != f"{case.prefix}{GUARDED}/{writer.key}":
        case.findings.add(
            "election: foreign key", f"a write of {writer.key} changed {event.key}", [writer], key=event.key
        )
        return
    if claim is None:
        case.skip()
        return
    tenure = case.tenure(claim)
    if tenure is None or not tenure.is_alive_at(event.mod_revision - 1):
        case.findings.add(
            "election: fencing",
            f"revision {event.mod_revision} has a write guarded by {claim.key} of create revision {claim.created}, "
            f"{'which never was' if tenure is None else tenure.life}: a deposed leader's write got through",
            [claim.campaign, writer],
            key=event.key,
            revision=event.mod_revision,
            guard=claim.key,
            create_revision=claim.created,
            deleted=None if tenure is None else tenure.deleted,
        )


def _check_acknowledged(case: Case, operation: Operation, places: Places) -> None:
    completion = operation.completion
    assert completion is not None
    revision, at = completion.revision, places.get(operation.invoke.value, [])
    if revision in at or (at and revision is None):
        return
    if case.is_unknown(case.reigns.known + 1 if revision is None else revision):
        case.skip()
        return
    case.findings.add(
        "election: lost value",
        f"a {operation.f} was acknowledged (at revision {revision}), but the store's history has its value "
        f"{f'at {at[0]}' if at else 'nowhere'}",
        [operation],
        revision=revision,
        found_at=at,
    )


def _check_refusal(case: Case, operation: Operation) -> None:
    """A candidate that was told that its key is gone: at the answer's revision, or some time while it asked."""
    claim = case.claims.claim_of.get(operation.invoke.index)
    completion = operation.completion
    assert completion is not None
    tenure = None if claim is None else case.tenure(claim)
    first = last = completion.revision
    if last is None:
        first, last = case.bounds.floor(operation.invoke.index), case.bounds.ceiling(completion.index)
    if claim is None or tenure is None or first is None or last is None or case.is_unknown(last):
        case.skip()
    elif tenure.created <= first and tenure.is_alive_at(last):
        case.findings.add(
            "election: refusal",
            f"a {operation.f} was refused at revision {last} because its leader's key {claim.key} were gone, but it "
            f"was there ({tenure.life})",
            [claim.campaign, operation],
            key=claim.key,
            create_revision=claim.created,
            revision=last,
        )


def _check_resignation(case: Case, operation: Operation) -> None:
    """After a resignation its own key is gone; one that says it has deleted the key has done so then and there."""
    claim = case.claims.claim_of.get(operation.invoke.index)
    completion = operation.completion
    assert completion is not None
    revision = completion.revision
    tenure = None if claim is None else case.tenure(claim)
    if claim is None or tenure is None or revision is None or case.is_unknown(revision):
        case.skip()
        return
    has_deleted = (completion.extra or {}).get("deleted") is True
    is_so = tenure.deleted == revision if has_deleted else tenure.deleted is not None and tenure.deleted <= revision
    if not is_so:
        case.findings.add(
            "election: resignation",
            f"a candidate resigned at revision {revision}{' and deleted its key then' if has_deleted else ''}, but "
            f"{claim.key} was {tenure.life}",
            [claim.campaign, operation],
            key=claim.key,
            create_revision=claim.created,
            revision=revision,
        )


def _check_order(case: Case, operation: Operation) -> None:
    completion = operation.completion
    if completion is None or completion.revision is None or completion.type == "info":
        return
    floor = case.bounds.floor(operation.invoke.index)
    has_written = completion.type == "ok" and operation.f in ("proclaim", "write")
    if completion.revision < floor + has_written:
        case.findings.add(
            "election: order",
            f"a {operation.f} was answered at revision {completion.revision}, though revision {floor} had been shown "
            "before it was invoked",
            [operation],
            revision=completion.revision,
            floor=floor,
        )

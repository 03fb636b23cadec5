"""What answers say of leases and keys, against the truth by revision.

- *attachment*: keys end with the lease they hang on, all of them, at one
  revision, and no others; what a get, a put or a TimeToLive shows of them agrees
  with the truth (a TimeToLive's at some revision of its time, since its header is
  filled in later by whichever member was asked);
- *ttl*: no answer promises more than was granted (a new leader extends leases by
  an election timeout, which answers then show), or less than a renewal gave.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import ceil
from typing import Final

from splitvote.checkers.findings import Findings
from splitvote.checkers.lease.attachments import Attachments, Ending
from splitvote.checkers.lease.conditions import Conditions
from splitvote.checkers.lease.evidence import NEVER, Lease
from splitvote.checkers.lease.expiry import ATTACHED
from splitvote.checkers.lease.timeline import Timeline
from splitvote.checkers.truth import Truth
from splitvote.harness.archive import StoreEvent
from splitvote.harness.op import Operation

SPLIT: Final = "lease: split expiry"
TTL: Final = "lease: ttl"
PHANTOM: Final = "lease: phantom"
LOST: Final = "lease: lost write"
READ: Final = "lease: read"

_S: Final = 1_000_000_000


def placed_puts(truth: Truth) -> dict[str, int]:
    """The revision of every put by its value, which no two puts share."""
    return {
        event.value: revision for revision, events in truth.groups.items() for event in events if event.type == "put"
    }


def check_events(
    operations: Sequence[Operation],
    truth: Truth,
    prefix: str,
    placed: Mapping[str, int],
    timeline: Timeline,
    findings: Findings,
) -> None:
    """Every put of the store is the doing of one request that may have happened by then, with the request's lease."""
    by_value = {operation.invoke.value[2]: operation for operation in operations if operation.f == "put"}
    for revision, events in truth.groups.items():
        for event in events:
            if event.type == "put":
                _check_event(event, by_value.get(event.value), prefix, timeline.seen_by(revision), findings)
    for value, operation in by_value.items():
        completion = operation.completion
        if operation.type != "ok" or completion is None or completion.revision is None:
            continue
        if completion.revision <= truth.known and placed.get(value) != completion.revision:
            findings.add(
                LOST,
                f"a put of {value!r} was acknowledged at revision {completion.revision}, where it is not",
                [operation],
                revision=completion.revision,
            )


def _check_event(
    event: StoreEvent, operation: Operation | None, prefix: str, seen_ns: int | None, findings: Findings
) -> None:
    name = event.key[len(prefix) :]
    if (
        operation is None
        or operation.type == "fail"
        or operation.invoke.value[1] != name
        or (seen_ns is not None and seen_ns < operation.invoke.time_ns)
    ):
        findings.add(
            PHANTOM,
            f"the store has {name}={event.value!r} at revision {event.mod_revision}, which no put can have written",
            [operation] if operation is not None else [],
            revision=event.mod_revision,
        )
    elif operation.invoke.value[3] != event.lease:
        findings.add(
            ATTACHED,
            f"{name} was put with lease {operation.invoke.value[3]} and hangs on lease {event.lease} from revision "
            f"{event.mod_revision} on",
            [operation],
            revision=event.mod_revision,
        )


def check_endings(attachments: Attachments, leases: Mapping[int, Lease], findings: Findings) -> None:
    """What deletions take is all the keys of one lease; and a lease that has ended gets no more keys."""
    for ending in attachments.endings:
        told = _problem_of(ending)
        if told is not None:
            name, story = told
            findings.add(name, story, [], lease=ending.lease, revision=ending.revision)
    for number, steps in attachments.steps.items():
        lease = leases.get(number)
        ended_at = next((step.revision for step in steps if step.put is None and not step.after), None)
        late = next((step for step in steps if ended_at is not None and step.revision > ended_at and step.put), None)
        if late is not None and (lease is None or lease.reborn_ns == NEVER):
            findings.add(
                ATTACHED,
                f"lease {number} ended at revision {ended_at}, but {late.put} was attached to it at {late.revision}",
                [],
                lease=number,
                revision=late.revision,
            )


def _problem_of(ending: Ending) -> tuple[str, str] | None:
    gone = ", ".join(sorted(ending.deleted))
    if not ending.lease:
        return ATTACHED, f"{gone} was deleted at revision {ending.revision}, though it hung on no lease"
    if ending.left:
        left = ", ".join(sorted(ending.left))
        return SPLIT, (f"of lease {ending.lease}'s keys, {gone} went at revision {ending.revision} while {left} stayed")
    if ending.others and ending.lease > min(ending.others):
        others = ", ".join(map(str, sorted(ending.others)))
        return ATTACHED, f"revision {ending.revision} took {gone} of lease {ending.lease}, and keys of {others}, too"
    return None


def check_reads(gets: Sequence[Operation], truth: Truth, findings: Findings) -> int:
    """Hold every get against the state of its revision; how many could not be."""
    skipped = 0
    for operation in gets:
        completion = operation.completion
        if completion is None or completion.revision is None or completion.revision > truth.known:
            skipped += 1
            continue
        revision = completion.revision
        names = truth.names_at(revision)
        states = {name: truth.at(name, revision) for name in names}
        expected = {name: (state.value, state.lease) for name, state in states.items() if state is not None}
        shown = {name: (value, lease) for name, value, lease in completion.value}
        if shown == expected:
            continue
        differs = sorted(name for name in shown.keys() | expected.keys() if shown.get(name) != expected.get(name))
        only_leases = all((shown.get(name) or ("",))[0] == (expected.get(name) or (None,))[0] for name in differs)
        findings.add(
            ATTACHED if only_leases else READ,
            f"a get at revision {revision} shows {_told(shown, differs)}; the store has {_told(expected, differs)}",
            [operation],
            revision=revision,
        )
    return skipped


def _told(states: Mapping[str, tuple[str, int | None]], names: Sequence[str]) -> str:
    shown = [
        f"{name}={states[name][0]!r} on lease {states[name][1]}" if name in states else f"no {name}"
        for name in names[:4]
    ]
    return ", ".join(shown) + (" ..." if len(names) > 4 else "")


class AnswerRules:
    """Judges what a lease's own calls answered."""

    def __init__(
        self,
        truth: Truth,
        attachments: Attachments,
        timeline: Timeline,
        conditions: Conditions,
        findings: Findings,
    ) -> None:
        self._truth = truth
        self._attachments = attachments
        self._timeline = timeline
        self._conditions = conditions
        self._findings = findings

    def check(self, lease: Lease) -> None:
        """Judge a lease whose grant was acknowledged."""
        granted = lease.granted
        assert granted is not None
        if lease.ttl_s < granted.invoke.value[2]:
            self._tell_ttl(lease, granted, f"a TTL of {granted.invoke.value[2]} s was asked for, {lease.ttl_s} given")
        for renewal in lease.renewals:
            if renewal.ttl_s != lease.ttl_s:
                self._tell_ttl(lease, renewal.operation, f"a renewal gave it {renewal.ttl_s} s")
                break
        for revoke in lease.revokes:
            self._check_revoke(lease, revoke)
        for query in lease.queries:
            if query.output[1] > 0:
                self._check_time_left(lease, query)
                self._check_keys(lease, query)

    def _tell_ttl(self, lease: Lease, operation: Operation, what: str) -> None:
        self._findings.add(TTL, f"lease {lease.id} (granted {lease.ttl_s} s): {what}", [operation], lease=lease.id)

    def _check_revoke(self, lease: Lease, revoke: Operation) -> None:
        """The revision of the answer is no older than the revoke, so that none of the keys is there any more."""
        completion = revoke.completion
        if revoke.type != "ok" or completion is None or completion.time_ns > lease.reborn_ns:
            return
        revision = (completion.extra or {}).get("header") or 0
        left = self._attachments.at(lease.id, revision) if revision <= self._truth.known else None
        if left:
            self._findings.add(
                ATTACHED,
                f"lease {lease.id} was revoked by revision {revision}, but {', '.join(sorted(left))} still hung on it",
                [revoke],
                lease=lease.id,
                revision=revision,
            )

    def _check_time_left(self, lease: Lease, query: Operation) -> None:
        left_s, granted_s, _ = query.output
        completion = query.completion
        assert completion is not None
        if granted_s != lease.ttl_s:
            self._tell_ttl(lease, query, f"an answer says that {granted_s} s were granted")
        elif self._promises_too_much(query, left_s, granted_s):
            self._tell_ttl(lease, query, f"an answer says that {left_s} s are left")
        else:
            self._check_not_forgotten(lease, query, left_s, completion.time_ns)

    def _promises_too_much(self, query: Operation, left_s: int, granted_s: int) -> bool:
        """Whether more is left than a renewal, or a new leader, can have given, by a clock that may have lost time."""
        if left_s <= granted_s + ceil(self._conditions.election_s) - 1:
            return False
        completion = query.completion
        assert completion is not None
        lost_ms = self._conditions.clocks.lost_ms(query.invoke.time_ns - granted_s * _S, completion.time_ns)
        return lost_ms is not None and left_s > granted_s + ceil(self._conditions.election_s + lost_ms / 1e3) - 1

    def _check_not_forgotten(self, lease: Lease, query: Operation, left_s: int, completed_ns: int) -> None:
        """The time left, which is rounded down, covers what the grant and every renewal before the query have given."""
        invoked_ns = query.invoke.time_ns
        before_ns = self._conditions.trouble_began(invoked_ns, completed_ns)
        earliest_ns = lease.ran_low_ns(left_s, before_ns, may_infer=before_ns == invoked_ns)
        if earliest_ns < completed_ns:
            return
        renewed_ns = earliest_ns + (left_s + 1 - lease.ttl_s) * _S
        allowance = self._conditions.allowance(min(before_ns, renewed_ns), completed_ns)
        if allowance is not None and earliest_ns - allowance.total_ns >= completed_ns:
            early_s = (earliest_ns - completed_ns) / 1e9
            self._tell_ttl(
                lease, query, f"{left_s} s are left, {early_s:.1f} s before its renewals can have run so low"
            )

    def _check_keys(self, lease: Lease, query: Operation) -> None:
        completion = query.completion
        assert completion is not None
        began_ns = self._conditions.trouble_began(query.invoke.time_ns, completion.time_ns)
        first = self._timeline.newest_before(began_ns)
        last = self._timeline.last_possible_at(completion.time_ns)
        keys = frozenset(query.output[2])
        if last is None or self._attachments.may_be_seen(lease.id, keys, first, last):
            return
        should = self._attachments.at(lease.id, first)
        self._findings.add(
            ATTACHED,
            f"lease {lease.id} was said to have the keys {_names(keys)}; at no revision from {first} to {last} was "
            f"that so (at {first} it had {_names(should)})",
            [query],
            lease=lease.id,
            first_revision=first,
            last_revision=last,
        )


def _names(keys: frozenset[str]) -> str:
    return ", ".join(sorted(keys)) or "none"

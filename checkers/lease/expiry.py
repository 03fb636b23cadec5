"""When leases may not end, and what may not happen once they have.

Theory.  A lease lasts until (invocation of its last successful renewal + granted
TTL), unless a client asked to revoke it.  Its end is *seen* when a member told
the revision that deleted its keys, when a client saw such a revision, or when
a client was told that the lease is not there: later than it happened.  So an
end that was seen too early did come too early, however late anybody looked, and
whatever leaders came and went: a change of leaders only makes leases longer.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple

from splitvote.checkers.findings import Findings
from splitvote.checkers.lease.attachments import Attachments
from splitvote.checkers.lease.conditions import Conditions
from splitvote.checkers.lease.evidence import NEVER, QUERIES, Lease, Renewal, Sighting
from splitvote.checkers.lease.timeline import Timeline
from splitvote.harness.op import Operation

EARLY: Final = "lease: early expiry"
REFUSED: Final = "lease: refused while alive"
RENEWED: Final = "lease: renewed after revoke"
ANSWERED: Final = "lease: answered after revoke"
ATTACHED: Final = "lease: attachment"
TWICE: Final = "lease: granted twice"
UNBORN: Final = "lease: there before its grant"

_S: Final = 1_000_000_000


class End(NamedTuple):
    """A sign that the lease had ended by ``by_ns``.

    ``is_hard`` is when the store itself shows it, and not only some member's memory.
    """

    by_ns: int
    words: str
    is_hard: bool
    operation: Operation | None
    revision: int | None = None


class ExpiryRules:
    """Judges one lease after another."""

    def __init__(
        self, attachments: Attachments, timeline: Timeline, conditions: Conditions, findings: Findings
    ) -> None:
        self._attachments = attachments
        self._timeline = timeline
        self._conditions = conditions
        self._findings = findings
        self._deleted_at: dict[int, list[int]] = {}
        for ending in attachments.endings:
            self._deleted_at.setdefault(ending.lease, []).append(ending.revision)

    def check(self, lease: Lease) -> bool:
        """Judge a lease whose grant was acknowledged; whether it was seen to end before anybody asked for that."""
        ends = sorted(self._ends(lease), key=lambda end: end.by_ns)
        self._check_twice(lease)
        self._check_unborn(lease)
        self._check_revoked_twice(lease)
        for end in ends:
            if self._is_early(lease, end):
                break
        for end in ends:
            if self._leaves_keys(lease, end):
                break
        self._check_aftermath(lease, ends, hard=True)
        self._check_aftermath(lease, ends, hard=False)
        return bool(ends) and ends[0].by_ns < lease.asked_to_end_ns

    def _ends(self, lease: Lease) -> Iterator[End]:
        for revision in self._deleted_at.get(lease.id, ()):
            by_ns = self._timeline.seen_by(revision)
            if by_ns is not None and by_ns <= lease.reborn_ns:
                yield End(by_ns, f"its keys were deleted at revision {revision}", True, None, revision)
        for sighting in lease.sightings:
            if not sighting.is_alive and self._was_there_before(lease, sighting):
                what = f"a {sighting.operation.f} was told that it is not there"
                yield End(sighting.completed_ns, what, not sighting.is_local, sighting.operation)

    def _was_there_before(self, lease: Lease, sighting: Sighting) -> bool:
        """Whether the grant was complete, or the lease had been found, before anything that the sighting can be of."""
        before_ns = self._effective_ns(sighting)
        return any(renewal.completed_ns < before_ns for renewal in lease.renewals) or any(
            each.is_alive and each.completed_ns < before_ns for each in lease.sightings
        )

    def _effective_ns(self, sighting: Sighting) -> int:
        """What a sighting tells is not older than this."""
        if not sighting.is_local:
            return sighting.invoked_ns
        return self._conditions.trouble_began(sighting.invoked_ns, sighting.completed_ns)

    def _found_ns(self, lease: Lease, sighting: Sighting) -> int:
        """The lease was there at this time or later; a query is no older than the time left that it tells."""
        effective_ns = self._effective_ns(sighting)
        if effective_ns < sighting.invoked_ns or sighting.operation.f not in QUERIES:
            return effective_ns
        # A clock that gained time since the renewal makes little time left look late.
        since_ns = sighting.invoked_ns - lease.ttl_s * _S
        if self._conditions.clocks.gained_ms(since_ns, sighting.completed_ns) != 0.0:
            return effective_ns
        return max(effective_ns, lease.ran_low_ns(sighting.operation.output[0], effective_ns, may_infer=True))

    def _broken_promise(self, lease: Lease, by_ns: int) -> Renewal | None:
        """The renewal that an end by this time contradicts the most, beyond what is allowed; None if none does."""
        if lease.asked_to_end_ns <= by_ns:
            return None
        before = [renewal for renewal in lease.renewals if renewal.invoked_ns < by_ns]
        last = max(before, key=lambda renewal: renewal.lasts_until_ns, default=None)
        if last is None or last.lasts_until_ns <= by_ns:
            return None
        allowance = self._conditions.allowance(last.invoked_ns, by_ns)
        if allowance is None or last.lasts_until_ns - allowance.total_ns <= by_ns:
            self._findings.skipped += 1
            return None
        return last

    def _is_early(self, lease: Lease, end: End) -> bool:
        last = self._broken_promise(lease, end.by_ns)
        if last is None or (not end.is_hard and _is_alive_after(lease, end.by_ns)):
            return False
        allowance = self._conditions.allowance(last.invoked_ns, end.by_ns)
        assert allowance is not None
        early_ms = (last.lasts_until_ns - end.by_ns) / 1e6
        self._findings.add(
            EARLY,
            f"lease {lease.id} (TTL {last.ttl_s} s) was renewed at {_s(last.invoked_ns)} and nobody asked to revoke "
            f"it, but by {_s(end.by_ns)} {end.words}: {early_ms:.0f} ms too early at least",
            _in_order(last.operation, end.operation),
            lease=lease.id,
            ttl_s=last.ttl_s,
            renewed_ns=last.invoked_ns,
            seen_gone_ns=end.by_ns,
            early_ms=round(early_ms, 1),
            clock_allowance_ms=allowance.clock_ms,
            stall_allowance_ms=allowance.stall_ms,
            revision=end.revision,
        )
        return True

    def _leaves_keys(self, lease: Lease, end: End) -> bool:
        """A lease that is gone has no keys: not at the newest revision that there can have been then."""
        if lease.reborn_ns != NEVER:
            return False
        revision = self._timeline.last_possible_at(end.by_ns)
        left = None if revision is None else self._attachments.at(lease.id, revision)
        if revision is None or not left or (end.revision is not None and revision < end.revision):
            return False
        self._findings.add(
            ATTACHED,
            f"by {_s(end.by_ns)} {end.words}, but {', '.join(sorted(left))} still hung on lease {lease.id} at revision "
            f"{revision}, the newest that there can have been",
            _in_order(end.operation),
            lease=lease.id,
            revision=revision,
        )
        return True

    def _check_twice(self, lease: Lease) -> None:
        """A second grant of the same id that was acknowledged while the first was sure to last."""
        if len(lease.grants) < 2 or lease.grants[1].type != "ok":
            return
        again = lease.grants[1]
        assert again.completion is not None
        last = self._broken_promise(lease, again.completion.time_ns)
        if last is not None:
            self._findings.add(
                TWICE,
                f"lease {lease.id} was granted anew, though it was renewed at {_s(last.invoked_ns)} for {last.ttl_s} s "
                "and nobody asked to revoke it",
                _in_order(last.operation, again),
                lease=lease.id,
            )

    def _check_revoked_twice(self, lease: Lease) -> None:
        both = [
            revoke
            for revoke in lease.revokes
            if revoke.type == "ok" and revoke.completion is not None and revoke.completion.time_ns <= lease.reborn_ns
        ]
        if len(both) > 1:
            self._findings.add(
                ANSWERED, f"lease {lease.id} was revoked twice, each time with success", both, lease=lease.id
            )

    def _check_unborn(self, lease: Lease) -> None:
        """Nothing that was over before anybody asked for the lease can have found it."""
        asked_ns = lease.grants[0].invoke.time_ns
        found = [renewal.operation for renewal in lease.renewals if renewal.completed_ns < asked_ns]
        found += [each.operation for each in lease.sightings if each.is_alive and each.completed_ns < asked_ns]
        if found:
            self._findings.add(
                UNBORN,
                f"lease {lease.id} was found to be there before {_s(asked_ns)}, when it was first asked for",
                _in_order(found[0], lease.grants[0]),
                lease=lease.id,
            )

    def _check_aftermath(self, lease: Lease, ends: Sequence[End], *, hard: bool) -> None:
        """Nothing invoked after the end was seen finds the lease there."""
        gone = next((end for end in self._with_revokes(lease, ends) if end.is_hard is hard), None)
        if gone is None:
            return
        renewal = next((each for each in lease.renewals if each.invoked_ns > gone.by_ns), None)
        if renewal is not None:
            self._tell(RENEWED, lease, gone, "was renewed", renewal.operation)
        for sighting in lease.sightings:
            if sighting.is_alive and self._found_ns(lease, sighting) > gone.by_ns:
                f = sighting.operation.f
                self._tell(ATTACHED if f in ("put", "get") else ANSWERED, lease, gone, _FOUND[f], sighting.operation)
                break

    def _with_revokes(self, lease: Lease, ends: Sequence[End]) -> list[End]:
        revoked = [
            End(revoke.completion.time_ns, "its revoke was acknowledged", True, revoke)
            for revoke in lease.revokes
            if revoke.type == "ok" and revoke.completion is not None and revoke.completion.time_ns <= lease.reborn_ns
        ]
        return sorted([*ends, *revoked], key=lambda end: end.by_ns)

    def _tell(self, name: str, lease: Lease, gone: End, what: str, operation: Operation) -> None:
        found_ns = operation.invoke.time_ns
        story = f"by {_s(gone.by_ns)} {gone.words}, but lease {lease.id} {what} by a request of {_s(found_ns)}"
        self._findings.add(
            name if gone.is_hard else REFUSED,
            story,
            _in_order(gone.operation, operation),
            lease=lease.id,
            seen_gone_ns=gone.by_ns,
            revision=gone.revision,
        )


_FOUND: Final = {
    "put": "got a key",
    "get": "still had keys",
    "revoke": "was found to be there",
    "again": "was found to be there",
    "grant": "was found to be there",
    "ttl": "was answered for",
    "leftover": "was answered for",
}


def _is_alive_after(lease: Lease, by_ns: int) -> bool:
    return any(renewal.invoked_ns > by_ns for renewal in lease.renewals) or any(
        sighting.is_alive and sighting.invoked_ns > by_ns for sighting in lease.sightings
    )


def _in_order(*operations: Operation | None) -> list[Operation]:
    found = [operation for operation in operations if operation is not None]
    return sorted(found, key=lambda operation: operation.invoke.index)


def _s(time_ns: int) -> str:
    return f"{time_ns / 1e9:.3f} s"

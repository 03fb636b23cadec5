"""What a history says of each lease: grants, renewals, revokes, and who saw it alive or gone, with the times.

A renewal counts from its *invocation*: the member renewed the lease later than
that, and the lease lasts for the granted TTL from then.  Answers on a keepalive
stream carry no more than the lease's id; each is paired with the oldest request
of its stream that has no answer yet (SOUNDNESS 17), which is right where the
member answers in order, and otherwise errs towards an earlier invocation.
"""

from __future__ import annotations

import sys
from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

import msgspec

from splitvote.harness.op import Op, Operation

NEVER: Final = sys.maxsize
"""A time that does not come."""

_GRANTS: Final = ("grant", "again")
QUERIES: Final = ("ttl", "leftover")


class Renewal(msgspec.Struct, frozen=True, gc=False):
    """The lease lasts ``ttl_s`` from ``invoked_ns`` on, at least; a grant is one, too."""

    invoked_ns: int
    completed_ns: int
    ttl_s: int
    operation: Operation

    @property
    def lasts_until_ns(self) -> int:
        """Before this the lease must not end."""
        return self.invoked_ns + self.ttl_s * 1_000_000_000


class Sighting(msgspec.Struct, frozen=True, gc=False):
    """The lease was there, or gone, at some time of the operation.

    ``is_local`` is when whoever took itself for the leader said so from its own
    memory, and not the replicated store.
    """

    is_alive: bool
    invoked_ns: int
    completed_ns: int
    is_local: bool
    operation: Operation


@dataclass(slots=True)
class Lease:
    """Everything about one lease.

    ``revokes`` are those that may have happened, ``open_renewals_ns`` the ends of
    requests that may have renewed it without anybody knowing.  ``reborn_ns`` is
    when somebody asked for its id anew who may have got it: what comes later
    may be about another lease.
    """

    id: int
    grants: list[Operation] = field(default_factory=list)
    renewals: list[Renewal] = field(default_factory=list)
    sightings: list[Sighting] = field(default_factory=list)
    revokes: list[Operation] = field(default_factory=list)
    queries: list[Operation] = field(default_factory=list)
    open_renewals_ns: list[int] = field(default_factory=list)
    reborn_ns: int = NEVER

    @property
    def granted(self) -> Operation | None:
        """The grant, if the first that may have happened is known to have."""
        first = self.grants[0] if self.grants else None
        return first if first is not None and first.type == "ok" else None

    @property
    def ttl_s(self) -> int:
        """The granted TTL."""
        return 0 if self.granted is None else int(self.granted.output)

    @property
    def asked_to_end_ns(self) -> int:
        """The first time that a client asked to revoke it."""
        return min((revoke.invoke.time_ns for revoke in self.revokes), default=NEVER)

    def ran_low_ns(self, left_s: int, before_ns: int, *, may_infer: bool) -> int:
        """When there can first have been so little left, with the grant and the renewals complete before a time.

        If that is later than the time itself, renewals that were complete by then have counted, too.
        """
        while True:
            counted = (r for r in self.renewals if r.completed_ns < before_ns or r.operation is self.granted)
            until_ns = max((renewal.lasts_until_ns for renewal in counted), default=0)
            earliest_ns = until_ns - (left_s + 1) * 1_000_000_000
            if not may_infer or earliest_ns <= before_ns:
                return earliest_ns
            before_ns = earliest_ns


def leases_of(
    operations: Iterable[Operation], events: Mapping[int, Sequence[Op]], placed: Container[str]
) -> dict[int, Lease]:
    """Every lease that the operations name, by id.

    ``events`` are the streams', by their operation's index; ``placed`` are the
    values that the store had at some time, so that their puts happened.
    """
    leases: dict[int, Lease] = {}
    for operation in operations:
        if operation.f == "get":
            for number in dict.fromkeys(row[2] for row in operation.output) if operation.type == "ok" else ():
                if number:
                    lease = leases.setdefault(number, Lease(number))
                    lease.sightings.append(_seen(operation, is_alive=True, is_local=False))
        elif operation.key is not None:
            lease = leases.setdefault(operation.key, Lease(operation.key))
            _note(lease, operation, events.get(operation.invoke.index, ()))
            if operation.f == "put" and operation.type == "info" and operation.invoke.value[2] in placed:
                lease.sightings.append(Sighting(True, operation.invoke.time_ns, NEVER, False, operation))
    for lease in leases.values():
        if len(lease.grants) > 1:
            lease.reborn_ns = lease.grants[1].invoke.time_ns
        lease.renewals = [each for each in lease.renewals if each.completed_ns <= lease.reborn_ns]
        lease.sightings = [each for each in lease.sightings if each.completed_ns <= lease.reborn_ns]
        lease.queries = [each for each in lease.queries if _ended_ns(each) <= lease.reborn_ns]
    return leases


def _note(lease: Lease, operation: Operation, events: Sequence[Op]) -> None:
    f, is_ok = operation.f, operation.type == "ok"
    if f == "stream":
        _note_stream(lease, operation, events)
        return
    if f in _GRANTS and operation.type != "fail":
        lease.grants.append(operation)
    if f == "revoke" and operation.type != "fail":
        lease.revokes.append(operation)
    if f == "keepalive" and operation.type == "info":
        lease.open_renewals_ns.append(_ended_ns(operation))
    if is_ok and (f == "keepalive" or (f in _GRANTS and len(lease.grants) == 1)):
        lease.renewals.append(_renewal(operation, int(operation.output)))
    if f in QUERIES and is_ok:
        lease.queries.append(operation)
    sighting = _sighting(operation)
    if sighting is not None:
        lease.sightings.append(sighting)


def _note_stream(lease: Lease, operation: Operation, events: Sequence[Op]) -> None:
    waiting: list[Op] = []
    for event in events:
        if event.value[0] == "ask":
            waiting.append(event)
        elif waiting:
            pair = Operation(waiting.pop(0), event)
            if event.value[1] > 0:
                lease.renewals.append(_renewal(pair, event.value[1]))
            else:
                lease.sightings.append(_seen(pair, is_alive=False, is_local=True))
    if waiting:
        lease.open_renewals_ns.append(_ended_ns(operation))


def _renewal(operation: Operation, ttl_s: int) -> Renewal:
    return Renewal(operation.invoke.time_ns, _ended_ns(operation), ttl_s, operation)


def _seen(operation: Operation, *, is_alive: bool, is_local: bool) -> Sighting:
    return Sighting(is_alive, operation.invoke.time_ns, _ended_ns(operation), is_local, operation)


def _sighting(operation: Operation) -> Sighting | None:
    f, error = operation.f, (operation.completion.error or "") if operation.completion else ""
    if operation.type == "fail":
        if error.startswith("lease-not-found"):
            return _seen(operation, is_alive=False, is_local=f == "keepalive")
        if error.startswith("lease-exists"):
            return _seen(operation, is_alive=True, is_local=False)
    elif operation.type == "ok" and f in QUERIES:
        return _seen(operation, is_alive=operation.output[1] > 0, is_local=True)
    elif operation.type == "ok" and f in ("put", "revoke"):  # a lease that is gone is refused to both
        return _seen(operation, is_alive=True, is_local=False)
    return None


def _ended_ns(operation: Operation) -> int:
    return NEVER if operation.completion is None else operation.completion.time_ns

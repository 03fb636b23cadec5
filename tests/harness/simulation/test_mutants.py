"""Mutants of the machine and the services: each differs where it is meant to, counts that, and is silent elsewhere.

Those of raft and the server are exercised by whole clusters (`splitvote exam`).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Final

import pytest

from splitvote.harness import clock
from splitvote.harness.errors import ConfigError, TransportError
from splitvote.harness.etcd import methods as m
from splitvote.harness.etcd.stubs import rpc_pb2 as pb
from splitvote.harness.listing import listing
from splitvote.harness.simulation.mutants import MUTANTS, Mutants
from splitvote.harness.simulation.watch import CHANNEL
from splitvote.nemesis import FAMILIES
from splitvote.workloads import NAMES
from tests.harness.simulation.member import Member

Body = Callable[[Member], Awaitable[Any]]


def put(key: bytes, value: bytes = b"v", lease: int = 0) -> pb.PutRequest:
    return pb.PutRequest(key=key, value=value, lease=lease)


def delete(key: bytes) -> pb.DeleteRangeRequest:
    return pb.DeleteRangeRequest(key=key)


def grant(lease: int, ttl_s: int = 60) -> pb.LeaseGrantRequest:
    return pb.LeaseGrantRequest(ID=lease, TTL=ttl_s)


def do(member: Member, *requests: Any) -> None:
    for request in requests:
        member.answer(request)


def states(member: Member) -> list[tuple[bytes, bytes, int, int, int]]:
    found = member.machine.store.range(b"\0", b"\0")
    return [(kv.key, kv.value, kv.create_revision, kv.mod_revision, kv.version) for kv in found]


def restarted(member: Member) -> Member:
    """The member after a crash."""
    member.end()
    return Member(member.backend, mutants=member.mutants)


async def told(member: Member, *requests: Any, before: tuple[Any, ...] = (), **create: Any) -> list[Any]:
    """What a watch is told of some requests: an answer a list of (revision, is a deletion, previous value)."""
    do(member, *before)
    stream = await member.rpc.stream(m.WATCH)
    create = {"key": b"\0", "range_end": b"\0", **create}
    await stream.send(pb.WatchRequest(create_request=pb.WatchCreateRequest(**create)))
    await stream.receive()
    do(member, *requests)
    await member.clock.sleep(0.5)
    return [
        [(event.kv.mod_revision, event.type == pb.Event.DELETE, event.prev_kv.value) for event in answer.events]
        for answer in stream._answers  # type: ignore[attr-defined]
    ]


# ---- one scene a mutant, and one in which nothing is to be seen


async def overwritten_at_once(member: Member) -> Any:
    do(member, put(b"a", b"1"), put(b"a", b"2"))
    return states(member)


async def overwritten_later(member: Member) -> Any:
    do(member, put(b"a", b"1"), put(b"b"), put(b"a", b"2"))
    return states(member)


async def created_again(member: Member) -> Any:
    do(member, put(b"a"), put(b"a"), delete(b"a"), put(b"a"))
    return states(member)


async def compacted_at_a_deletion(member: Member) -> Any:
    do(member, put(b"a"), delete(b"a"), pb.CompactionRequest(revision=3))
    return await told(member, start_revision=3)


async def compacted_after_a_deletion(member: Member) -> Any:
    do(member, put(b"a"), delete(b"a"), put(b"b"), pb.CompactionRequest(revision=4))
    return await told(member, start_revision=4)


async def compacted_at_a_creation(member: Member) -> Any:
    do(member, put(b"a"), pb.CompactionRequest(revision=2))
    return states(member)


async def a_transaction_is_watched(member: Member) -> Any:
    ops = [pb.RequestOp(request_put=put(key)) for key in (b"a", b"b")]
    return await told(member, pb.TxnRequest(success=ops))


async def single_puts_are_watched(member: Member) -> Any:
    return await told(member, put(b"a"), put(b"b"))


async def more_than_the_channel_takes(member: Member) -> Any:
    return await told(member, *(put(b"a") for _ in range(CHANNEL + 20)))


async def progress_while_behind(member: Member) -> Any:
    do(member, put(b"a"))
    stream = member.machine.watches.stream()
    stream.watch(1, b"a", b"", 1)
    stream.report_all_progress()
    return stream.pop()


async def progress_at_the_head(member: Member) -> Any:
    stream = member.machine.watches.stream()
    stream.watch(1, b"a", b"", 0)
    stream.report_all_progress()
    return stream.pop()


async def filtered_in_the_past(member: Member) -> Any:
    return await told(member, before=(put(b"a"), delete(b"a")), start_revision=1, filters=[0])


async def filtered_now(member: Member) -> Any:
    return await told(member, put(b"a"), delete(b"a"), filters=[0])


async def previous_of_the_past(member: Member) -> Any:
    before = (put(b"a", b"1"), put(b"a", b"2"), put(b"a", b"3"))
    return await told(member, before=before, start_revision=3, prev_kv=True)


async def previous_now(member: Member) -> Any:
    return await told(member, put(b"a", b"1"), put(b"a", b"2"), prev_kv=True)


async def watched_over_a_snapshot(member: Member) -> Any:
    leader = Member()
    stream = member.machine.watches.stream()
    stream.watch(1, b"a", b"", 0)
    for one in (member, leader):
        do(one, put(b"a"), put(b"a"))
    do(leader, put(b"a"))
    member.machine.restore(leader.machine.snapshot())
    await member.clock.sleep(0.2)
    leader.end()
    seen = []
    while (answer := stream.pop()) is not None:
        seen += [record.main for record in answer.records]
    return seen


async def leases_over_a_snapshot(member: Member) -> Any:
    leader = Member()
    do(leader, grant(1), put(b"a", lease=1))
    member.machine.restore(leader.machine.snapshot())
    leader.end()
    return member.machine.lessor.get(1) is not None


async def a_snapshot_without_leases(member: Member) -> Any:
    leader = Member()
    do(leader, put(b"a"))
    member.machine.restore(leader.machine.snapshot())
    leader.end()
    return states(member)


async def a_crash_after_a_deletion(member: Member) -> Any:
    do(member, put(b"a"), put(b"b"), delete(b"a"))
    member.machine.commit()
    return restarted(member).machine.revision


async def a_crash_after_a_put(member: Member) -> Any:
    do(member, put(b"a"), delete(b"a"), put(b"b"))
    member.machine.commit()
    return restarted(member).machine.revision


async def a_crash_with_leased_keys(member: Member) -> Any:
    do(member, grant(1), put(b"a", lease=1))
    member.machine.commit()
    lease = restarted(member).machine.lessor.get(1)
    assert lease is not None
    return list(lease.keys)


async def entries_come_again(member: Member) -> Any:
    from splitvote.harness.simulation.interface import Command

    do(member, put(b"a"))
    member.machine.apply(1, Command(1, put(b"a")))
    return states(member)


async def a_crash_before_the_commit(member: Member) -> Any:
    do(member, put(b"a"))
    member.machine.commit()
    do(member, put(b"b"))
    return restarted(member).machine.consistent_index


async def a_crash_after_the_commit(member: Member) -> Any:
    do(member, put(b"a"))
    member.machine.commit()
    return restarted(member).machine.consistent_index


async def a_range_of_the_compacted(member: Member) -> Any:
    """On a member that does not answer the client."""
    member.is_awaited = False
    do(member, put(b"a"), put(b"a"), pb.CompactionRequest(revision=3))
    ops = [pb.RequestOp(request_put=put(b"b")), pb.RequestOp(request_range=pb.RangeRequest(key=b"a", revision=2))]
    member.do(pb.TxnRequest(success=ops))
    return states(member)


async def the_same_where_the_client_waits(member: Member) -> Any:
    do(member, put(b"a"), put(b"a"), pb.CompactionRequest(revision=3))
    ops = [pb.RequestOp(request_put=put(b"b")), pb.RequestOp(request_range=pb.RangeRequest(key=b"a", revision=2))]
    member.do(pb.TxnRequest(success=ops))
    return states(member)


def a_cas() -> pb.TxnRequest:
    compare = pb.Compare(key=b"a", target=pb.Compare.VALUE, value=b"old")
    return pb.TxnRequest(compare=[compare], success=[pb.RequestOp(request_put=put(b"a", b"new"))])


async def overtaken_on_its_way(member: Member) -> Any:
    do(member, put(b"a", b"old"))
    propose = member.propose

    async def behind_another(request: Any) -> Any:
        do(member, put(b"a", b"other"))
        return await propose(request)

    member.propose = behind_another  # type: ignore[method-assign]
    await member.rpc.unary(m.TXN, a_cas(), timeout_s=1)
    return states(member)


async def alone_on_its_way(member: Member) -> Any:
    do(member, put(b"a", b"old"))
    await member.rpc.unary(m.TXN, a_cas(), timeout_s=1)
    return states(member)


async def promoted_long_after_the_grant(member: Member) -> Any:
    do(member, grant(1, 5))
    await member.clock.sleep(4)
    assert await member.machine.lessor.renew(1) == 5
    member.machine.demote_lessor()
    member.machine.promote_lessor(1.0)
    await member.clock.sleep(3)
    return member.machine.lessor.get(1) is not None


async def a_lease_with_two_keys_ends(member: Member) -> Any:
    do(member, grant(1), put(b"a", lease=1), put(b"b", lease=1), pb.LeaseRevokeRequest(ID=1))
    return [record.main for record in member.backend.records]


async def a_lease_with_one_key_ends(member: Member) -> Any:
    do(member, grant(1), put(b"a", lease=1), pb.LeaseRevokeRequest(ID=1))
    return [record.main for record in member.backend.records]


async def renewed_after_its_end(member: Member) -> Any:
    do(member, grant(1), pb.LeaseRevokeRequest(ID=1))
    try:
        return await member.machine.lessor.renew(1)
    except TransportError as refusal:
        return refusal.message


async def renewed_before_its_grant(member: Member) -> Any:
    try:
        return await member.machine.lessor.renew(1)
    except TransportError as refusal:
        return refusal.message


def nearest_older(created: int) -> pb.RangeRequest:
    return pb.RangeRequest(
        key=b"e/",
        range_end=b"e0",
        limit=1,
        sort_order=pb.RangeRequest.DESCEND,
        sort_target=pb.RangeRequest.CREATE,
        max_create_revision=created - 1,
    )


async def one_after_the_other(member: Member) -> Any:
    do(member, put(b"e/1"), put(b"e/2"))
    return [kv.key for kv in member.answer(nearest_older(3)).kvs]


async def with_something_between(member: Member) -> Any:
    do(member, put(b"e/1"), put(b"a"), put(b"e/2"))
    return [kv.key for kv in member.answer(nearest_older(4)).kvs]


def oldest() -> pb.RangeRequest:
    return pb.RangeRequest(key=b"e/", range_end=b"e0", limit=1, sort_order=1, sort_target=pb.RangeRequest.CREATE)  # type: ignore[arg-type]


async def just_deposed(member: Member) -> Any:
    do(member, put(b"e/1"), put(b"e/2"), delete(b"e/1"))
    return [kv.key for kv in member.answer(oldest()).kvs]


async def deposed_a_while_ago(member: Member) -> Any:
    do(member, put(b"e/1"), put(b"e/2"), delete(b"e/1"), put(b"a"))
    return [kv.key for kv in member.answer(oldest()).kvs]


def guarded(created: int) -> pb.TxnRequest:
    compare = pb.Compare(key=b"e/1", target=pb.Compare.CREATE, create_revision=created)
    return pb.TxnRequest(compare=[compare], success=[pb.RequestOp(request_put=put(b"e/1", b"x"))])


async def proclaimed_when_deposed(member: Member) -> Any:
    do(member, put(b"e/1"), delete(b"e/1"))
    return member.answer(guarded(2)).succeeded


async def proclaimed_by_the_leader(member: Member) -> Any:
    do(member, put(b"e/1"))
    return member.answer(guarded(2)).succeeded, member.answer(guarded(3)).succeeded


async def unlocked_when_lost(member: Member) -> Any:
    do(member, put(b"l/2"), delete(b"l/1"))
    return states(member)


async def unlocked_by_the_holder(member: Member) -> Any:
    do(member, put(b"l/1"), put(b"l/2"), delete(b"l/1"), delete(b"other"))
    return states(member)


@dataclass(frozen=True, slots=True)
class Scene:
    """Where a mutant shows, and where it does not though much is the same."""

    shows: Body
    silent: Body


SCENES: Final = {
    "lost-update": Scene(overwritten_at_once, overwritten_later),
    "create-revision-kept": Scene(created_again, overwritten_later),
    "version-not-reset": Scene(created_again, overwritten_later),
    "compaction-drops-tombstone": Scene(compacted_at_a_deletion, compacted_after_a_deletion),
    "compaction-removes-live-keys": Scene(compacted_at_a_creation, compacted_at_a_deletion),
    "watch-splits-transaction": Scene(a_transaction_is_watched, single_puts_are_watched),
    "full-channel-drops-events": Scene(more_than_the_channel_takes, single_puts_are_watched),
    "progress-ahead-of-events": Scene(progress_while_behind, progress_at_the_head),
    "filter-ignored": Scene(filtered_in_the_past, filtered_now),
    "previous-state-from-wrong-revision": Scene(previous_of_the_past, previous_now),
    "watch-restored-without-min-revision": Scene(watched_over_a_snapshot, a_transaction_is_watched),
    "snapshot-loses-leases": Scene(leases_over_a_snapshot, a_snapshot_without_leases),
    "revision-falls-after-crash": Scene(a_crash_after_a_deletion, a_crash_after_a_put),
    "restart-forgets-attachments": Scene(a_crash_with_leased_keys, a_crash_after_a_put),
    "reapply-after-restart": Scene(entries_come_again, overwritten_later),
    "consistent-index-ahead-of-data": Scene(a_crash_before_the_commit, a_crash_after_the_commit),
    "ranges-stripped-from-transactions": Scene(a_range_of_the_compacted, the_same_where_the_client_waits),
    "compare-on-stale-view": Scene(overtaken_on_its_way, alone_on_its_way),
    "promote-without-extension": Scene(promoted_long_after_the_grant, a_lease_with_one_key_ends),
    "lease-keys-at-different-revisions": Scene(a_lease_with_two_keys_ends, a_lease_with_one_key_ends),
    "keepalive-renews-revoked-lease": Scene(renewed_after_its_end, renewed_before_its_grant),
    "campaign-ignores-predecessor": Scene(one_after_the_other, with_something_between),
    "observe-reports-deposed-leader": Scene(just_deposed, deposed_a_while_ago),
    "proclaim-unguarded": Scene(proclaimed_when_deposed, proclaimed_by_the_leader),
    "unlock-by-non-holder": Scene(unlocked_when_lost, unlocked_by_the_holder),
}

OF_CLUSTERS: Final = {
    "read-without-read-index",
    "read-index-before-first-commit",
    "ack-before-fsync",
    "ack-before-commit",
    "two-votes-in-one-term",
    "commit-by-counting-in-an-old-term",
    "duplicated-message-applied-twice",
    "stale-leader-revokes-lease",
}


def seen(body: Body, *mutants: str) -> tuple[Any, int]:
    """What a scene comes to, and how often the mutants fired."""

    async def go() -> tuple[Any, int]:
        member = Member(mutants=Mutants(mutants))
        try:
            return await body(member), sum(member.mutants.fired.values())
        finally:
            member.end()

    return clock.run(go())


@pytest.mark.parametrize("name", SCENES)
def test_a_mutant_shows_where_it_is_meant_to_and_counts_it(name: str) -> None:
    sound, _ = seen(SCENES[name].shows)
    broken, fired = seen(SCENES[name].shows, name)
    assert broken != sound
    assert fired > 0


@pytest.mark.parametrize("name", SCENES)
def test_a_mutant_is_silent_elsewhere(name: str) -> None:
    """Same results, and nothing counted."""
    assert seen(SCENES[name].silent, name) == (seen(SCENES[name].silent)[0], 0)


def test_every_mutant_is_exercised_here_or_by_clusters() -> None:
    assert SCENES.keys() | OF_CLUSTERS == MUTANTS.keys()
    assert len(MUTANTS) >= 30


def test_every_mutant_names_what_it_breaks_and_who_is_to_find_it() -> None:
    """Workloads that there are; families of faults that there are, or are of simulated disks and packets."""
    for mutant in MUTANTS.values():
        assert mutant.breaks
        assert set(mutant.workloads) <= set(NAMES)
        assert set(mutant.needs) <= {*FAMILIES, "disk", "packet"}


def test_mutants_are_listed_with_what_they_break() -> None:
    (text,) = listing("mutants")
    for mutant in MUTANTS.values():
        assert mutant.name in text
        assert mutant.breaks in text


def test_a_name_that_there_is_not_is_refused_with_the_nearest() -> None:
    with pytest.raises(ConfigError, match="unknown mutant 'filter-ignore'; did you mean 'filter-ignored'"):
        Mutants(["filter-ignore"])

"""The machine: revisions, transactions, compaction, hashes, and what survives a process."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from splitvote.harness import clock
from splitvote.harness.errors import TransportError
from splitvote.harness.etcd.stubs import rpc_pb2 as pb
from splitvote.harness.simulation.interface import Command
from splitvote.harness.simulation.mvcc import Backend, MachineOptions
from tests.harness.simulation.member import Member

ALL = {"key": b"\0", "range_end": b"\0"}


def on(body: Callable[[Member], Any]) -> Any:
    """Run a body on a fresh member, in virtual time."""

    async def go() -> Any:
        return body(Member())

    return clock.run(go())


def put(key: bytes, value: bytes = b"v", **more: Any) -> pb.PutRequest:
    return pb.PutRequest(key=key, value=value, **more)


def state(member: Member, key: bytes, revision: int = 0) -> tuple[bytes, int, int, int] | None:
    """A key's value, create and mod revision and version."""
    found = member.machine.store.range(key, b"", revision)
    return (found[0].value, found[0].create_revision, found[0].mod_revision, found[0].version) if found else None


def test_a_key_counts_its_versions_from_its_creation() -> None:
    """Version and create revision begin anew after a deletion, every write takes the next revision."""

    def body(member: Member) -> None:
        assert [member.answer(put(b"a", value)).header.revision for value in (b"1", b"2")] == [2, 3]
        assert state(member, b"a") == (b"2", 2, 3, 2)
        assert member.answer(pb.DeleteRangeRequest(key=b"a")).deleted == 1
        assert state(member, b"a") is None
        member.do(put(b"a", b"3"))
        assert state(member, b"a") == (b"3", 5, 5, 1)
        assert state(member, b"a", revision=3) == (b"2", 2, 3, 2)
        assert state(member, b"a", revision=4) is None

    on(body)


def test_what_changes_nothing_takes_no_revision() -> None:
    """A deletion of nothing, and a transaction without a write in the branch that is taken."""

    def body(member: Member) -> None:
        member.do(put(b"a"))
        assert member.answer(pb.DeleteRangeRequest(key=b"b")).header.revision == 2
        txn = pb.TxnRequest(
            compare=[pb.Compare(key=b"a", target=pb.Compare.VERSION, version=9)],
            success=[pb.RequestOp(request_put=put(b"a"))],
        )
        answer = member.answer(txn)
        assert (answer.succeeded, answer.header.revision, member.machine.revision) == (False, 2, 2)

    on(body)


def test_a_transaction_is_one_revision_and_reads_its_own_writes() -> None:
    """Its comparisons, also the nested ones, are decided on the state before it."""

    def body(member: Member) -> None:
        member.do(put(b"a", b"old"))
        inner = pb.TxnRequest(
            compare=[pb.Compare(key=b"a", target=pb.Compare.VALUE, value=b"old")],
            success=[pb.RequestOp(request_delete_range=pb.DeleteRangeRequest(key=b"c", range_end=b"d"))],
        )
        ops = [
            pb.RequestOp(request_put=put(b"a", b"new")),
            pb.RequestOp(request_put=put(b"b", b"new")),
            pb.RequestOp(request_txn=inner),
            pb.RequestOp(request_range=pb.RangeRequest(**ALL)),
        ]
        answer = member.answer(pb.TxnRequest(success=ops))
        assert answer.responses[2].response_txn.succeeded
        read = answer.responses[3].response_range
        assert [(kv.key, kv.value, kv.mod_revision) for kv in read.kvs] == [(b"a", b"new", 3), (b"b", b"new", 3)]
        assert answer.header.revision == member.machine.revision == 3
        assert [record.sub for record in member.backend.records if record.main == 3] == [0, 1]

    on(body)


def test_a_refused_transaction_changes_nothing() -> None:
    """What could refuse is looked for before anything is done."""

    def body(member: Member) -> None:
        ops = [
            pb.RequestOp(request_put=put(b"a")),
            pb.RequestOp(request_put=put(b"b", lease=4711)),
        ]
        with pytest.raises(TransportError, match="requested lease not found"):
            member.answer(pb.TxnRequest(success=ops))
        ops[1] = pb.RequestOp(request_range=pb.RangeRequest(key=b"b", revision=2))
        with pytest.raises(TransportError, match="future revision"):
            member.answer(pb.TxnRequest(success=ops))
        assert member.machine.revision == 1
        assert state(member, b"a") is None

    on(body)


def test_compaction_keeps_what_can_still_be_asked_for() -> None:
    """The last state up to it, and a deletion at it; what is older is refused, and so is doing it twice."""

    def body(member: Member) -> None:
        for value in (b"1", b"2"):
            member.do(put(b"kept", value))
        member.do(put(b"gone"))
        member.do(pb.DeleteRangeRequest(key=b"gone"))
        member.do(put(b"going"))
        member.do(pb.DeleteRangeRequest(key=b"going"))
        member.answer(pb.CompactionRequest(revision=7))
        assert [(record.main, record.kv.key, record.is_deletion) for record in member.backend.records] == [
            (3, b"kept", False),
            (7, b"going", True),
        ]
        assert state(member, b"kept", revision=7) == (b"2", 2, 3, 2)
        for refused in (pb.RangeRequest(key=b"kept", revision=6), pb.CompactionRequest(revision=7)):
            with pytest.raises(TransportError, match="has been compacted"):
                member.answer(refused)
        with pytest.raises(TransportError, match="is a future revision"):
            member.answer(pb.CompactionRequest(revision=8))
        member.do(put(b"kept", b"3"))
        assert state(member, b"kept") == (b"3", 2, 8, 3)

    on(body)


def test_members_that_agree_hash_alike_and_others_do_not() -> None:
    """At one revision, whatever came later, and again after a snapshot; not where a single value differs."""

    def body(member: Member) -> None:
        other = Member()
        for one in (member, other):
            one.do(put(b"a"))
            one.do(put(b"b"))
        assert member.machine.hash_kv(0) == other.machine.hash_kv(3)
        member.do(put(b"c"))
        assert member.machine.hash_kv(3) == other.machine.hash_kv(3)
        assert member.machine.hash_kv(0) != other.machine.hash_kv(0)
        other.do(put(b"c", b"another"))
        assert member.machine.hash_kv(4) != other.machine.hash_kv(4)
        other.machine.restore(member.machine.snapshot())
        assert member.machine.hash_kv(4) == other.machine.hash_kv(4)

    on(body)


def test_an_entry_is_applied_once_however_often_it_comes() -> None:
    """After a restart, what the backend has already counts for nothing; what it lost is applied again."""

    def body(member: Member) -> None:
        commands = [Command(index, put(b"a", b"%d" % index)) for index in range(1, 6)]
        for index, command in enumerate(commands, 1):
            member.machine.apply(index, command)
            if index == 3:
                member.machine.commit()
        before = state(member, b"a"), member.machine.hash_kv(0)
        member.end()
        restarted = Member(member.backend)
        assert (restarted.machine.consistent_index, restarted.machine.revision) == (3, 4)
        outcomes = [restarted.machine.apply(index, command) for index, command in enumerate(commands, 1)]
        assert [outcome is None for outcome in outcomes] == [True] * 3 + [False] * 2, "nobody is answered twice"
        assert (state(restarted, b"a"), restarted.machine.hash_kv(0)) == before

    on(body)


def test_a_crash_takes_what_was_not_committed_and_no_more() -> None:
    """Keys, leases and alarms alike; what compaction removed stays removed."""

    def body(member: Member) -> None:
        member.do(pb.LeaseGrantRequest(ID=1, TTL=60))
        member.do(put(b"a", b"1", lease=1))
        member.do(put(b"a", b"2", lease=1))
        member.do(pb.CompactionRequest(revision=3))
        durable = member.backend.snapshot()
        member.do(pb.LeaseRevokeRequest(ID=1))
        member.do(pb.LeaseGrantRequest(ID=2, TTL=60))
        member.do(pb.AlarmRequest(action=pb.AlarmRequest.ACTIVATE, memberID=1, alarm=pb.NOSPACE))
        member.end()
        assert member.backend.snapshot() == durable
        restarted = Member(member.backend)
        assert state(restarted, b"a") == (b"2", 2, 3, 2)
        lease = restarted.machine.lessor.get(1)
        assert lease is not None
        assert list(lease.keys) == [b"a"]

    on(body)


def test_a_snapshot_is_everything_and_stays_as_it_was() -> None:
    """What the sender does afterwards does not show in it; the receiver goes on from it."""

    def body(member: Member) -> None:
        member.do(pb.LeaseGrantRequest(ID=1, TTL=60))
        member.do(put(b"a", b"1", lease=1))
        snapshot = member.machine.snapshot()
        member.do(put(b"a", b"2"))
        other = Member(Backend())
        other.do(put(b"z"))
        other.machine.restore(snapshot)
        assert other.machine.consistent_index == snapshot.index == 2
        assert [kv.key for kv in other.machine.store.range(b"\0", b"\0")] == [b"a"]
        other.committed_index = 2
        assert state(other, b"a") == (b"1", 2, 2, 1)
        other.do(pb.LeaseRevokeRequest(ID=1))
        assert state(other, b"a") is None

    on(body)


def test_a_full_database_refuses_puts_until_the_alarm_is_disarmed() -> None:
    """Under NOSPACE what needs room is refused, deletions are not; under CORRUPT everything is."""

    def body(member: Member) -> None:
        alarm = pb.AlarmRequest(action=pb.AlarmRequest.ACTIVATE, memberID=7, alarm=pb.NOSPACE)
        member.do(put(b"a"))
        assert [told.memberID for told in member.answer(alarm).alarms] == [7]
        for refused in (
            put(b"a"),
            pb.LeaseGrantRequest(ID=1, TTL=9),
            pb.TxnRequest(success=[pb.RequestOp(request_put=put(b"a"))]),
        ):
            with pytest.raises(TransportError, match="database space exceeded"):
                member.answer(refused)
        assert member.answer(pb.DeleteRangeRequest(key=b"a")).deleted == 1
        corrupt = pb.AlarmRequest(action=pb.AlarmRequest.ACTIVATE, memberID=7, alarm=pb.CORRUPT)
        member.do(corrupt)
        with pytest.raises(TransportError, match="corrupt cluster"):
            member.answer(pb.DeleteRangeRequest(key=b"a"))
        for raised in (alarm, corrupt):
            raised = pb.AlarmRequest(action=pb.AlarmRequest.DEACTIVATE, memberID=7, alarm=raised.alarm)
            member.do(raised)
        assert member.answer(put(b"a")).header.revision == 4

    on(body)


def test_the_size_grows_with_data_and_shrinks_by_defragmentation_only() -> None:
    def body(member: Member) -> None:
        for number in range(50):
            member.do(put(b"a", b"%d" % number * 100))
        full_bytes = member.backend.size_bytes
        member.do(pb.CompactionRequest(revision=member.machine.revision))
        assert member.backend.size_bytes == full_bytes > 10 * member.backend.used_bytes
        member.backend.defragment()
        assert member.backend.size_bytes == member.backend.used_bytes

    on(body)


def test_the_periodic_compactor_asks_only_while_this_member_leads() -> None:
    """It keeps so many revisions, and asks again where there are new ones."""

    async def body() -> None:
        member = Member(options=MachineOptions(keep_revisions=10))
        for _ in range(30):
            member.do(put(b"a"))
        member.machine.pause_compactor()
        await member.clock.sleep(301)
        assert member.machine.store.compacted == -1
        member.machine.resume_compactor()
        await member.clock.sleep(300)
        assert member.machine.store.compacted == 21
        member.end()

    clock.run(body())

"""A store that others use, too: below our prefix every call works as in a store of our own, and nothing else is met."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import pytest
from google.protobuf.descriptor import Descriptor, FieldDescriptor

from splitvote.harness.archive import Archive, ArchiveRecord, archive_of
from splitvote.harness.errors import ConfigError, TransportError
from splitvote.harness.etcd import keyspace
from splitvote.harness.etcd import methods as m
from splitvote.harness.etcd.archivist import MARKER_KEY, EtcdArchivist
from splitvote.harness.etcd.keyspace import PrefixedRpc, end_of
from splitvote.harness.etcd.outcomes import classify
from splitvote.harness.etcd.rpc import Rpc
from splitvote.harness.etcd.stubs import election_pb2, lock_pb2
from splitvote.harness.etcd.stubs import rpc_pb2 as pb
from splitvote.harness.jsonl import JsonLinesWriter, read_all
from splitvote.harness.simulation.cluster import SimulatedCluster
from tests.harness.simulation.scenes import on_cluster, ready

PREFIX = b"splitvote/run-1/"
BOUND_S = 10.0


def on_store(body: Any) -> None:
    """Run ``body(outside, inside)`` on a simulated store with keys of somebody else's around the prefix."""

    async def scene(cluster: SimulatedCluster) -> None:
        await ready(cluster)
        outside: Rpc = cluster.connections()["n1"]
        for key in (b"a", b"splitvote/run-0/k", b"splitvote/run-10/k", b"splitvote/run-1", b"splitvote/run-10", b"z"):
            await put(outside, key)
        await body(outside, PrefixedRpc(outside, PREFIX))

    with tempfile.TemporaryDirectory() as directory:
        on_cluster(Path(directory), scene, nodes=1)


async def put(rpc: Rpc, key: bytes, value: bytes = b"v", **fields: Any) -> Any:
    return await rpc.unary(m.PUT, pb.PutRequest(key=key, value=value, **fields), timeout_s=BOUND_S)


async def keys(rpc: Rpc, key: bytes = b"\0", range_end: bytes = b"\0") -> list[bytes]:
    answer = await rpc.unary(m.RANGE, pb.RangeRequest(key=key, range_end=range_end), timeout_s=BOUND_S)
    return [kv.key for kv in answer.kvs]


def test_every_key_is_every_key_below_the_prefix() -> None:
    async def body(outside: Rpc, inside: Rpc) -> None:
        assert await keys(inside) == []
        for key in (b"a", b"b/1", b"b/2", b"\xff"):
            await put(inside, key)
        assert await keys(inside) == [b"a", b"b/1", b"b/2", b"\xff"]
        assert await keys(inside, b"b/", b"b0") == [b"b/1", b"b/2"]
        assert await keys(inside, b"b/2", b"\0") == [b"b/2", b"\xff"]
        assert await keys(inside, b"b/1", b"") == [b"b/1"]
        assert [key for key in await keys(outside) if key.startswith(PREFIX)] == [
            PREFIX + key for key in (b"a", b"b/1", b"b/2", b"\xff")
        ]

    on_store(body)


def test_deleting_every_key_leaves_the_others_keys() -> None:
    async def body(outside: Rpc, inside: Rpc) -> None:
        before = await keys(outside)
        await put(inside, b"a")
        await put(inside, b"b")
        request = pb.DeleteRangeRequest(key=b"\0", range_end=b"\0", prev_kv=True)
        answer = await inside.unary(m.DELETE_RANGE, request, timeout_s=BOUND_S)
        assert answer.deleted == 2
        assert [kv.key for kv in answer.prev_kvs] == [b"a", b"b"]
        assert await keys(outside) == before

    on_store(body)


def test_a_request_that_is_used_again_is_not_changed() -> None:
    async def body(outside: Rpc, inside: Rpc) -> None:
        before = m.PROBE.SerializeToString()
        await inside.unary(m.RANGE, m.PROBE, timeout_s=BOUND_S)
        assert m.PROBE.SerializeToString() == before

    on_store(body)


def test_transactions_compare_and_change_below_the_prefix_at_every_depth() -> None:
    async def body(outside: Rpc, inside: Rpc) -> None:
        await put(inside, b"k", b"old")
        inner = pb.TxnRequest(
            compare=[
                pb.Compare(target=pb.Compare.VALUE, key=b"k", value=b"old")
            ],  # all compares come before all changes
            success=[pb.RequestOp(request_range=pb.RangeRequest(key=b"k"))],
        )
        request = pb.TxnRequest(
            compare=[pb.Compare(target=pb.Compare.VALUE, key=b"k", value=b"old")],
            success=[
                pb.RequestOp(request_put=pb.PutRequest(key=b"k", value=b"new", prev_kv=True)),
                pb.RequestOp(request_txn=inner),
                pb.RequestOp(request_delete_range=pb.DeleteRangeRequest(key=b"none")),
            ],
        )
        answer = await inside.unary(m.TXN, request, timeout_s=BOUND_S)
        assert answer.succeeded
        assert answer.responses[0].response_put.prev_kv.key == b"k"
        read = answer.responses[1].response_txn.responses[0].response_range
        assert [(kv.key, kv.value) for kv in read.kvs] == [(b"k", b"new")]
        assert await keys(inside) == [b"k"]

    on_store(body)


def test_a_watch_of_everything_shows_ours_alone() -> None:
    async def body(outside: Rpc, inside: Rpc) -> None:
        stream = await inside.stream(m.WATCH)
        create = pb.WatchCreateRequest(key=b"\0", range_end=b"\0", prev_kv=True)
        await stream.send(pb.WatchRequest(create_request=create))
        assert (await stream.receive()).created
        await put(outside, b"a", b"theirs")
        await put(inside, b"k", b"1")
        await put(inside, b"k", b"2")
        events: list[Any] = []
        while len(events) < 2:
            events += (await stream.receive()).events
        assert [(event.kv.key, event.kv.value) for event in events] == [(b"k", b"1"), (b"k", b"2")]
        assert events[1].prev_kv.key == b"k"
        stream.cancel()

    on_store(body)


def test_leases_locks_and_elections_name_keys_without_the_prefix() -> None:
    async def body(outside: Rpc, inside: Rpc) -> None:
        lease = (await inside.unary(m.LEASE_GRANT, pb.LeaseGrantRequest(TTL=60), timeout_s=BOUND_S)).ID
        held = await inside.unary(m.LOCK, lock_pb2.LockRequest(name=b"lock", lease=lease), timeout_s=BOUND_S)
        assert held.key == b"lock/%x" % lease
        told = await inside.unary(
            m.LEASE_TIME_TO_LIVE, pb.LeaseTimeToLiveRequest(ID=lease, keys=True), timeout_s=BOUND_S
        )
        assert list(told.keys) == [held.key]
        await inside.unary(m.UNLOCK, lock_pb2.UnlockRequest(key=held.key), timeout_s=BOUND_S)
        campaign = election_pb2.CampaignRequest(name=b"election", lease=lease, value=b"me")
        won = await inside.unary(m.CAMPAIGN, campaign, timeout_s=BOUND_S)
        assert (won.leader.name, won.leader.key) == (b"election", b"election/%x" % lease)
        proclaim = election_pb2.ProclaimRequest(leader=won.leader, value=b"still me")
        await inside.unary(m.PROCLAIM, proclaim, timeout_s=BOUND_S)
        leader = await inside.unary(m.LEADER, election_pb2.LeaderRequest(name=b"election"), timeout_s=BOUND_S)
        assert (leader.kv.key, leader.kv.value) == (won.leader.key, b"still me")
        await inside.unary(m.RESIGN, election_pb2.ResignRequest(leader=won.leader), timeout_s=BOUND_S)
        assert await keys(inside) == []

    on_store(body)


def test_a_compaction_is_refused_unless_it_was_allowed() -> None:
    async def body(outside: Rpc, inside: Rpc) -> None:
        with pytest.raises(ConfigError, match="--allow compact"):
            await inside.unary(m.COMPACT, pb.CompactionRequest(revision=3), timeout_s=BOUND_S)
        allowed = PrefixedRpc(outside, PREFIX, may_compact=True)
        await allowed.unary(m.COMPACT, pb.CompactionRequest(revision=3), timeout_s=BOUND_S)

    on_store(body)


def test_an_answer_of_another_member_is_no_answer() -> None:
    """Its address was given to somebody else, or a balancer chose: nothing may be taken for the member's own words.

    Whether the request was served is not known then.
    """

    async def body(outside: Rpc, inside: Rpc) -> None:
        answered = await outside.unary(m.RANGE, m.PROBE, timeout_s=BOUND_S)
        right = PrefixedRpc(outside, PREFIX, member=answered.header.member_id)
        await put(right, b"k")
        wrong = PrefixedRpc(outside, PREFIX, member=7)
        with pytest.raises(TransportError, match="answered in place of 7") as caught:
            await put(wrong, b"k2")
        assert classify(caught.value, "write").type == "info"
        assert await keys(right) == [b"k", b"k2"]
        stream = await wrong.stream(m.WATCH)
        await stream.send(pb.WatchRequest(create_request=pb.WatchCreateRequest(key=b"k")))
        with pytest.raises(TransportError, match="answered in place of 7"):
            await stream.receive()

    on_store(body)


def named_keys(message: Descriptor, seen: tuple[Descriptor, ...] = ()) -> bool:
    """Whether there is a key in messages of this type, at any depth: bytes called key, keys, range_end or name."""
    for field in message.fields:
        if field.type == FieldDescriptor.TYPE_BYTES and field.name in ("key", "keys", "range_end", "name"):
            return True
        inner = field.message_type
        if inner is not None and inner not in seen and named_keys(inner, (*seen, message)):
            return True
    return False


_NOT_OF_THE_STORE = (m.ROLE_GET, m.ROLE_GRANT_PERMISSION, m.ROLE_REVOKE_PERMISSION)
"""Permissions name keys, but an attached cluster's users are not touched."""


def test_no_method_that_names_keys_is_forgotten() -> None:
    """Every method of the API whose request or answer has keys is translated; no other one is."""
    methods = [method for method in m.METHODS.values() if method not in _NOT_OF_THE_STORE]
    requests = {method for method in methods if named_keys(method.request.DESCRIPTOR)}
    answers = {method for method in methods if named_keys(method.answer.DESCRIPTOR)}
    assert requests == set(keyspace._REQUESTS)
    assert answers == set(keyspace._ANSWERS)


@pytest.mark.parametrize(("prefix", "end"), [(b"a", b"b"), (b"a/", b"a0"), (b"a\xff", b"b"), (b"\xff", b"\0")])
def test_the_end_of_a_prefix_is_the_first_key_after_it(prefix: bytes, end: bytes) -> None:
    assert end_of(prefix) == end


# The archive of a store that others use.


def archived(tmp_path: Path, *, their_writes_last: bool) -> tuple[Archive, int]:
    """What is archived below the prefix while others write; with the newest revision of the store at the end."""
    newest = 0

    async def body(outside: Rpc, inside: Rpc) -> None:
        nonlocal newest
        base = (await inside.unary(m.RANGE, m.PROBE, timeout_s=BOUND_S)).header.revision
        archivist = EtcdArchivist({"n1": inside}, base=lambda: base)
        writer = JsonLinesWriter[ArchiveRecord](tmp_path / "archive.jsonl")
        archivist.start(writer, lambda: 7)
        for number in range(5):
            await put(inside, b"kv/k", b"%d" % number)
            await put(outside, b"theirs", b"%d" % number)
        if not their_writes_last:
            await put(inside, b"kv/k", b"last")
        newest = (await inside.unary(m.RANGE, m.PROBE, timeout_s=BOUND_S)).header.revision
        assert await archivist.finish(["n1"], timeout_s=BOUND_S)
        await archivist.stop()
        writer.close()

    on_store(body)
    return archive_of(read_all(tmp_path / "archive.jsonl", ArchiveRecord)[0]), newest


@pytest.mark.parametrize("their_writes_last", [True, False])
def test_an_archive_among_others_is_whole_and_holds_ours_alone(tmp_path: Path, their_writes_last: bool) -> None:
    """It comes to an end although the newest revision is one that no watch of ours can see."""
    archive, newest = archived(tmp_path, their_writes_last=their_writes_last)
    assert archive.is_shared
    assert archive.base > 5
    assert archive.newest >= newest
    assert archive.untold(2, archive.newest) == []
    assert {event.key for event in archive.events()} == {"kv/k", MARKER_KEY.decode()}
    assert [event.value for event in archive.events("kv/")][:5] == ["0", "1", "2", "3", "4"]
    assert archive.revisions[0] == archive.base + 1
